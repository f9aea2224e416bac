"""The whole path to Claude: a runtime on a real file, a handler, the journal, the real SDK, and a fake API behind loopback.

Each story tells how the run ended and what the API was sent.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import Claude, Event, Failure, Machine, Run, Runtime, Settings, Status
from statecraft.errors import ConfigError
from statecraft.records import AttemptRecord, CallRecord, RunRecord, TransitionRecord, Waiting
from statecraft.testing import SCENARIOS, FakeMessagesAPI, ManualClock, answer, failure, in_turn, says
from statecraft.testing.clock import START
from statecraft.testing.messages_api import Exchange, Received, Scenario
from statecraft.testing.messages_api.payloads import PARIS, ROME, TEXT, THINKING, UNKNOWN
from tests.acceptance.trip import AT_ONCE, QUESTION, SYSTEM, Trip, looked_up, travel, trip

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SIGKILLED = -9
ASKED = {"role": "user", "content": QUESTION}
BOTH_TOOLS = answer(PARIS, ROME, stop="tool_use")


WARMER = says('{"city": "Rome", "degrees": 24}')


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """None of the caller's keys, proxies and profiles, and nothing looked up yet."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "STATECRAFT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    looked_up.clear()
    yield
    looked_up.clear()


@dataclass(frozen=True)
class Story:
    """How a run ended, what is on record, and what the API was sent."""

    run: RunRecord
    moves: list[TransitionRecord]
    calls: list[CallRecord]
    attempts: list[AttemptRecord]
    requests: list[Received]

    @property
    def last(self) -> dict[str, Any]:
        """The fields of the event that ended the run, and its name."""
        return {"event": self.moves[-1].event, **self.moves[-1].payload}

    @property
    def rounds(self) -> list[CallRecord]:
        """The model's calls."""
        return [call for call in self.calls if call.kind == "llm"]

    def sent(self, number: int) -> list[Mapping[str, Any]]:
        """The messages of one request."""
        messages: list[Mapping[str, Any]] = self.requests[number].body["messages"]
        return messages


async def look(rt: Runtime, run: RunRecord, requests: Sequence[Received]) -> Story:
    assert await rt.verify(run.id) == []
    return Story(run, await rt.history(run.id), await rt.calls(run.id), await rt.attempts(run.id), list(requests))


def tell(url: str, scenario: Scenario, data: Trip | None = None, *, key: str = "k") -> Story:
    """Run the trip to its end against one scenario."""

    async def go() -> Story:
        async with FakeMessagesAPI(scenario) as api:
            run = await travel(url, api.url, key, data)
            async with Runtime(url, machines=[trip], settings=Settings(take="none")) as rt:
                return await look(rt, run, api.requests)

    return asyncio.run(asyncio.wait_for(go(), 20))


def messages_stored(url: str) -> list[Mapping[str, Any]]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        return [json.loads(body) for (body,) in db.execute("SELECT body FROM messages ORDER BY rowid")]


# --- a conversation with tools ---------------------------------------------------------------------------------------


def test_a_conversation_with_two_tools_side_by_side_is_journaled_round_by_round(url: str) -> None:
    story = tell(url, in_turn(answer(THINKING, TEXT, PARIS, ROME, UNKNOWN, stop="tool_use"), WARMER))

    assert (story.run.status, story.run.state) == (Status.DONE, "packed")
    assert story.last == {"event": "chosen", "city": "Rome", "degrees": 24}
    first, second = story.requests
    assert first.body["messages"] == [ASKED]
    assert first.body["system"] == SYSTEM
    assert [offered["name"] for offered in first.body["tools"]] == ["weather"]
    assert first.body["output_config"]["format"]["schema"]["required"] == ["city", "degrees"]
    assert "tool_choice" not in first.body
    assert {**second.body, "messages": None} == {**first.body, "messages": None}
    assert second.body["messages"] == [
        ASKED,
        {"role": "assistant", "content": [THINKING, TEXT, PARIS, ROME, UNKNOWN]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": '{"city":"Paris","degrees":17}'},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": '{"city":"Rome","degrees":24}'},
            ],
        },
    ]
    assert sorted(looked_up) == ["Paris", "Rome"]
    assert sorted((call.kind, call.name, call.attempts) for call in story.calls) == [
        ("llm", "claude-fake-1", 1),
        ("llm", "claude-fake-1", 1),
        ("tool", "weather", 1),
        ("tool", "weather", 1),
    ]
    assert (story.moves[-1].calls, story.moves[-1].usage.total) == (4, 2 * 447)


def test_the_transcript_holds_each_message_once(url: str) -> None:
    story = tell(url, in_turn(BOTH_TOOLS, answer(PARIS | {"id": "toolu_3"}, stop="tool_use"), WARMER))
    assert story.run.status is Status.DONE
    stored = messages_stored(url)
    assert stored == [{"role": "system", "content": SYSTEM}, *story.sent(2)]
    assert len(stored) == 6


def test_a_replay_agrees_with_the_api_switched_off(url: str) -> None:
    tell(url, in_turn(BOTH_TOOLS, WARMER))
    looked_up.clear()

    async def replay() -> None:
        async with FakeMessagesAPI() as api:
            gone = api.url
        async with Runtime(url, machines=[trip], llm=Claude("claude-fake-1", api_key="k", base_url=gone)) as rt:
            replayed = await rt.replay((await rt.find("@last")).id)
            assert (replayed.agrees, replayed.steps, replayed.calls) == (True, 1, 4)

    asyncio.run(replay())
    assert looked_up == []


def test_a_conversation_that_travels_as_a_stream_is_the_same_conversation(url: str) -> None:
    story = tell(url, in_turn(BOTH_TOOLS, WARMER), Trip(max_tokens=64_000))
    assert (story.run.state, len(story.calls)) == ("packed", 4)
    assert [exchange.body["stream"] for exchange in story.requests] == [True, True]
    assert story.sent(1)[1] == {"role": "assistant", "content": [PARIS, ROME]}


def test_what_is_wrong_with_a_tool_call_is_told_to_the_model(url: str) -> None:
    wrong = answer(
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"town": "Paris"}},
        {"type": "tool_use", "id": "toolu_2", "name": "wether", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "toolu_3", "name": "weather", "input": {"city": "Atlantis"}},
        ROME | {"id": "toolu_4"},
        stop="tool_use",
    )
    story = tell(url, in_turn(wrong, WARMER))
    assert story.run.status is Status.DONE
    misspelt, unknown, raised, fine = story.sent(1)[2]["content"]
    assert [result["is_error"] for result in (misspelt, unknown, raised)] == [True, True, True]
    assert "city: Field required" in misspelt["content"]
    assert unknown["content"] == "there is no tool 'wether'; there are: weather"
    assert raised["content"] == "KeyError: 'Atlantis'"
    assert "is_error" not in fine
    assert sorted(looked_up) == ["Atlantis", "Rome"]


class Guessed(Event):
    guesses: list[str]


guessing = Machine("guessing", data=Trip)


@guessing.state(start=True)
async def at_once(run: Run[Trip]) -> Guessed:
    """Ask two questions side by side, under one system prompt."""
    return Guessed(guesses=list(await run.gather(*(run.llm.ask(about, system=SYSTEM) for about in ("Paris?", "Rome?")))))


guessing.transitions(
    at_once.on(Guessed) >> guessing.final("guessed", ok=True), guessing.anywhere.on(Failure) >> guessing.final("no")
)


def about(exchange: Exchange | Received) -> str:
    return str(exchange.body["messages"][0]["content"])


def test_questions_side_by_side_may_be_answered_in_any_order(url: str) -> None:
    async def go() -> None:
        last_came = asyncio.Event()

        async def last_first(exchange: Exchange) -> None:
            if about(exchange) == "Paris?":
                await last_came.wait()
            await says(about(exchange)[:-1])(exchange)

        async with FakeMessagesAPI(last_first) as api:
            llm = Claude("claude-fake-1", api_key="k", base_url=api.url)
            async with Runtime(url, machines=[guessing], llm=llm, settings=AT_ONCE) as rt:
                run = await rt.start(guessing, Trip())
                async for entry in rt.follow(run.id):
                    if entry.kind == "call":
                        last_came.set()
                story = await look(rt, await rt.wait(run.id), api.requests)
        assert story.last == {"event": "guessed", "guesses": ["Paris", "Rome"]}
        assert len(messages_stored(url)) == 3

    asyncio.run(asyncio.wait_for(go(), 20))


def test_an_answer_is_kept_though_the_question_beside_it_parks(url: str) -> None:
    clock = ManualClock()

    async def go() -> None:
        paris = in_turn(busy(600), says("Paris"))

        async def one_is_busy(exchange: Exchange) -> None:
            await (paris if about(exchange) == "Paris?" else says("Rome"))(exchange)

        async with FakeMessagesAPI(one_is_busy) as api:
            llm = Claude("claude-fake-1", api_key="k", base_url=api.url, clock=clock)
            async with Runtime(url, machines=[guessing], llm=llm, clock=clock) as rt:
                run = await rt.start(guessing, Trip())
                async for entry in rt.follow(run.id):
                    if entry.kind == "waiting":
                        break
            await clock.advance(timedelta(seconds=600))
            async with Runtime(url, machines=[guessing], llm=llm, clock=clock) as rt:
                story = await look(rt, await rt.wait(run.id), api.requests)
        assert story.last == {"event": "guessed", "guesses": ["Paris", "Rome"]}
        assert [about(exchange) for exchange in story.requests].count("Rome?") == 1
        assert len(messages_stored(url)) == 3

    asyncio.run(asyncio.wait_for(go(), 20))


# --- failures that pass ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "kind", "data"),
    [
        ("500", "transient", Trip()),
        ("502_html", "transient", Trip()),
        ("reset_before_response", "transient", Trip()),
        ("truncated_content_length", "transient", Trip()),
        ("200_malformed_json", "protocol", Trip()),
        ("200_html", "protocol", Trip()),
        ("200_error_envelope", "protocol", Trip()),
        ("429_no_header", "rate_limited", Trip()),
        ("sse_error_overloaded", "overloaded", Trip(max_tokens=64_000)),
        ("sse_cut_fin", "transient", Trip(max_tokens=64_000)),
        ("sse_clean_end_no_stop", "protocol", Trip(max_tokens=64_000)),
    ],
)
def test_a_failure_that_passes_is_tried_again_and_recorded_as_one_call(url: str, scenario: str, kind: str, data: Trip) -> None:
    story = tell(url, in_turn(SCENARIOS[scenario], SCENARIOS[scenario], WARMER), data)
    assert (story.run.status, story.run.state) == (Status.DONE, "packed")
    assert [(call.kind, call.ok, call.attempts) for call in story.calls] == [("llm", True, 3)]
    assert [(attempt.attempt, attempt.kind) for attempt in story.attempts] == [(1, kind), (2, kind)]
    assert [exchange.body for exchange in story.requests] == [story.requests[0].body] * 3
    assert looked_up == []


@pytest.mark.parametrize(("scenario", "kind", "requests"), [("500", "transient", 5), ("200_html", "protocol", 3)])
def test_a_failure_that_does_not_pass_ends_within_the_policy(url: str, scenario: str, kind: str, requests: int) -> None:
    story = tell(url, SCENARIOS[scenario])
    assert (story.run.status, story.run.state) == (Status.FAILED, "stayed_at_home")
    assert story.last == story.last | {"event": "call_failed", "kind": kind, "attempts": requests, "name": "claude-fake-1"}
    assert len(story.requests) == requests
    assert [(call.ok, call.attempts) for call in story.calls] == [(False, requests)]


def busy(seconds: int) -> Scenario:
    return failure(429, "rate_limit_error", "slow down", retry_after=str(seconds))


def test_a_long_pause_parks_the_run_and_another_process_finishes_it_when_due(url: str) -> None:
    clock = ManualClock()

    def runtime(api: FakeMessagesAPI) -> Runtime:
        llm = Claude("claude-fake-1", api_key="k", base_url=api.url, clock=clock)
        return Runtime(url, machines=[trip], llm=llm, clock=clock)

    async def parked(rt: Runtime, run_id: str, after: int = 0) -> int:
        """Position of the feed's next `waiting`."""
        async for entry in rt.follow(run_id, after=after):
            if entry.kind == "waiting":
                return entry.pos
        raise AssertionError("the run ended instead")

    async def go() -> None:
        async with FakeMessagesAPI(in_turn(BOTH_TOOLS, busy(600), busy(300), WARMER)) as api:
            async with runtime(api) as rt:
                run = await rt.start(trip, Trip())
                place = await parked(rt, run.id)
                run = await rt.get(run.id)
                assert (run.status, run.waiting_for, run.seq) == (Status.WAITING, Waiting.RETRY, 0)
                assert (run.due_at, run.owner, run.lease_until) == (START + timedelta(seconds=600), None, None)
                assert rt._worker._driving == {}
            assert len(api.requests) == 2

            await clock.advance(timedelta(seconds=600))
            async with runtime(api) as rt:
                await parked(rt, run.id, place)
                run = await rt.get(run.id)
                assert run.due_at == START + timedelta(seconds=900)
            assert len(api.requests) == 3

            await clock.advance(timedelta(seconds=300))
            async with runtime(api) as rt:
                story = await look(rt, await rt.wait(run.id), api.requests)
        assert (story.run.status, story.run.state) == (Status.DONE, "packed")
        assert [call.attempts for call in story.rounds] == [1, 3]
        assert [(attempt.attempt, attempt.kind, attempt.due_at) for attempt in story.attempts] == [
            (1, "rate_limited", START + timedelta(seconds=600)),
            (2, "rate_limited", START + timedelta(seconds=900)),
        ]
        assert len(story.requests) == 4
        assert sorted(looked_up) == ["Paris", "Rome"]

    asyncio.run(asyncio.wait_for(go(), 20))


def test_a_parked_run_that_is_resumed_too_early_parks_again_and_asks_nobody(url: str) -> None:
    clock = ManualClock()

    async def go() -> None:
        async with FakeMessagesAPI(in_turn(busy(600), WARMER)) as api:
            llm = Claude("claude-fake-1", api_key="k", base_url=api.url, clock=clock)
            async with Runtime(url, machines=[trip], llm=llm, clock=clock) as rt:
                run = await rt.start(trip, Trip())
                waits = 0
                async for entry in rt.follow(run.id):
                    waits += entry.kind == "waiting"
                    if waits == 1 and entry.kind == "waiting":
                        await clock.advance(timedelta(seconds=500))
                        await rt.resume(run.id)
                    if waits == 2:
                        break
                run = await rt.get(run.id)
                assert (run.status, run.due_at) == (Status.WAITING, START + timedelta(seconds=600))
                assert len(api.requests) == 1

    asyncio.run(asyncio.wait_for(go(), 20))


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_that_is_refused_ends_the_run_at_once_and_is_never_repeated(url: str) -> None:
    key = "sk-nobodys-key-0001"
    story = tell(url, failure(401, "authentication_error", f"invalid bearer token {key}"), key=key)
    assert (story.run.status, story.run.state) == (Status.FAILED, "stayed_at_home")
    assert story.last == story.last | {"event": "call_failed", "kind": "permanent", "attempts": 1}
    assert "check the key in ANTHROPIC_API_KEY" in story.last["message"]
    assert len(story.requests) == 1
    assert story.requests[0].has_key(key)
    files = Path(url.removeprefix("sqlite:///")).parent.iterdir()
    assert not [path for path in files if path.is_file() and key.encode() in path.read_bytes()]


def test_without_a_key_the_model_says_so_in_one_line_and_a_run_fails_with_that_line(url: str) -> None:
    line = "no API key for Claude: set ANTHROPIC_API_KEY or pass Claude(api_key=...)"
    with pytest.raises(ConfigError) as caught:
        Claude().check()
    assert str(caught.value) == line

    async def go() -> None:
        async with Runtime(url, machines=[trip], llm=Claude(), settings=AT_ONCE) as rt:
            story = await look(rt, await rt.wait((await rt.start(trip, Trip())).id), [])
        assert (story.last["event"], story.last["kind"], story.last["attempts"]) == ("call_failed", "permanent", 1)
        assert line in story.last["message"]

    asyncio.run(asyncio.wait_for(go(), 20))


# --- answers that are none -------------------------------------------------------------------------------------------


def test_tool_calls_that_were_cut_off_are_never_executed(url: str) -> None:
    cut = answer({**PARIS, "input": {"city": "Par"}}, stop="max_tokens")
    story = tell(url, in_turn(cut, answer(ROME, stop="tool_use"), WARMER))
    assert story.run.status is Status.DONE
    assert looked_up == ["Rome"]
    assert [exchange.body["max_tokens"] for exchange in story.requests] == [1024, 2048, 2048]
    assert story.sent(1) == [ASKED]
    assert len(story.rounds) == 3


def test_an_answer_that_is_cut_off_twice_fails_the_call(url: str) -> None:
    story = tell(url, answer(PARIS, stop="max_tokens"))
    assert story.last == story.last | {"event": "call_failed", "kind": "invalid"}
    assert "raise max_tokens" in story.last["message"]
    assert (len(story.requests), len(story.rounds), looked_up) == (2, 2, [])


@pytest.mark.parametrize(
    ("scenario", "kind", "said"),
    [
        ("refusal", "refusal", "the model declined to answer"),
        ("unknown_stop_reason", "refusal", "the model stopped for an unknown reason: brand_new_reason"),
        ("400_too_long", "context", "prompt is too long"),
    ],
)
def test_what_another_try_cannot_change_is_asked_once(url: str, scenario: str, kind: str, said: str) -> None:
    story = tell(url, SCENARIOS[scenario])
    assert (story.run.status, story.run.state) == (Status.FAILED, "stayed_at_home")
    assert story.last == story.last | {"event": "call_failed", "kind": kind, "name": "claude-fake-1"}
    assert said in story.last["message"]
    assert (len(story.requests), len(story.rounds)) == (1, 1)


def test_a_spending_limit_parks_the_run_until_the_month_is_over(url: str) -> None:
    clock = ManualClock()

    async def go() -> None:
        async with FakeMessagesAPI(in_turn(SCENARIOS["429_spend_limit"], WARMER)) as api:
            llm = Claude("claude-fake-1", api_key="k", base_url=api.url, clock=clock)
            async with Runtime(url, machines=[trip], llm=llm, clock=clock) as rt:
                run = await rt.start(trip, Trip())
                async for entry in rt.follow(run.id):
                    if entry.kind == "waiting":
                        break
                run = await rt.get(run.id)
                assert (run.status, run.waiting_for) == (Status.WAITING, Waiting.QUOTA)
                assert run.due_at is not None
                assert timedelta(0) <= run.due_at - (START + timedelta(days=31)) < timedelta(minutes=1)
            await clock.advance(timedelta(days=31, minutes=1))
            async with Runtime(url, machines=[trip], llm=llm, clock=clock) as rt:
                story = await look(rt, await rt.wait(run.id), api.requests)
        assert (story.run.status, story.run.state, len(story.requests)) == (Status.DONE, "packed", 2)
        assert [(attempt.attempt, attempt.kind) for attempt in story.attempts] == [(1, "quota")]

    asyncio.run(asyncio.wait_for(go(), 20))


def test_a_refusal_with_a_tool_call_in_it_executes_nothing(url: str) -> None:
    story = tell(url, answer(PARIS, stop="refusal"))
    assert (story.last["kind"], looked_up) == ("refusal", [])


def test_a_paused_answer_is_continued_with_what_it_said_unchanged(url: str) -> None:
    searching = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather"}}
    story = tell(url, in_turn(answer(THINKING, searching, stop="pause_turn"), WARMER))
    assert story.run.status is Status.DONE
    assert story.sent(1) == [ASKED, {"role": "assistant", "content": [THINKING, searching]}]
    assert len(story.rounds) == 2


def test_an_answer_that_pauses_for_ever_is_given_up(url: str) -> None:
    story = tell(url, answer(TEXT, stop="pause_turn"))
    assert story.last == story.last | {"event": "call_failed", "kind": "permanent"}
    assert "paused" in story.last["message"]
    assert len(story.requests) == 6


def test_an_answer_that_does_not_fit_is_repaired_in_the_next_round(url: str) -> None:
    story = tell(url, in_turn(BOTH_TOOLS, says('{"city": "Rome", "degrees": 240}'), WARMER))
    assert (story.run.status, story.last["degrees"]) == (Status.DONE, 24)
    *before, tried, told = story.sent(2)
    assert before == story.sent(1)
    assert tried == {"role": "assistant", "content": [{"type": "text", "text": '{"city": "Rome", "degrees": 240}'}]}
    assert "degrees: Input should be less than or equal to 60 (got 240)" in told["content"]
    assert (len(story.rounds), len(story.calls)) == (3, 5)
    assert sorted(looked_up) == ["Paris", "Rome"]


def test_an_answer_that_never_fits_becomes_an_event(url: str) -> None:
    story = tell(url, in_turn(says("Rome!"), says('{"city": "Rome"}'), says('{"city": 3, "degrees": 24}'), WARMER))
    assert (story.run.status, story.run.state) == (Status.FAILED, "stayed_at_home")
    assert story.last["event"] == "invalid_output"
    assert "city: Input should be a valid string" in story.last["message"]
    assert (len(story.requests), len(story.rounds)) == (3, 3)


# --- ends in the middle ----------------------------------------------------------------------------------------------


async def killed(url: str, api: FakeMessagesAPI, city: str = "", at_request: int | None = None) -> None:
    """Run the trip in a process of its own that dies at this city, or when this request has come."""
    command = [sys.executable, str(ROOT / "tests" / "acceptance" / "trip.py"), url, api.url, *([city] if city else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ANTHROPIC_API_KEY": "k"}
    process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT)
    if at_request is not None:
        await api.received(at_request)
        process.kill()
    assert await process.wait() == SIGKILLED


async def finished(url: str, api: FakeMessagesAPI) -> Story:
    """Go on with the trip in this process."""
    run = await travel(url, api.url)
    async with Runtime(url, machines=[trip], settings=Settings(take="none")) as rt:
        return await look(rt, run, api.requests)


@pytest.mark.slow
def test_a_process_killed_between_two_rounds_asks_for_no_finished_round_again(url: str) -> None:
    async def go() -> Story:
        async with FakeMessagesAPI(in_turn(answer(PARIS, stop="tool_use"), answer(ROME, stop="tool_use"), WARMER)) as api:
            await killed(url, api, "Rome")
            assert len(api.requests) == 2
            return await finished(url, api)

    story = asyncio.run(asyncio.wait_for(go(), 30))
    assert (story.run.status, story.run.state) == (Status.DONE, "packed")
    assert [len(exchange.body["messages"]) for exchange in story.requests] == [1, 3, 5]
    assert [call.attempts for call in story.calls] == [1] * 5
    assert looked_up == ["Rome"]


@pytest.mark.slow
def test_a_process_killed_while_the_api_thinks_asks_that_round_again_and_no_other(url: str) -> None:
    async def go() -> Story:
        async with FakeMessagesAPI(in_turn(BOTH_TOOLS, SCENARIOS["never"], WARMER)) as api:
            await killed(url, api, at_request=2)
            return await finished(url, api)

    story = asyncio.run(asyncio.wait_for(go(), 30))
    assert (story.run.status, story.run.state) == (Status.DONE, "packed")
    assert [len(exchange.body["messages"]) for exchange in story.requests] == [1, 3, 3]
    assert story.sent(1) == story.sent(2)
    assert len(story.rounds) == 2
    assert looked_up == []


@pytest.mark.parametrize("data", [Trip(), Trip(max_tokens=64_000)], ids=["whole", "stream"])
def test_cancelling_a_run_hangs_up_on_the_api_and_journals_nothing(url: str, data: Trip) -> None:
    async def go() -> None:
        hung_up = asyncio.Event()

        async def think(exchange: Exchange) -> None:
            await exchange.hung_up()
            hung_up.set()

        async with FakeMessagesAPI(think) as api:
            llm = Claude("claude-fake-1", api_key="k", base_url=api.url)
            async with Runtime(url, machines=[trip], llm=llm, settings=AT_ONCE) as rt:
                run = await rt.start(trip, data)
                await api.received()
                run = await rt.cancel(run.id, by="ann", reason="no time")
                await asyncio.wait_for(hung_up.wait(), 5)
                story = await look(rt, await rt.wait(run.id), api.requests)
        assert (story.run.status, story.run.state, story.run.reason) == (Status.CANCELLED, "choosing", "no time")
        assert (len(story.requests), story.calls, story.attempts) == (1, [], [])
        assert messages_stored(url) == []

    asyncio.run(asyncio.wait_for(go(), 20))


def test_a_runtime_that_closes_hangs_up_and_the_next_one_asks_again(url: str) -> None:
    async def go() -> None:
        async with FakeMessagesAPI(in_turn(SCENARIOS["never"], WARMER)) as api:
            llm = Claude("claude-fake-1", api_key="k", base_url=api.url)
            async with Runtime(url, machines=[trip], llm=llm, settings=AT_ONCE) as rt:
                run = await rt.start(trip, Trip())
                await api.received()
            async with Runtime(url, machines=[trip], llm=llm, settings=AT_ONCE) as rt:
                assert (await rt.get(run.id)).status is Status.READY
                await rt.resume(run.id)
                story = await look(rt, await rt.wait(run.id), api.requests)
        assert story.run.state == "packed"
        assert [call.attempts for call in story.calls] == [1]
        assert len(story.requests) == 2

    asyncio.run(asyncio.wait_for(go(), 20))
