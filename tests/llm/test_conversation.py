from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, Field

from statecraft.errors import CallError, ErrorKind, OutputInvalid
from statecraft.llm import (
    Answer,
    Block,
    HistoryInvalid,
    Limits,
    Message,
    Output,
    OutputMismatch,
    Reply,
    Request,
    ScriptedLLM,
    check_history,
    converse,
    json_reply,
    text,
    together,
    tool_use,
)
from statecraft.llm.scripted import Answerer, Line
from statecraft.records import Usage

T = TypeVar("T")
DEFAULT = Limits()
ASKED = Request(model="m", messages=[{"role": "user", "content": "how warm is it?"}], max_tokens=100)


class Count(BaseModel):
    n: int = Field(le=10)


class Tools:
    """Runs tools by writing down what they were asked."""

    def __init__(self) -> None:
        self.used: list[Block] = []

    async def __call__(self, uses: Sequence[Block]) -> list[Block]:
        self.used.extend(uses)
        return [result(str(use["id"]), f"{use['input']}") for use in uses]


def result(id: str, content: str, **more: Any) -> Block:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def stopped(reason: str, *blocks: Block) -> Reply:
    return Reply(blocks, reason, Usage(1, 1), "m")


def talk(
    replies: Sequence[Line | Answerer], output: Output[T], limits: Limits = DEFAULT
) -> tuple[Answer[T], list[Request], list[Block]]:
    llm, tools = ScriptedLLM(replies), Tools()
    answer = asyncio.run(converse(llm.complete, tools, ASKED, output=output, limits=limits))
    return answer, llm.requests, tools.used


def fails(
    replies: Sequence[Line | Answerer], output: Output[Any] | None = None, limits: Limits = DEFAULT
) -> tuple[CallError, int, int]:
    """The error, how many requests were made, how many tools were run."""
    llm, tools = ScriptedLLM(replies), Tools()
    with pytest.raises(CallError) as caught:
        asyncio.run(converse(llm.complete, tools, ASKED, output=output or Output.of(str), limits=limits))
    return caught.value, len(llm.requests), len(tools.used)


def test_a_plain_answer_is_one_request() -> None:
    answer, requests, _ = talk(["20 degrees"], Output.of(str))
    assert (answer.value, answer.text, answer.turns) == ("20 degrees", "20 degrees", 1)
    assert answer.messages == (*ASKED.messages, {"role": "assistant", "content": [{"type": "text", "text": "20 degrees"}]})
    assert [list(request.messages) for request in requests] == [ASKED.messages]


def test_the_declared_output_goes_into_the_request_and_comes_back_typed() -> None:
    answer, requests, _ = talk([Count(n=3)], Output.of(Count))
    assert answer.value == Count(n=3)
    assert requests[0].output == Output.of(Count).spec


def test_a_list_is_asked_for_wrapped_and_comes_back_bare() -> None:
    answer, _, _ = talk([json_reply([Count(n=1), Count(n=2)])], Output.of(list[Count]))
    assert answer.value == [Count(n=1), Count(n=2)]


def test_parallel_tool_calls_are_answered_in_order_in_one_message() -> None:
    both = together(text("looking"), tool_use("weather", {"city": "Paris"}), tool_use("weather", {"city": "Rome"}))
    answer, requests, used = talk([both, "20 and 25"], Output.of(str))
    assert (answer.value, answer.turns) == ("20 and 25", 2)
    assert [use["input"]["city"] for use in used] == ["Paris", "Rome"]
    asked, said, results = requests[1].messages
    assert asked == ASKED.messages[0]
    assert [block["type"] for block in said["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["tool_use_id"] for block in results["content"]] == [use["id"] for use in used]


def test_assistant_messages_are_sent_back_as_they_came() -> None:
    thinking = {"type": "thinking", "thinking": "", "signature": "c2ln", "new": 1}
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    _, requests, _ = talk([stopped("tool_use", thinking, use), "done"], Output.of(str))
    assert requests[1].messages[1] == {"role": "assistant", "content": [thinking, use]}


def test_a_repeated_id_is_refused_before_its_tool_runs() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    error, requests, used = fails([stopped("tool_use", use, use)])
    assert (error.kind, requests, used) == (ErrorKind.PROTOCOL, 1, 0)
    error, requests, used = fails([stopped("tool_use", use), stopped("tool_use", use)])
    assert (str(error), requests, used) == ("the model gave the id t1 to two tool calls", 2, 1)


def test_failed_tools_go_back_to_the_model_as_results() -> None:
    async def refuse(uses: Sequence[Block]) -> list[Block]:
        return [result(str(use["id"]), "city: Field required", is_error=True) for use in uses]

    llm = ScriptedLLM([tool_use("weather", {}), "I see"])
    answer = asyncio.run(converse(llm.complete, refuse, ASKED, output=Output.of(str)))
    assert answer.value == "I see"
    assert llm.requests[1].messages[-1]["content"][0]["is_error"] is True


def test_too_many_turns_stop_before_the_last_tools_run() -> None:
    error, requests, used = fails([tool_use("weather", {})] * 5, limits=Limits(max_turns=3))
    assert (error.kind, requests, used) == (ErrorKind.PERMANENT, 3, 2)
    assert str(error) == "no answer after 3 turns; the model still asks for tools"


def test_cut_tool_input_is_never_executed_but_asked_for_again_with_a_higher_cap() -> None:
    cut = stopped("max_tokens", {"type": "tool_use", "id": "t1", "name": "weather", "input": {}})
    answer, requests, used = talk([cut, "done"], Output.of(str))
    assert (answer.value, used) == ("done", [])
    assert [request.max_tokens for request in requests] == [100, 200]
    assert requests[1].messages == requests[0].messages


def test_an_answer_cut_off_twice_is_an_error() -> None:
    error, requests, _ = fails([stopped("max_tokens", {"type": "text", "text": "half"})] * 3)
    assert (error.kind, requests) == (ErrorKind.INVALID, 2)
    assert str(error) == "the answer was cut off twice, last at 200 tokens; raise max_tokens"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (stopped("refusal"), ErrorKind.REFUSAL),
        (stopped("brand_new_reason", {"type": "text", "text": "{}"}), ErrorKind.REFUSAL),
        (stopped("model_context_window_exceeded"), ErrorKind.CONTEXT),
        (stopped("tool_use", {"type": "text", "text": "hm"}), ErrorKind.PROTOCOL),
        (stopped("end_turn", {"type": "tool_use", "id": "t", "name": "weather", "input": {}}), ErrorKind.PROTOCOL),
        (stopped("refusal", {"type": "tool_use", "id": "t", "name": "weather", "input": {}}), ErrorKind.REFUSAL),
    ],
)
def test_a_stop_that_is_no_answer_fails_closed(reply: Reply, kind: ErrorKind) -> None:
    error, requests, used = fails([reply])
    assert (error.kind, error.name, requests, used) == (kind, "m", 1, 0)


def test_a_paused_answer_is_continued_and_read_as_one() -> None:
    paused = stopped("pause_turn", {"type": "text", "text": '{"n":'})
    answer, requests, _ = talk([paused, text(" 3}")], Output.of(Count))
    assert answer.value == Count(n=3)
    assert requests[1].messages == (*ASKED.messages, {"role": "assistant", "content": list(paused.content)})


def test_endless_pauses_end() -> None:
    error, requests, _ = fails([stopped("pause_turn", {"type": "text", "text": "."})] * 9, limits=Limits(pauses=2))
    assert (error.kind, requests) == (ErrorKind.PERMANENT, 3)


def test_an_answer_that_does_not_fit_is_repaired() -> None:
    answer, requests, _ = talk(["three", '{"n": 99}', '{"n": 3}'], Output.of(Count))
    assert answer.value == Count(n=3)
    first, second = requests[1].messages[-1], requests[2].messages[-1]
    assert "- the answer is not one complete JSON object" in first["content"]
    assert "- n: Input should be less than or equal to 10 (got 99)" in second["content"]
    assert requests[1].messages[-2]["content"] == [{"type": "text", "text": "three"}]
    assert answer.turns == 1


def test_repairs_run_out() -> None:
    error, requests, _ = fails([f'{{"n": {n}}}' for n in (97, 98, 99)], Output.of(Count))
    assert isinstance(error, OutputInvalid)
    assert (error.kind, error.attempts, requests) == (ErrorKind.INVALID, 3, 3)
    assert isinstance(error.__cause__, OutputMismatch)
    assert error.__cause__.errors == ("n: Input should be less than or equal to 10 (got 99)",)


def test_the_same_mistake_twice_ends_the_repairs_early() -> None:
    error, requests, _ = fails(['{"n": 99}'] * 5, Output.of(Count), Limits(repairs=4))
    assert isinstance(error, OutputInvalid)
    assert requests == 2


def test_no_repairs_means_one_try() -> None:
    error, requests, _ = fails(["three"], Output.of(Count), Limits(repairs=0))
    assert (isinstance(error, OutputInvalid), requests) == (True, 1)


def test_empty_text_beside_a_tool_call_is_not_sent_back_and_all_else_is_verbatim() -> None:
    thinking: Block = {"type": "thinking", "thinking": "", "signature": "s"}
    call: Block = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    empty: list[Block] = [{"type": "text", "text": each} for each in ("", "\n\n")]
    _, requests, _ = talk([stopped("tool_use", thinking, empty[0], call, empty[1]), "done"], Output.of(str))
    assert requests[1].messages[1] == {"role": "assistant", "content": [thinking, call]}


def test_an_empty_answer_is_repaired_without_sending_an_empty_message_back() -> None:
    answer, requests, _ = talk([stopped("end_turn", {"type": "text", "text": ""}), Count(n=1)], Output.of(Count))
    assert answer.value == Count(n=1)
    assert [message["role"] for message in requests[1].messages] == ["user", "user"]


def test_tools_may_be_used_while_repairing() -> None:
    answer, _, used = talk(["three", tool_use("weather", {}), Count(n=2)], Output.of(Count))
    assert (answer.value, len(used), answer.turns) == (Count(n=2), 1, 2)


def test_a_result_that_answers_no_call_is_never_sent() -> None:
    async def stray(uses: Sequence[Block]) -> list[Block]:
        return [result("other", "x")]

    llm = ScriptedLLM([tool_use("weather", {}), "done"])
    with pytest.raises(HistoryInvalid):
        asyncio.run(converse(llm.complete, stray, ASKED, output=Output.of(str)))
    assert len(llm.requests) == 1


USER: Message = {"role": "user", "content": "hi"}


def called(*ids: str) -> Message:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": each, "name": "t", "input": {}} for each in ids]}


def answered(*ids: str) -> Message:
    return {"role": "user", "content": [result(each, "x") for each in ids]}


TEXT: Block = {"type": "text", "text": "and?"}


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [USER, called("a", "b"), answered("a", "b")],
        [USER, called("a", "b"), answered("b", "a"), called("c"), answered("c"), USER],
        [USER, called("a"), {"role": "user", "content": [result("a", "x"), TEXT]}],
        [USER, {"role": "assistant", "content": "so"}, called("a"), answered("a")],
        [USER, {"role": "system", "content": "hurry"}],
    ],
)
def test_a_legal_history_passes(messages: list[Message]) -> None:
    check_history(messages)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "starts with a user message"),
        ([called("a"), answered("a")], "starts with a user message"),
        ([USER, called("a")], "tool call a has no result"),
        ([USER, called("a"), USER], "message 2: tool call a has no result"),
        ([USER, called("a", "b"), answered("a")], "message 2: tool call b has no result"),
        ([USER, called("a", "b"), answered("a"), answered("b")], "message 2: tool call b has no result"),
        ([USER, called("a"), answered("a", "a")], "message 2: a tool call is answered twice"),
        ([USER, called("a"), answered("a", "b")], "message 2: result b answers no tool call"),
        ([USER, answered("a")], "message 1: result a answers no tool call"),
        ([USER, called("a", "a"), answered("a")], "message 1: a tool call repeats the id"),
        ([USER, called("a"), answered("a"), called("a"), answered("a")], "message 3: a tool call repeats the id"),
        ([USER, called("a"), {"role": "user", "content": [TEXT, result("a", "x")]}], "message 2: tool results must come before"),
        ([{"role": "tool", "content": "x"}], "message 0: role 'tool' is not"),
        ([{"role": "user", "content": 3}], "message 0: content is neither"),
        ([{"role": "user", "content": [{"text": "x"}]}], "message 0: content is neither"),
    ],
)
def test_an_illegal_history_is_refused_by_place(messages: list[Message], message: str) -> None:
    with pytest.raises(HistoryInvalid, match=message):
        check_history(messages)
