"""Live progress: heard while it happens, kept nowhere, and never in the way."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from statecraft import CallInfo, Claude, Data, Event, Failure, Machine, RetryPolicy, Run, Runtime, Settings, Status, tool
from statecraft.engine.live import ROOM, Follower, Hub, Live
from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm import ModelError, Reply, Request
from statecraft.records import FeedEntry
from statecraft.testing import FakeMessagesAPI, ManualClock, ScriptedLLM, answer, text, together, tool_use

AT_ONCE = Settings(take="own", retry=RetryPolicy(first=0.001, cap=0.001))


class Talk(Data):
    said: str = ""


class Said(Event):
    said: str


@tool
async def dig(info: CallInfo, depth: int) -> int:
    """Dig a hole."""
    for metre in range(depth):
        info.progress(f"at {metre} m", metre=metre)
    return depth


@tool
def drill(info: CallInfo, depth: int) -> int:
    """Drill a hole, in a thread of its own."""
    info.progress("drilling", depth=depth)
    return depth


talking = Machine("talking", data=Talk, max_steps=3)


@talking.state(start=True, tools=[dig, drill])
async def chatting(run: Run[Talk]) -> Said:
    """Talk to the model, and report."""
    run.progress("thinking", share=0.5)
    return Said(said=await run.llm.ask("Talk to me.", tools=[dig, drill]))


talking.transitions(chatting.on(Said) >> talking.final("told", ok=True), talking.anywhere.on(Failure) >> talking.final("silent"))


class Held(ScriptedLLM):
    """Says two words, then waits until it may end."""

    def __init__(self) -> None:
        super().__init__(["one two three"])
        self.may_end = asyncio.Event()

    async def stream(self, request: Request, heard: Callable[[str], None]) -> Reply:
        heard("one ")
        heard("two ")
        await self.may_end.wait()
        heard("three")
        return await self.complete(request)


async def heard_of(rt: Runtime, run_id: str) -> list[FeedEntry | Live]:
    return [one async for one in rt.follow(run_id, live=True)]


def pieces(all_of_it: list[FeedEntry | Live]) -> list[tuple[str, str]]:
    return [(one.kind, one.text if isinstance(one, Live) else "") for one in all_of_it]


def limited(story: Any) -> Any:
    return asyncio.run(asyncio.wait_for(story, 20))


def test_words_reach_a_follower_before_the_call_is_recorded(url: str) -> None:
    async def story() -> None:
        llm = Held()
        async with Runtime(url, machines=[talking], llm=llm, settings=AT_ONCE) as rt:
            run = await rt.start(talking, Talk())
            seen: list[FeedEntry | Live] = []
            async for one in rt.follow(run.id, live=True):
                seen.append(one)
                if isinstance(one, Live) and one.text == "two ":
                    assert await rt.calls(run.id) == []
                    llm.may_end.set()
            words = [one for one in seen if isinstance(one, Live) and one.kind == "text"]
            assert [word.text for word in words] == ["one ", "two ", "three"]
            assert {(word.name, word.state, word.seq) for word in words} == {("scripted", "chatting", 0)}
            (recorded,) = await rt.calls(run.id)
            assert words[0].call
            assert recorded.ok
            assert [one[0] for one in pieces(seen)].index("call") > seen.index(words[-1])
            assert (await rt.get(run.id)).status is Status.DONE

    limited(story())


def test_words_tools_and_handlers_are_heard_in_the_order_in_which_they_speak(url: str) -> None:
    first = together(text("let me dig"), tool_use("dig", {"depth": 2}))

    async def story() -> None:
        llm = ScriptedLLM([first, tool_use("drill", {"depth": 9}), "all dug"])
        async with Runtime(url, machines=[talking], llm=llm, settings=AT_ONCE) as rt:
            run = await rt.start(talking, Talk())
            seen = await heard_of(rt, run.id)
        assert pieces(seen) == [
            ("started", ""),
            ("progress", "thinking"),
            ("text", "let"),
            ("text", " me"),
            ("text", " dig"),
            ("call", ""),
            ("tool", "at 0 m"),
            ("tool", "at 1 m"),
            ("call", ""),
            ("call", ""),
            ("tool", "drilling"),
            ("call", ""),
            ("text", "all"),
            ("text", " dug"),
            ("call", ""),
            ("transition", ""),
        ]
        live = [one for one in seen if isinstance(one, Live)]
        assert live[0].fields == {"share": 0.5}
        assert [one.fields for one in live if one.name == "dig"] == [{"metre": 0}, {"metre": 1}]

    limited(story())


def test_a_failed_attempt_says_that_its_words_are_void(url: str) -> None:
    class Breaking(ScriptedLLM):
        async def stream(self, request: Request, heard: Callable[[str], None]) -> Reply:
            if not self.requests:
                self.requests.append(request)
                heard("wro")
                raise ModelError("the connection broke", kind=ErrorKind.TRANSIENT)
            return await super().stream(request, heard)

    async def story() -> None:
        async with Runtime(url, machines=[talking], llm=Breaking(["never used", "right"]), settings=AT_ONCE) as rt:
            run = await rt.start(talking, Talk())
            seen = await heard_of(rt, run.id)
            said = [(one.kind, one.text) for one in seen if isinstance(one, Live) and one.kind != "progress"]
            assert said == [("text", "wro"), ("restart", ""), ("text", "right")]
            assert (await rt.data(run.id)).said == "right"  # type: ignore[attr-defined]

    limited(story())


@pytest.mark.slow
def test_the_record_is_the_same_whether_anybody_listens_or_not(tmp_path: Any) -> None:
    async def one(name: str, listened: bool) -> list[Any]:
        llm = ScriptedLLM([tool_use("dig", {"depth": 1}), "dug"])
        async with Runtime(f"sqlite:///{tmp_path / name}", machines=[talking], llm=llm, settings=AT_ONCE) as rt:
            run = await rt.start(talking, Talk())
            if listened:
                assert any(isinstance(one, Live) for one in await heard_of(rt, run.id))
            await rt.wait(run.id)
            replayed = await rt.replay(run.id)
            assert replayed.agrees
            assert await rt.verify(run.id) == []
            return [(call.digest, call.result) for call in await rt.calls(run.id)]

    async def story() -> None:
        assert await one("a.db", True) == await one("b.db", False)

    limited(story())


def test_nothing_live_is_in_the_database(url: str, tmp_path: Any) -> None:
    async def story() -> None:
        async with Runtime(
            url, machines=[talking], llm=ScriptedLLM([tool_use("dig", {"depth": 1}), "x"]), settings=AT_ONCE
        ) as rt:
            run = await rt.start(talking, Talk())
            seen = await heard_of(rt, run.id)
            assert ("tool", "at 0 m") in pieces(seen)

    limited(story())
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        dump = "\n".join(db.iterdump())
    assert "at 0 m" not in dump
    assert "thinking" not in dump


def test_a_model_that_cannot_be_heard_is_asked_as_ever(url: str) -> None:
    class Mute:
        model = label = "mute"

        async def complete(self, request: Request) -> Reply:
            return await ScriptedLLM(["whole"]).complete(request)

        async def close(self) -> None: ...

    async def story() -> None:
        async with Runtime(url, machines=[talking], llm=Mute(), settings=AT_ONCE) as rt:
            run = await rt.start(talking, Talk())
            seen = await heard_of(rt, run.id)
            assert [kind for kind, _ in pieces(seen)] == ["started", "progress", "call", "transition"]

    limited(story())


@pytest.mark.slow
def test_a_run_that_nobody_follows_live_is_asked_whole(url: str) -> None:
    async def story() -> None:
        async with FakeMessagesAPI(script=[answer({"type": "text", "text": "as one"})]) as api:
            llm = Claude("claude-fake-1", api_key="k", base_url=api.url)
            async with Runtime(url, machines=[talking], llm=llm, settings=AT_ONCE) as rt:
                await rt.wait((await rt.start(talking, Talk())).id)
            assert "stream" not in api.requests[0].body

    limited(story())


@pytest.mark.slow
def test_claude_is_heard_word_by_word_through_the_real_client(url: str) -> None:
    async def story() -> None:
        async with FakeMessagesAPI(latency=0.05) as api:
            llm = Claude("claude-fake-1", api_key="k", base_url=api.url)
            async with Runtime(url, machines=[talking], llm=llm, settings=AT_ONCE) as rt:
                run = await rt.start(talking, Talk())
                seen = await heard_of(rt, run.id)
                words = [one.text for one in seen if isinstance(one, Live) and one.kind == "text"]
                assert words == ["hello", " world"]
                assert (await rt.calls(run.id))[0].result["content"] == [{"type": "text", "text": "hello world"}]

    limited(story())


def test_a_slow_follower_loses_the_oldest_and_is_told_how_many() -> None:
    async def story() -> None:
        hub = Hub()
        with hub.follow("r", room=3) as slow, hub.follow("r") as quick:
            for number in range(5):
                hub.publish("r", Live("r", "text", "s", text=str(number)))
            assert [(one.text, one.lost) for one in slow.take()] == [("2", 2), ("3", 0), ("4", 0)]
            assert len(quick.take()) == 5
            assert slow.take() == []
            hub.publish("r", Live("r", "text", "s", text="5"))
            assert [(one.text, one.lost) for one in slow.take()] == [("5", 0)]

    asyncio.run(story())


def test_a_follower_that_stops_reading_does_not_hold_up_the_run(url: str) -> None:
    async def story() -> None:
        words = " ".join(str(number) for number in range(5000))
        async with Runtime(url, machines=[talking], llm=ScriptedLLM([words]), settings=AT_ONCE) as rt:
            run = await rt.start(talking, Talk())
            following = rt.follow(run.id, live=True)
            await anext(following)
            run = await rt.wait(run.id, timeout=timedelta(seconds=10))
            assert run.status is Status.DONE
            rest = [one async for one in following if isinstance(one, Live)]
            assert rest[-1].text == " 4999"
            assert len(rest) <= 2 * ROOM
            assert len(rest) + sum(one.lost for one in rest) == 1 + 5000  # the handler's report, and the words

    limited(story())


def test_a_hub_without_followers_keeps_nothing() -> None:
    async def story() -> None:
        hub = Hub()
        hub.publish("r", Live("r", "text", "s", text="x"))
        with hub.follow("r") as late:
            assert hub.followed("r")
            assert late.take() == []
        assert not hub.followed("r")
        assert not hub.busy

    asyncio.run(story())


def test_a_piece_from_another_thread_wakes_the_follower() -> None:
    async def story() -> None:
        hub = Hub()
        with hub.follow("r") as follower:
            waiting = asyncio.ensure_future(follower.news.wait())
            await asyncio.sleep(0)
            await asyncio.to_thread(hub.publish, "r", Live("r", "tool", "s", text="x"))
            await asyncio.wait_for(waiting, 5)
            assert [one.text for one in follower.take()] == ["x"]

    asyncio.run(story())


def test_a_piece_for_a_follower_whose_loop_is_closed_is_dropped() -> None:
    async def story() -> Follower:
        return Follower()

    asyncio.run(story()).tell(Live("r", "text", "s"))


def test_all_runs_together_cannot_be_followed_live(url: str) -> None:
    rt = Runtime(url)
    with pytest.raises(ConfigError, match="follows one run"):
        rt.follow(None, live=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_time_that_stands_still_does_not_mix_up_what_came_first(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with Runtime(url, machines=[talking], llm=ScriptedLLM(["a b"]), settings=AT_ONCE, clock=clock) as rt:
            run = await rt.start(talking, Talk())
            seen = await heard_of(rt, run.id)
        assert pieces(seen)[0] == ("started", "")
        assert pieces(seen)[-2:] == [("call", ""), ("transition", "")]

    limited(story())
