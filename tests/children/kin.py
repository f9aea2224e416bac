"""What the tests of child runs share: a small machine that ends as it is told, and parents around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

from statecraft import Append, Ask, Data, Event, Failure, Machine, ReviewExpired, Run, Runtime
from statecraft.records import RunRecord
from statecraft.testing import ManualClock

PATIENCE = 20.0
"""Real seconds after which a story that should take none is stuck."""


class Piece(Data):
    n: int = 0
    mood: str = "well"
    made: str = ""


class Made(Event):
    made: str


class Failed(Event): ...


class Asked(Event): ...


class Yes(Event):
    made: str = "yes"


class No(Event): ...


class Whole(Data):
    count: int = 1
    mood: str = "well"
    parts: Append[list[str]] = []


class Done(Event):
    parts: list[str] = []


class Workshop:
    """A machine `piece` that does what its mood says, and what was seen of it."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.stopped: list[int] = []
        self.hanging = asyncio.Event()
        """Set when a piece hangs."""
        self.machine = machine = Machine("piece", data=Piece)

        @machine.state(start=True)
        async def making(run: Run[Piece]) -> Made | Failed | Asked:
            self.begun.append(run.data.n)
            match run.data.mood:
                case "ill":
                    return Failed()
                case "dead":
                    raise RuntimeError("broken")
                case "asks":
                    return Asked()
                case "slow":
                    await run.sleep(3_600)
                case "hangs":
                    self.hanging.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        self.stopped.append(run.data.n)
            return Made(made=f"piece {run.data.n}")

        @machine.review(timeout=timedelta(days=2))
        async def asking(run: Run[Piece]) -> Ask[Yes | No]:
            return Ask("Well?", show=run.data.n)

        made, spoiled = machine.final("made", ok=True), machine.final("spoiled")
        machine.transitions(
            making.on(Made) >> made,
            making.on(Failed) >> spoiled,
            making.on(Asked) >> asking,
            asking.on(Yes) >> made,
            asking.on(No) >> spoiled,
            asking.on(ReviewExpired) >> spoiled,
        )


def parent_of(
    child: Machine[Any], work: Callable[[Run[Whole]], Awaitable[list[str]]], *, name: str = "whole", **state: Any
) -> Machine[Whole]:
    """A machine with one state that may run `child`; every failure leads to `failed`."""
    machine = Machine(name, data=Whole, deadline=state.pop("deadline", None))

    async def working(run: Run[Whole]) -> Done:
        return Done(parts=await work(run))

    start = machine.state(start=True, children=[child], **state)(working)
    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(start.on(Done) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


def opened(url: str, *machines: Machine[Any], **options: Any) -> AbstractAsyncContextManager[Runtime]:
    """A runtime in which no poller and no lease helps: time stands still."""
    return Runtime(url, machines=list(machines), **{"clock": ManualClock(), **options})


async def until(runtime: Runtime, run_id: str, kind: str) -> None:
    """Return when the feed has an entry of this kind for the run."""
    async for entry in runtime.follow(run_id):
        if entry.kind == kind:
            return
    raise AssertionError(f"{run_id} ended without an entry {kind}")


async def ended(runtime: Runtime, machine: Machine[Whole], data: Whole) -> RunRecord:
    """The end of a run, whose record is sound and agrees with its handlers, as does that of every other run."""
    run = await asyncio.wait_for(runtime.wait((await runtime.start(machine, data)).id), PATIENCE)
    await sound(runtime)
    return run


async def sound(runtime: Runtime) -> None:
    """Every run verifies, and those that have ended replay."""
    for run in await runtime.runs():
        assert await runtime.verify(run.id) == []
        replayed = await runtime.replay(run.id)
        assert replayed.agrees, str(replayed.divergence)


async def children_of(runtime: Runtime, run: RunRecord) -> list[RunRecord]:
    """Child runs, oldest first."""
    return [each for each in reversed(await runtime.runs()) if each.parent == run.id]


def told(story: Callable[[], Awaitable[None]]) -> None:
    """Run an async test that must not take long."""

    async def go() -> None:
        await asyncio.wait_for(story(), 3 * PATIENCE)

    asyncio.run(go())
