"""A database that goes away for a minute while runs are in hand: nothing is lost, nothing starts that nobody could record, and
the log says what happened. The minute is one of the injected clock; the server and its end are real."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from statecraft import Data, Event, Failure, Machine, Run, Runtime, Settings, Status, tool
from statecraft.records import RunFilter, RunRecord
from statecraft.testing import ManualClock
from statecraft.testing.postgres import PostgresServer

RUNS, STEPS, LEASE, AWAY = 30, 3, 30, 60


class Crossing(Data):
    number: int
    done: int = 0


class Further(Event):
    done: int


class Across(Event): ...


@dataclass
class Ferry:
    """A machine whose every step takes three seconds of the injected clock, and what it did when."""

    clock: ManualClock
    begun: list[tuple[int, int, int]] = field(default_factory=list)
    """(run, step, instant) of each effect."""

    def machine(self) -> Machine[Crossing]:
        @tool(effect="idempotent")
        async def row(number: int, step: int) -> int:
            """Some strokes further."""
            self.begun.append((number, step, self.clock.now()))
            await self.clock.sleep(3)
            return step + 1

        ferry = Machine("ferry", data=Crossing, max_steps=STEPS + 2)

        @ferry.state(start=True, tools=[row])
        async def rowing(run: Run[Crossing]) -> Further | Across:
            if run.data.done == STEPS:
                return Across()
            return Further(done=await run.tool(row, run.data.number, run.data.done))

        arrived, sunk = ferry.final("arrived", ok=True), ferry.final("sunk")
        ferry.transitions(rowing.on(Further) >> rowing, rowing.on(Across) >> arrived, ferry.anywhere.on(Failure) >> sunk)
        return ferry


async def pass_seconds(clock: ManualClock, seconds: int) -> None:
    """Second by second, with time between for real threads and a real server."""
    for _ in range(seconds):
        await clock.advance(timedelta(seconds=1))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.Event().wait()


@pytest.mark.slow
def test_a_minute_without_the_database_loses_nothing_starts_nothing_in_the_dark_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(server: PostgresServer) -> None:
        clock, url = ManualClock(), server.create_database()
        ferry = Ferry(clock)
        machine = ferry.machine()
        settings = Settings(lease=timedelta(seconds=LEASE), concurrency=12)
        async with Runtime(url, machines=[machine], clock=clock, settings=settings) as rt:
            await asyncio.gather(*(rt.start(machine, Crossing(number=number)) for number in range(RUNS)))
            await pass_seconds(clock, 8)
            await asyncio.to_thread(server.stop)
            gone = clock.now()
            await pass_seconds(clock, AWAY)
            back = clock.now()
            await asyncio.to_thread(server.start)
            runs = await ended(rt, clock)
            assert Counter(run.status for run in runs) == {Status.DONE: RUNS}
            for run in runs:
                assert await rt.verify(run.id) == []
            calls = [call for run in runs for call in await rt.calls(run.id)]
            claims = [
                entry for run in runs for entry in await rt.feed(run.id, limit=1_000) if entry.kind == "claimed" and entry.seq
            ]
        assert len(calls) == RUNS * STEPS
        assert 0 < len([at for _, _, at in ferry.begun if at < gone]) < len(calls), "it goes away in the middle"
        dark = [at - gone for _, _, at in ferry.begun if gone + LEASE * 500_000 < at < back]
        assert dark == [], "half a lease after the last renewal nothing is begun that could not be recorded"
        assert max(Counter((number, step) for number, step, _ in ferry.begun).values()) <= 2
        assert len(ferry.begun) <= len(calls) + len(claims), "only what was under way when its holder lost it is done again"

    with PostgresServer() as server:
        asyncio.run(asyncio.wait_for(story(server), 120))
    assert "store.failed" in caplog.text
    assert "store.reconnected" in caplog.text


async def ended(rt: Runtime, clock: ManualClock) -> list[RunRecord]:
    """All runs, when none is open any more."""
    while True:
        await pass_seconds(clock, 1)
        runs = await rt.runs(RunFilter(limit=RUNS + 1))
        if all(run.status.closed for run in runs):
            return runs
