"""The most a request may use, told before it is sent: never less than a model would count, and cheap to tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecraft.engine.model import BYTES_A_TOKEN, TOOL_USE_TOKENS, worst_case
from statecraft.engine.transcript import Transcript, describe, size
from statecraft.llm.port import Message, Request, ToolSpec

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
talks = st.lists(texts.map(lambda words: {"role": "user", "content": words}), min_size=1, max_size=8)


def sent(transcript: Transcript, request: Request) -> int:
    head, _ = transcript.head(request)
    text, blobs = describe(request, head)
    return transcript.size(head) + size(text) + sum(size(blob.body) for blob in blobs)


@pytest.mark.slow
@given(talk=talks, system=st.none() | texts)
def test_every_byte_of_a_request_counts_however_the_conversation_grew(talk: list[Message], system: str | None) -> None:
    grown, whole = Transcript(), Request("m", talk, system)
    for turn in range(1, len(talk) + 1):
        sent(grown, Request("m", talk[:turn], system))
    assert sent(grown, whole) == sent(Transcript(), whole)
    every = [*talk, *([] if system is None else [{"role": "system", "content": system}])]
    assert sent(grown, whole) >= sum(len(str(message["content"]).encode()) for message in every)


@given(texts)
def test_a_text_has_its_size_in_bytes(words: str) -> None:
    assert size(words) == len(words.encode())


def test_the_worst_case_is_the_whole_request_and_a_full_answer() -> None:
    assert worst_case(10, Request("m", (), max_tokens=7)).total == -(-10 // BYTES_A_TOKEN) + 7


def test_tools_and_schemas_are_part_of_what_is_sent() -> None:
    asked: list[Message] = [{"role": "user", "content": "hi"}]
    schema: dict[str, Any] = {"type": "object", "properties": {f"field_{number}": {"type": "string"} for number in range(50)}}
    plain, tooled = Request("m", asked), Request("m", asked, tools=(ToolSpec("look", "Looks.", schema),))
    more = sent(Transcript(), tooled) - sent(Transcript(), plain)
    assert more >= len(json.dumps(schema, separators=(",", ":")))
    worst, before = worst_case(sent(Transcript(), tooled), tooled), worst_case(sent(Transcript(), plain), plain)
    assert worst.input_tokens - before.input_tokens >= more // BYTES_A_TOKEN + TOOL_USE_TOKENS


@pytest.mark.parametrize(
    ("words", "tokens"), [("the quick brown fox jumps over the lazy dog. " * 40, 400), ("快速的棕色狐狸" * 60, 420)]
)
def test_the_estimate_lies_above_what_tokenizers_make_of_such_texts(words: str, tokens: int) -> None:
    """400: ten tokens a sentence. 420: one token a character, which is more than today's tokenizers need."""
    request = Request("m", [{"role": "user", "content": words}], max_tokens=1)
    assert worst_case(sent(Transcript(), request), request).input_tokens >= tokens
