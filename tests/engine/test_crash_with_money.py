"""A trip that asks a model, buys what may be bought only once, has a child run do the rest and pays from budgets: its
processes die at every commit, and it ends as if nothing happened, with every cent accounted for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from statecraft import (
    Append,
    Approve,
    Budget,
    CallInfo,
    Data,
    Event,
    Failure,
    GatePolicy,
    Happened,
    Machine,
    Modify,
    Price,
    RateLimit,
    Run,
    Runtime,
    TenantBudget,
    days,
    tool,
)
from statecraft.decisions import Decision, DidNotHappen
from statecraft.errors import AlreadyDecided, ErrorKind, RunClosed, Superseded
from statecraft.llm.port import LLM, ModelError, Reply, Request
from statecraft.records import ReviewRecord, RunRecord
from statecraft.store import open_store
from statecraft.testing import ScriptedLLM, text, together, tool_use
from tests.children.test_crashes_in_families import Ids
from tests.engine.dying import SETTINGS, Databases, Dying, FirstIsFixed, Row, World, in_file, lives, pairs, some
from tests.servers import OnServer

PRICES = {"scripted": Price(input=10, output=50)}
OPEN = "SELECT count(*) FROM runs WHERE status NOT IN ('done', 'failed', 'cancelled', 'dead')"


class Trip(Data):
    said: str = ""
    booked: Append[list[str]] = []


class Planned(Event):
    said: str
    booked: list[str]


class Told(Event):
    booked: list[str]


class Car(Data):
    key: str = ""


class Rented(Event):
    key: str


@dataclass
class Travels(World[Trip]):
    """A world whose processes take over every run of the one before, and whose person answers whatever is asked."""

    ids: FirstIsFixed = field(default_factory=lambda: Ids(3))

    async def _story(self, probe: Dying) -> RunRecord:
        options: dict[str, Any] = {"settings": self.settings, "clock": self.clock, "ids": self.ids, "llm": answers(self)}
        async with Runtime(self.url, machines=[self.machine], store=open_store(self.url, probe=probe), **options) as runtime:
            run = await runtime.start(self.machine, self.data, key="the-run", tenant="acme")
            for each in await runtime.runs():
                if each.owner not in (None, runtime._worker.owner):
                    with contextlib.suppress(RunClosed):
                        await runtime.resume(each.id, force=True)
            person = asyncio.create_task(self._answer(runtime))
            try:
                run = await runtime.wait(run.id)
                while not run.status.closed:
                    run = await self._changed(runtime, run)
            finally:
                person.cancel()
            for each in await runtime.runs():
                assert await runtime.verify(each.id) == []
                replayed = await runtime.replay(each.id)
                assert replayed.agrees, str(replayed.divergence)
            return run

    async def _changed(self, runtime: Runtime, run: RunRecord) -> RunRecord:
        """The run when it has gone on since it waited for the person."""
        changed = runtime._worker.changing(bytes.fromhex(run.id))
        now = await runtime.get(run.id)
        if now == run:
            await changed.wait()
        return await runtime.wait(run.id)

    async def _answer(self, runtime: Runtime) -> None:
        """The person answers every question, as soon as it is asked."""
        assert self.verdict is not None
        async for entry in runtime.follow():
            if entry.kind == "waiting":
                for review in await runtime.reviews(entry.run_id, open_only=True):
                    with contextlib.suppress(AlreadyDecided, Superseded):
                        await runtime.decide(review.run_id, self.verdict(self, review), by="ann", review=review.id)


def decide(world: World[Trip], review: ReviewRecord) -> Decision:
    """Pays less than was asked for the flight and approves the rest; asked what became of a call, looks."""
    if review.kind == "doubt":
        made = any(name == review.show["key"] for _, name in world.effects)
        return Happened(f"{review.tool} {next(iter(review.arguments.values()))}") if made else DidNotHappen()
    return Modify({"place": "Oslo"}) if review.arguments == {"place": "Rome"} else Approve()


def answers(world: World[Trip]) -> LLM:
    """Wants to look and to fly, then sums up; the first time that it is asked for that, it is not there."""
    absent = [] if world.life else [ModelError("no connection", kind=ErrorKind.TRANSIENT)]

    def answer(request: Request) -> Reply | ModelError:
        if not request.tools:
            return text("a small one")
        if len(request.messages) == 1:
            return together(tool_use("look", {"place": "Rome"}), tool_use("fly", {"place": "Rome"}))
        return absent.pop() if absent else text("all is well")

    return ScriptedLLM(answer)


@dataclass
class Stage:
    """One machine for one world after another."""

    place: list[Travels] = field(default_factory=list)
    databases: Databases = in_file

    def __post_init__(self) -> None:
        self.machine = self._trip()

    def effect(self, info: CallInfo) -> None:
        self.place[0].effects.append((self.place[0].life, info.key))

    def _trip(self) -> Machine[Trip]:
        car = self._car()

        @tool(risk="safe", price="0.01")
        async def look(place: str) -> str:
            """Look at a place."""
            return f"{place} is nice"

        @tool(effect="once", risk="high", price="0.20")
        async def fly(info: CallInfo, place: str) -> str:
            """Book a flight."""
            self.effect(info)
            return f"fly {place}"

        @tool(effect="once", risk="high", price="0.05")
        async def tell(info: CallInfo, whom: str) -> str:
            """Write a letter."""
            self.effect(info)
            return f"tell {whom}"

        machine = Machine("trip", data=Trip, budget=Budget(50_000, money="1.00", calls=20))

        @machine.state(start=True, tools=[look, fly], children=[car], budget=Budget(money="0.90"))
        async def planning(run: Run[Trip]) -> Planned:
            said, rented = await run.gather(run.llm.ask("Plan it.", tools=[look, fly], max_tokens=500), run.child(car, Car()))
            return Planned(said=said, booked=[rented.data.key])

        @machine.state(tools=[tell])
        async def telling(run: Run[Trip]) -> Told:
            return Told(booked=list(await run.map(lambda whom: run.tool(tell, whom), ["ann", "bob", "eve"], concurrency=2)))

        machine.transitions(
            planning.on(Planned) >> telling,
            telling.on(Told) >> machine.final("done", ok=True),
            machine.anywhere.on(Failure) >> machine.final("failed"),
        )
        return machine

    def _car(self) -> Machine[Car]:
        @tool(effect="once", risk="high", price="0.10")
        async def rent(info: CallInfo, size: int) -> str:
            """Rent a car."""
            self.effect(info)
            return f"rent {size}"

        machine = Machine("car", data=Car, budget=Budget(money="0.30", calls=2))

        @machine.state(start=True, tools=[rent])
        async def renting(run: Run[Car]) -> Rented:
            await run.llm.ask("Which car?", max_tokens=100)
            return Rented(key=await run.tool(rent, 4))

        machine.transitions(
            renting.on(Rented) >> machine.final("rented", ok=True), machine.anywhere.on(Failure) >> machine.final("failed")
        )
        return machine

    def live(self, folder: Path, points: Sequence[int] = ()) -> Travels:
        """Die at the points, then live to the end; assert what must hold in every world."""
        folder.mkdir(parents=True)
        settings = replace(
            SETTINGS,
            prices=PRICES,
            gate=GatePolicy(max_auto_risk="low"),
            limits=(RateLimit("model", requests=100, per=days(1)), RateLimit("tool", requests=100, per=days(1))),
            meters="database",
            tenants=(TenantBudget(Budget(money="1.00", calls=20), per=days(1)),),
        )
        world = Travels(folder, self.machine, Trip(), verdict=decide, settings=settings, databases=self.databases)
        self.place[:] = [world]
        ended = lives(world, points, world.sound)
        assert ended.state == "done"
        assert_whole(world)
        return world


def assert_whole(world: Travels) -> None:
    world.sound()
    assert world.noises == []
    assert world.ask(OPEN) == [(0,)]
    assert world.ask("SELECT state, count(*) FROM runs GROUP BY 1 ORDER BY 1") == [("done", 1), ("rented", 1)]
    assert Counter(Counter(key for _, key in world.effects).values()) == {1: 5}  # Each effect once.
    again = world.ask("SELECT count(*) FROM call_reviews WHERE decision = 'did_not_happen'")[0][0]
    assert world.ask("SELECT count(*) FROM attempts WHERE kind = 'begun'") == [(5 + again,)]
    gates = "SELECT tool, decision, count(*) FROM call_reviews WHERE kind = 'gate' GROUP BY 1, 2 ORDER BY 1, 2"
    assert world.ask(gates) == [("fly", "approve", 1), ("fly", "modify", 1), ("rent", "approve", 1), ("tell", "approve", 3)]
    assert world.ask("SELECT count(*) FROM reservations") == [(0,)]
    assert meters(world) == spent(world)


def spent(world: Travels) -> set[Row]:
    """What the meters must say, by the recorded calls."""
    (parent,) = world.ask("SELECT hex(run_id) FROM runs WHERE parent IS NULL")[0]
    (child,) = world.ask("SELECT hex(run_id) FROM runs WHERE parent IS NOT NULL")[0]
    parent, child, day = parent.lower(), child.lower(), "tenant:acme:1767225600000000+86400000000"

    def total(where: str) -> tuple[int, int, int]:
        sums = "sum(cost), count(*), sum(input_tokens + output_tokens)"
        (found,) = world.ask(f"SELECT {sums} FROM calls WHERE kind IN ('llm', 'tool') AND {where}")
        return found

    money, calls, tokens = total("1 = 1")
    own_money, own_calls, _ = total(f"hex(run_id) = '{child.upper()}'")
    planning, _, _ = total(f"NOT (hex(run_id) = '{parent.upper()}' AND seq > 0)")
    return {
        (f"run:{parent}:money", money),
        (f"run:{parent}:calls", calls),
        (f"run:{parent}:tokens", tokens),
        (f"state:{parent}:planning:money", planning),
        (f"run:{child}:money", own_money),
        (f"run:{child}:calls", own_calls),
        (f"{day}:money", money),
        (f"{day}:calls", calls),
    }


def meters(world: Travels) -> set[Row]:
    return set(world.ask("SELECT meter, used FROM meters WHERE state IS NULL"))


def story(world: Travels) -> list[Row]:
    """What happened, without what depends on which run was faster and on how often somebody tried."""
    moves = "SELECT parent IS NULL, t.seq, t.event, t.target, t.calls, t.payload FROM transitions t JOIN runs USING (run_id)"
    calls = "SELECT parent IS NULL, c.seq, c.kind, c.name, c.ok, c.cost, c.request FROM calls c JOIN runs USING (run_id)"
    return sorted(world.ask(moves)) + sorted(row for row in world.ask(calls) if row[2] != "child")


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def calm(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Travels:
    return stage.live(tmp_path_factory.mktemp("calm") / "world")


def test_the_undisturbed_trip_asks_buys_and_pays(calm: Travels) -> None:
    assert calm.ask("SELECT count(*) FROM call_reviews WHERE kind = 'doubt'") == [(0,)]
    assert calm.ask("SELECT kind, count(*) FROM attempts GROUP BY 1 ORDER BY 1") == [("begun", 5), ("transient", 1)]
    assert calm.points[0] > 100


@pytest.mark.slow
def test_a_trip_whose_process_dies_ends_as_well(stage: Stage, calm: Travels, tmp_path: Path) -> None:
    for at in some(calm.points[0], step=3):
        assert story(stage.live(tmp_path / str(at), [at])) == story(calm), at


@pytest.mark.slow
def test_a_trip_whose_processes_die_at_any_two_commits_ends_as_well(stage: Stage, calm: Travels, tmp_path: Path) -> None:
    for one, two in pairs(calm.points[0], calm.points[0], most=30, seed=20261121):
        assert story(stage.live(tmp_path / f"{one}-{two}", [one, two])) == story(calm), (one, two)


@pytest.mark.slow
def test_a_trip_on_a_server_whose_processes_die_ends_as_well(on_server: OnServer, calm: Travels, tmp_path: Path) -> None:
    stage = Stage(databases=on_server)
    there = stage.live(tmp_path / "calm")
    assert story(there) == story(calm)
    for at in some(there.points[0], step=11):
        assert story(stage.live(tmp_path / str(at), [at, there.points[0] - at])) == story(calm), at
