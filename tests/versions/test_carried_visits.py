"""What an open visit takes along: child runs, calls in doubt, budgets, its time, and what a redrive left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from statecraft import (
    Append,
    Approve,
    Budget,
    CallError,
    CallInfo,
    Child,
    Data,
    ErrorKind,
    Event,
    Failure,
    GatePolicy,
    Machine,
    Migration,
    RetryPolicy,
    Run,
    Runtime,
    Settings,
    Status,
    seconds,
    tool,
)
from statecraft.decisions import Happened
from statecraft.errors import VersionMismatch
from statecraft.testing import ManualClock, ScriptedLLM
from tests.versions.releases import awaited, sound


class Trip(Data):
    legs: int = 1
    log: Append[list[str]] = []


class Gone(Event):
    log: list[str]


Handler = Callable[[Run[Trip]], Any]
MOVE = Migration(since="1", states={"walking": "riding"})


def release(handler: Handler, state: str, *migrations: Migration, **settings: Any) -> Machine[Trip]:
    """A machine of one state with this name; version 1 without migrations, else 2."""
    version = "2" if migrations else "1"
    bound = settings.pop("machine", {})
    m = Machine("trip", data=Trip, version=version, migrations=migrations, **bound)

    async def going(run: Run[Trip]) -> Gone:
        gone: Gone = await handler(run)
        return gone

    going.__name__ = state
    here = m.state(start=True, **settings)(going)
    m.transitions(here.on(Gone) >> m.final("home", ok=True), m.anywhere.on(Failure) >> m.final("lost"))
    return m


class World:
    def __init__(self, url: str) -> None:
        self.url, self.clock = url, ManualClock()

    def open(self, *machines: Machine[Any], **rest: Any) -> Runtime:
        llm = rest.pop("llm", None)
        return Runtime(self.url, machines=machines, clock=self.clock, llm=llm, settings=Settings(**rest))


@pytest.fixture
def world(url: str) -> World:
    return World(url)


@pytest.mark.slow
@awaited
async def test_a_child_run_that_was_waited_for_is_waited_for_still(world: World) -> None:
    @tool(effect="read", risk="high")
    async def ask(info: CallInfo) -> str:
        """Ask the way."""
        return "left"

    child_of = Machine("leg", data=Trip)

    @child_of.state(start=True, tools=[ask])
    async def asking(run: Run[Trip]) -> Gone:
        return Gone(log=[await run.tool(ask)])

    child_of.transitions(
        asking.on(Gone) >> child_of.final("there", ok=True), child_of.anywhere.on(Failure) >> child_of.final("astray")
    )

    async def walk(run: Run[Trip]) -> Gone:
        end: Child[Trip] = await run.child(child_of, Trip())
        return Gone(log=end.data.log)

    old, new = release(walk, "walking", children=[child_of]), release(walk, "riding", MOVE, children=[child_of])
    gate = GatePolicy(max_auto_risk="medium")
    async with world.open(old, gate=gate) as rt:
        run = await rt.start(old, Trip())
        await rt.idle()
        (kid,) = [each for each in await rt.runs() if each.parent == run.id]
    alone = release(walk, "riding", MOVE)
    async with world.open(alone, gate=gate) as rt:
        with pytest.raises(VersionMismatch, match=r"its child run .* of leg is under way, and riding"):
            await rt.data(run.id)
    async with world.open(new, gate=gate) as rt:
        await rt._worker.claim(bytes.fromhex(run.id))
        await rt.idle()
        assert (await rt.get(run.id)).waiting_for == "child"
        (asked,) = await rt.reviews(open_only=True)
        await rt.decide(kid.id, Approve(), by="ann", review=asked.id)
        assert (await rt.wait(run.id)).status is Status.DONE
        assert await rt.data(run.id, Trip) == Trip(log=["left"])
        assert len(await rt.runs()) == 2
        await sound(rt, run.id)


@pytest.mark.slow
@awaited
async def test_a_call_in_doubt_is_asked_about_and_not_made_again(world: World) -> None:
    begun, keys = asyncio.Event(), list[str]()

    @tool(effect="once", risk="low")
    async def buy(info: CallInfo, what: str) -> str:
        """Buy a ticket."""
        keys.append(info.key)
        begun.set()
        await asyncio.Event().wait()
        return what

    async def walk(run: Run[Trip]) -> Gone:
        return Gone(log=[await run.tool(buy, "a ticket")])

    old = release(walk, "walking", tools=[buy])
    async with world.open(old) as rt:
        run = await rt.start(old, Trip())
        await begun.wait()
    bare = release(walk, "riding", MOVE)
    async with world.open(bare, take="none") as rt:
        with pytest.raises(VersionMismatch, match="its call of buy was begun or asked about and has no outcome, and riding"):
            await rt.data(run.id)
    new = release(walk, "riding", MOVE, tools=[buy])
    async with world.open(new) as rt:
        await rt.wait(run.id)
        (asked,) = await rt.reviews(run.id, open_only=True)
        assert (asked.kind, asked.show["key"]) == ("doubt", keys[0])
        await rt.decide(run.id, Happened("a ticket"), by="ann")
        assert (await rt.wait(run.id)).status is Status.DONE
        assert len(keys) == 1
        await sound(rt, run.id)


@awaited
async def test_a_repeated_call_keeps_its_key_and_counts_its_attempts(world: World) -> None:
    keys = list[str]()

    @tool(effect="idempotent", risk="low")
    async def book(info: CallInfo) -> str:
        """Book a seat."""
        keys.append(info.key)
        if len(keys) < 3:
            raise ConnectionError("busy")
        return "seat 7"

    async def walk(run: Run[Trip]) -> Gone:
        return Gone(log=[await run.tool(book)])

    old, new = release(walk, "walking", tools=[book]), release(walk, "riding", MOVE, tools=[book])
    slow = RetryPolicy(first=60.0, park_after=0.001)  # However short a pause is drawn, it is waited for parked.
    async with world.open(old, retry=slow) as rt:
        run = await rt.start(old, Trip())
        await rt.idle()
        assert (await rt.get(run.id)).waiting_for == "retry"
    async with world.open(new, retry=slow) as rt:
        for _ in range(2):
            await world.clock.advance(timedelta(minutes=5))
            await rt.idle()
        assert (await rt.wait(run.id)).status is Status.DONE
        assert len(keys) == 3
        assert len(set(keys)) == 1
        (call,) = await rt.calls(run.id)
        assert (call.seq, call.attempts) == (1, 3)
        assert [attempt.seq for attempt in await rt.attempts(run.id)] == [0, 1]
        await sound(rt, run.id)


@pytest.mark.slow
@awaited
async def test_a_visit_has_no_more_time_and_its_state_no_more_money_than_before(world: World) -> None:
    async def walk(run: Run[Trip]) -> Gone:
        said: str = await run.llm.ask("Where?", max_tokens=10)
        await run.sleep(seconds(40))
        return Gone(log=[said])

    bounds: dict[str, Any] = {"budget": Budget(calls=1), "timeout": timedelta(seconds=60)}
    old, new = release(walk, "walking", **bounds), release(walk, "riding", MOVE, **bounds)
    async with world.open(old, llm=ScriptedLLM(["north"])) as rt:
        run = await rt.start(old, Trip())
        await rt.idle()
    await world.clock.advance(timedelta(seconds=30))
    async with world.open(new, llm=ScriptedLLM([])) as rt:
        await rt._worker.claim(bytes.fromhex(run.id))
        await rt.idle()
        loaded = await rt._store.load(bytes.fromhex(run.id))
        assert loaded.used[f"state:{run.id}:riding:calls"] == 1
        assert loaded.entered_at == int(run.created_at.timestamp() * 1_000_000)
        await world.clock.advance(timedelta(seconds=10))
        await rt.idle()
        assert (await rt.wait(run.id)).status is Status.DONE
        assert await rt.data(run.id, Trip) == Trip(log=["north"])
        await sound(rt, run.id)


@awaited
async def test_a_migration_is_no_step_of_the_bound_and_no_visit(world: World) -> None:
    async def walk(run: Run[Trip]) -> Gone:
        await run.sleep(seconds(40))
        return Gone(log=[])

    one = {"max_steps": 1}
    old = release(walk, "walking", machine=one, max_visits=1)
    new = release(walk, "riding", MOVE, machine=one, max_visits=1)
    async with world.open(old) as rt:
        run = await rt.start(old, Trip())
        await rt.idle()
    await world.clock.advance(timedelta(seconds=40))
    async with world.open(new) as rt:
        assert (await rt.wait(run.id)).status is Status.DONE


@pytest.mark.slow
@awaited
async def test_a_migrated_run_dies_is_redriven_and_migrated_again(world: World) -> None:
    asked = list[str]()

    @tool(effect="read", risk="low")
    async def look(info: CallInfo, at: str) -> str:
        """Look around."""
        asked.append(at)
        if at == "map" and asked.count("map") < 2:
            raise CallError("torn", kind=ErrorKind.PERMANENT)
        return at

    async def walk(run: Run[Trip]) -> Gone:
        return Gone(log=[await run.tool(look, "sky"), await run.tool(look, "map")])

    def lonely(state: str, *migrations: Migration, version: str) -> Machine[Trip]:
        m = Machine("trip", data=Trip, version=version, migrations=migrations)

        async def going(run: Run[Trip]) -> Gone:
            return await walk(run)

        going.__name__ = state
        here = m.state(start=True, tools=[look])(going)
        m.transitions(here.on(Gone) >> m.final("home", ok=True))
        return m

    back = Migration(since="2", states={"riding": "flying"})
    async with world.open(lonely("walking", version="1")) as rt:
        run = await rt.wait((await rt.start(lonely("walking", version="1"), Trip())).id)
        assert run.status is Status.DEAD
    async with world.open(lonely("riding", MOVE, version="2"), take="none") as rt:
        run = await rt.redrive(run.id, by="ann")
        assert (run.status, run.version, run.state, run.seq) == (Status.READY, "2", "riding", 1)
    async with world.open(lonely("flying", MOVE, back, version="3")) as rt:
        run = await rt.wait(run.id)
        assert (run.status, run.state) == (Status.DONE, "home")
        assert asked == ["sky", "map", "map"]  # What worked was kept over both, what failed was made again.
        assert [move.event for move in await rt.history(run.id)] == ["start", "migrated", "migrated", "gone"]
        await sound(rt, run.id)
