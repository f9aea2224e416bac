"""Recorded replies answer what was recorded, and say what differs from it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm import LLM, ModelError, Reply, Request, ScriptedLLM, text
from statecraft.llm.cassette import NotRecorded
from statecraft.records import Usage
from statecraft.testing import Recorder


def request(*words: str, **changes: object) -> Request:
    return Request(model="m", messages=[{"role": "user", "content": word} for word in words], **changes)  # type: ignore[arg-type]


def ask(llm: LLM, *requests: Request) -> list[Reply]:
    async def story() -> list[Reply]:
        return [await llm.complete(each) for each in requests]

    return asyncio.run(story())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "talk.jsonl"


def test_a_recorded_conversation_is_played_back_reply_by_reply(path: Path) -> None:
    whole = Reply(({"type": "text", "text": "é\u2028\x85"},), "pause_turn", Usage(1, 2), "other", "req_1")
    asked = [request("a", system="s", options={"effort": "low"}), request("b"), request("a", "b")]
    recorded = ask(Recorder(ScriptedLLM(["one", "two", whole], model="real"), path), *asked)
    played = ScriptedLLM.cassette(path)
    assert ask(played, *reversed(asked)) == list(reversed(recorded))
    assert (played.model, played.label) == ("real", "real (recorded, no model)")


def test_equal_requests_are_answered_in_their_recorded_order_and_no_oftener(path: Path) -> None:
    ask(Recorder(ScriptedLLM(["one", "two"]), path), request("a"), request("a"))
    played = ScriptedLLM.cassette(path)
    assert [reply.text for reply in ask(played, request("a"), request("a"))] == ["one", "two"]
    with pytest.raises(NotRecorded, match=r"has this request 2 times, and it came once more; record it again: 'a'$") as caught:
        ask(played, request("a"))
    assert caught.value.kind is ErrorKind.PERMANENT


def test_an_unknown_request_is_told_what_differs_from_the_nearest_recorded_one(path: Path) -> None:
    ask(Recorder(ScriptedLLM(["one", "two"]), path), request("something else"), request("tell me of Paris", system="Be brief."))
    with pytest.raises(NotRecorded) as caught:
        ask(ScriptedLLM.cassette(path), request("tell me of Rome", system="Be brief."))
    assert str(caught.value) == (
        f"{path} has no such request; record it again. The nearest recorded one differs in "
        "messages[0].content: recorded 'tell me of Paris', now 'tell me of Rome'"
    )


def test_a_difference_late_in_a_long_text_is_quoted_where_it_is(path: Path) -> None:
    ask(Recorder(ScriptedLLM(["one"]), path), request("x" * 500 + " noon " + "y" * 500))
    with pytest.raises(NotRecorded, match=r"from character 471: recorded 'x{29} noon y+', now 'x{29} midnight y+'"):
        ask(ScriptedLLM.cassette(path), request("x" * 500 + " midnight " + "y" * 500))


def test_many_differences_are_counted_rather_than_listed(path: Path) -> None:
    ask(Recorder(ScriptedLLM(["one"]), path), request("a"))
    with pytest.raises(NotRecorded, match=r"max_tokens: recorded 4096, now 9; .*: recorded nothing.*; and \d+ more"):
        ask(ScriptedLLM.cassette(path), request("a", "b", "c", "d", max_tokens=9, system=None))


def test_an_empty_cassette_says_so(path: Path) -> None:
    path.write_text("")
    with pytest.raises(NotRecorded, match="It is empty"):
        ask(ScriptedLLM.cassette(path), request("a"))


def test_a_failure_is_recorded_and_raised_again(path: Path) -> None:
    busy = ModelError("busy", kind=ErrorKind.OVERLOADED, retry_after=2.5, maybe_billed=True)
    for made in (lambda: Recorder(ScriptedLLM([busy]), path), lambda: ScriptedLLM.cassette(path)):
        with pytest.raises(ModelError) as caught:
            ask(made(), request("a"))
        again = caught.value
        assert (str(again), again.kind, again.retry_after, again.maybe_billed) == ("busy", ErrorKind.OVERLOADED, 2.5, True)


def test_no_key_is_written_and_a_request_with_one_is_found_again(path: Path) -> None:
    asked = request("my key is sk-of-mine-00001 and Bearer abcdefgh12345", options={"api_key": "hush", "tokens": 5})
    ask(Recorder(ScriptedLLM(["noted: sk-of-mine-00001"]), path), asked)
    written = path.read_text()
    assert "of-mine" not in written
    assert "abcdefgh" not in written
    assert "hush" not in written
    assert json.loads(written)["request"]["options"] == {"api_key": "[hidden]", "tokens": 5}
    assert ask(ScriptedLLM.cassette(path), asked)[0].text == "noted: [hidden]"


def test_a_new_recording_takes_the_place_of_the_old_one(path: Path) -> None:
    for words in ("one", "two"):
        ask(Recorder(ScriptedLLM([words]), path), request("a"))
    assert len(path.read_text().splitlines()) == 1
    assert ask(ScriptedLLM.cassette(path), request("a"))[0].text == "two"


def test_what_is_heard_through_a_recorder_is_recorded_too(path: Path) -> None:
    async def story() -> list[str]:
        heard: list[str] = []
        recorder = Recorder(ScriptedLLM([text("one two")]), path)
        await recorder.stream(request("a"), heard.append)
        await ScriptedLLM.cassette(path).stream(request("a"), heard.append)
        await recorder.close()
        return heard

    assert asyncio.run(story()) == ["one", " two", "one", " two"]


@pytest.mark.parametrize("line", ["no json", "{}", "[]", '{"v": 99, "digest": "", "request": {}, "model": "", "reply": {}}'])
def test_a_file_that_is_no_cassette_is_refused_with_its_line(path: Path, line: str) -> None:
    path.write_text(line + "\n")
    with pytest.raises(ConfigError, match=r"^line 1 of .* is no line of a cassette of version 1; record it again$"):
        ScriptedLLM.cassette(path)


def test_a_missing_cassette_says_how_to_make_it(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory; make it with Recorder\(llm, path\)$"):
        ScriptedLLM.cassette(path)
