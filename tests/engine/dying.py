"""A process that dies at a chosen commit and is started again, as often as asked, within one test.

A life is one runtime over one database: a file, or one of a PostgreSQL server. The probe of its store raises `Death` just
before or just after a commit: from then on that runtime can write nothing, and it is taken down at once. The next life is a
new runtime with a new owner, and goes on with the same story. Time belongs to the world, not to a life: it stands still but
for parked runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from statecraft import Data, Event, Machine, Runtime, Settings
from statecraft.calls.retry import RetryPolicy
from statecraft.clock import instant
from statecraft.decisions import Decision
from statecraft.errors import RunClosed, StoreUnavailable
from statecraft.ids import RandomIds
from statecraft.llm.port import LLM
from statecraft.records import ReviewRecord, RunRecord, Status, Waiting
from statecraft.store import open_store
from statecraft.testing import ManualClock
from tests.servers import OnServer

D = TypeVar("D", bound=Data)

LONG = timedelta(days=300)
"""No lease ends and no poller looks around by itself: only what the run does makes commits."""

SETTINGS = Settings(lease=LONG, poll=LONG, retry=RetryPolicy(first=0.0), poison=1_000)
"""It is never a run's own fault here that its process dies, however often."""

DEPTH = int(os.environ.get("STATECRAFT_TEST_DEPTH", "1"))
"""How much of what there is to try is tried: 1 leaves out most pairs of points and some points of long runs. A larger
number takes every point, and that many times as many pairs."""

HANGS = 20.0
"""Real seconds after which a life that neither dies nor ends is a failure; it takes a few hundredths of one."""

RUN_ID = bytes(range(16))

Row = tuple[Any, ...]


class Death(BaseException):
    """The end of a process: nobody catches it."""


class Dying:
    """A store's probe that raises `Death` at persistence point number `at` (from 0; None: never)."""

    def __init__(self, at: int | None, died: Callable[[], object]) -> None:
        self.at, self._died = at, died
        self.points = 0
        self.dead = False

    def die(self) -> None:
        """Now, wherever it is: no commit gets through any more."""
        self.at, self.dead = self.points, True
        self._died()

    def __call__(self, point: str) -> None:
        if self.points == self.at:
            self.dead = True
            self._died()
            raise Death(point)
        self.points += 1


class FirstIsFixed(RandomIds):
    """The first run of a database has always the same id, so that two worlds can be compared byte by byte."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.fresh = True

    def run_id(self, now: int) -> bytes:
        return RUN_ID if self.fresh else super().run_id(now)


Databases = Callable[[Path], str]
"""From a world's folder to the URL of an empty database that is its own."""


def in_file(folder: Path) -> str:
    """A file in the folder."""
    return f"sqlite:///{folder / 'runs.db'}"


@dataclass
class World(Generic[D]):
    """What outlives a process: the database, the clock, the outside, and the person who decides."""

    folder: Path
    machine: Machine[D]
    data: D
    llm: Callable[[World[D]], LLM] | None = None
    decision: Event | None = None
    """What the person answers a review state."""
    verdict: Callable[[World[D], ReviewRecord], Decision] | None = None
    """What the person answers a question about a call."""
    settings: Settings = SETTINGS
    life: int = 0
    """The number of the process that lives now, from 0."""
    clock: ManualClock = field(default_factory=ManualClock)
    ids: FirstIsFixed = field(default_factory=lambda: FirstIsFixed(3))
    effects: list[tuple[int, str]] = field(default_factory=list)
    """(life, idempotency key or transcript) of everything done to the outside."""
    points: list[int] = field(default_factory=list)
    """Persistence points that each life passed."""
    probe: Dying | None = None
    """The death of the process that lives now."""
    noises: list[str] = field(default_factory=list)
    """What an event loop complained about."""
    databases: Databases = in_file

    def __post_init__(self) -> None:
        self.url = self.databases(self.folder)

    # --- living ------------------------------------------------------------------------------------------------------

    def live(self, at: int | None = None) -> RunRecord | None:
        """One process, from its start to its death at point `at` (None) or to the end of the run (its head)."""
        self.ids.fresh = "runs" not in self.tables() or self.ask("SELECT 1 FROM runs") == []
        try:
            return asyncio.run(self._live(at))
        finally:
            self.life += 1

    async def _live(self, at: int | None) -> RunRecord | None:
        loop, died = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, context: self.noises.append(str(context)))
        probe = Dying(at, lambda: loop.call_soon_threadsafe(died.set))
        self.probe = probe
        story = asyncio.ensure_future(self._story(probe))
        death = asyncio.ensure_future(died.wait())
        over, _ = await asyncio.wait({story, death}, return_when=asyncio.FIRST_COMPLETED, timeout=HANGS)
        death.cancel()
        if not over:
            story.cancel()
            raise AssertionError(f"life {self.life} hangs after {probe.points} points: {self.ask('SELECT * FROM runs')}")
        if probe.dead:
            story.cancel()
            with contextlib.suppress(asyncio.CancelledError, StoreUnavailable):
                await story
            self.points.append(probe.points)
            return None
        run = await story
        self.points.append(probe.points)
        return run

    async def _story(self, probe: Dying) -> RunRecord:
        """What every process does, whatever came before it."""
        model = None if self.llm is None else self.llm(self)
        options: dict[str, Any] = {"settings": self.settings, "clock": self.clock, "ids": self.ids, "llm": model}
        async with Runtime(self.url, machines=[self.machine], store=open_store(self.url, probe=probe), **options) as runtime:
            run = await runtime.start(self.machine, self.data, key="the-run")
            with contextlib.suppress(RunClosed):
                await runtime.resume(run.id, force=True)
            run = await self._settled(runtime, run.id)
            while run.status is Status.WAITING:
                await self._decide(runtime, run)
                run = await self._settled(runtime, run.id)
            assert await runtime.verify(run.id) == []
            replayed = await runtime.replay(run.id)
            assert replayed.agrees, str(replayed.divergence)
            return run

    async def _settled(self, runtime: Runtime, run_id: str) -> RunRecord:
        time = asyncio.create_task(self._let_time_pass(runtime, run_id))
        try:
            return await runtime.wait(run_id)
        finally:
            time.cancel()

    async def _decide(self, runtime: Runtime, run: RunRecord) -> None:
        """The person answers the oldest question."""
        review = (await runtime.reviews(run.id, open_only=True))[0]
        if review.kind == "state":
            assert self.decision is not None
            await runtime.send(run.id, self.decision, by="ann")
        else:
            assert self.verdict is not None
            await runtime.decide(run.id, self.verdict(self, review), by="ann", review=review.id)

    async def _let_time_pass(self, runtime: Runtime, run_id: str) -> None:
        """Whenever the run is parked until some instant, that instant comes."""
        async for entry in runtime.follow(run_id):
            run = await runtime.get(run_id) if entry.kind == "waiting" else None
            if run is not None and run.waiting_for in {Waiting.TIMER, Waiting.RETRY} and run.due_at is not None:
                await self.clock.advance(max(timedelta(0), run.due_at - instant(self.clock.now())))
                # A poller that was just about to sleep when the clock jumped would sleep for as long again.
                runtime._worker.poke()

    # --- looking -----------------------------------------------------------------------------------------------------

    def ask(self, sql: str) -> list[Row]:
        """A query in SQLite's words, of which PostgreSQL lacks `hex`."""
        if isinstance(self.databases, OnServer):
            return self.databases.ask(self.url, re.sub(r"hex\(([\w.]+)\)", r"upper(encode(\1, 'hex'))", sql))
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as raw:
            return raw.execute(sql).fetchall()

    def tables(self) -> set[str]:
        """The tables that are there."""
        schema = (
            "SELECT tablename FROM pg_tables"
            if isinstance(self.databases, OnServer)
            else "SELECT name FROM sqlite_master WHERE type = 'table'"
        )
        return {name for (name,) in self.ask(schema)}

    def sound(self) -> None:
        """What must hold of the database at every moment, also between two lives."""
        if not isinstance(self.databases, OnServer):
            assert self.ask("PRAGMA integrity_check") == [("ok",)]
            assert self.ask("PRAGMA foreign_key_check") == []
        if "runs" in self.tables():
            ends = "SELECT max(seq) FROM transitions t WHERE t.run_id = r.run_id"
            assert self.ask(f"SELECT seq FROM runs r WHERE seq <> ({ends})") == []

    def written(self) -> set[Row]:
        """Every row that may never change again."""
        known = self.tables()
        kept = [name for name in ("transitions", "calls", "attempts", "payloads", "messages", "feed") if name in known]
        return {(name, *row) for name in kept for row in self.ask(f"SELECT * FROM {name}")}

    def journal(self) -> list[Row]:
        """The moves, with what they carried and when they were made."""
        return self.ask(
            "SELECT seq, source, event, target, at, actor, guards, calls, input_tokens, output_tokens,"
            " coalesce(payload, hex(payload_hash)) FROM transitions ORDER BY seq"
        )

    def calls(self) -> list[Row]:
        """The finished calls, in an order that does not depend on which of two was faster. A drawn number is not compared."""
        return self.ask(
            "SELECT seq, kind, name, hex(digest), occurrence, ok, attempts, input_tokens, output_tokens,"
            " CASE kind WHEN 'random' THEN '' ELSE coalesce(result, hex(result_hash)) END FROM calls"
            " ORDER BY seq, digest, occurrence"
        )

    def attempts(self) -> list[Row]:
        return self.ask("SELECT seq, hex(digest), occurrence, attempt, kind, due_at FROM attempts ORDER BY 1, 2, 3, 4, 5")


def some(points: int, *, step: int) -> range:
    """Every so many points, with an odd `step`, so that a point before a commit and one after it take turns."""
    return range(0, points, step if DEPTH == 1 else 1)


def pairs(first: int, second: int, *, most: int, seed: int) -> Iterator[tuple[int, int]]:
    """Pairs of points: all of them, or `most` drawn ones."""
    every, most = [(a, b) for a in range(first) for b in range(second)], most * DEPTH
    yield from every if len(every) <= most else sorted(random.Random(seed).sample(every, most))


def lives(world: World[D], points: Sequence[int], between: Callable[[], None] = lambda: None) -> RunRecord:
    """Die at each of the points in turn (a life that ends before its point does not die), then live to the end."""
    for at in points:
        if (ended := world.live(at)) is not None:
            return ended
        between()
    ended = world.live()
    assert ended is not None
    return ended
