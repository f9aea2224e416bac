"""What the tests of schedules share: a machine that ends at once or waits for a person, and runtimes that fire by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from statecraft import Ask, Data, Event, Failure, Machine, Run, RunFilter, RunRecord, Runtime, Settings
from statecraft.schedules.firing import Firing
from statecraft.store import open_store, port
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock

FAR = timedelta(days=30_000)
"""No poller looks around by itself: a test fires by hand."""


class Report(Data):
    topic: str = "bees"


class Done(Event): ...


class Written(Event): ...


def reports(name: str = "reports") -> Machine[Report]:
    """Ends at once."""
    machine = Machine(name, data=Report)

    @machine.state(start=True)
    async def writing(run: Run[Report]) -> Done:
        return Done()

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(writing.on(Done) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


def asking() -> Machine[Report]:
    """Waits for a person."""
    machine = Machine("asking", data=Report)

    @machine.state(start=True)
    async def writing(run: Run[Report]) -> Written:
        return Written()

    @machine.review(timeout=timedelta(days=5000))
    async def question(run: Run[Report]) -> Ask[Done]:
        return Ask("Done?")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(writing.on(Written) >> question, question.on(Done) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


Before = Callable[[SqlStore, port.Write], Awaitable[None]]


class Watched:
    """A real store whose writes go through a function first."""

    def __init__(self, url: str, before: Before) -> None:
        inner = open_store(url)
        assert isinstance(inner, SqlStore)
        self.inner, self.before = inner, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def submit(self, write: port.Write) -> object:
        await self.before(self.inner, write)
        return await self.inner.submit(write)


@asynccontextmanager
async def opened(
    url: str, *machines: Machine[Any], clock: ManualClock | None = None, before: Before | None = None, **settings: Any
) -> AsyncIterator[Runtime]:
    """A runtime that looks for due schedules and runs only when told to."""
    store: Any = None if before is None else Watched(url, before)
    slow = Settings(**{"poll": FAR, "lease": FAR, **settings})
    rt = Runtime(url, machines=machines, settings=slow, clock=clock or ManualClock(), store=store)
    if rt._worker.schedules is not None:
        _BY_HAND[rt], rt._worker.schedules = rt._worker.schedules, None
    async with rt:
        yield rt


_BY_HAND: WeakKeyDictionary[Runtime, Firing] = WeakKeyDictionary()
"""What would fire schedules in the background."""


def firing(rt: Runtime) -> Firing:
    return _BY_HAND[rt]


async def fire(rt: Runtime) -> None:
    """Look now, whatever the worker knows, until there is nothing more to do."""
    firing(rt).look_again()
    while await firing(rt).fire() == 0.0:
        pass


def day(number: int, hour: int = 0, minute: int = 0, month: int = 1) -> datetime:
    """An instant of 2026, the year in which the manual clock begins."""
    return datetime(2026, month, number, hour, minute, tzinfo=UTC)


async def runs(rt: Runtime) -> list[RunRecord]:
    """All runs, in the order in which they were started."""
    return (await rt.runs(RunFilter(limit=100_000)))[::-1]


async def instants(rt: Runtime, name: str = "nightly") -> list[str]:
    """For which instants runs were started, in order; each run has its own."""
    keys = [str(run.key) for run in await runs(rt)]
    begin = f"schedule:{name}:"
    assert all(key.startswith(begin) for key in keys), keys
    assert len(set(keys)) == len(keys)
    return sorted(key.removeprefix(begin) for key in keys)


def iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def rows(url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """A query straight to the file."""
    with closing(sqlite3.connect(Path(url.removeprefix("sqlite:///")))) as raw:
        return raw.execute(sql, values).fetchall()
