"""The store over SQLAlchemy Core: writes by group commit, reads on a few readers of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, cast

import sqlalchemy as sa

from statecraft.errors import StoreUnavailable, WriteRefused
from statecraft.letters import DeadFilter, DeadLetter, DeadPattern
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    DeliveryRecord,
    FeedEntry,
    ReviewRecord,
    RunFilter,
    RunRecord,
    ScheduleRecord,
    TransitionRecord,
)
from statecraft.stats.figures import Figures
from statecraft.stats.heat import Heat
from statecraft.store import (
    accounts,
    asked,
    claims,
    dead,
    due,
    errands,
    figures,
    heat,
    loading,
    reads,
    reminders,
    rewriting,
    schedules,
    schema,
)
from statecraft.store.apply import Applier, Probe
from statecraft.store.batched import Batched
from statecraft.store.database import Database, Link
from statecraft.store.outbox import Rule, Sightings
from statecraft.store.port import Loaded, MachineSpec, Version, Write
from statecraft.store.skew import later
from statecraft.store.verify import verify
from statecraft.store.writes import Step

R = TypeVar("R")
W = TypeVar("W")


Question = Callable[[sa.Connection], object]


class SqlStore:
    """Implements `statecraft.store.port.Store`. Open it, and use it, on one event loop."""

    def __init__(self, database: Database, *, probe: Probe | None = None, migrate: bool = True) -> None:
        self._database = database
        self._probe = probe
        self._migrate = migrate
        self._link: Link | None = None
        self._writer: Batched[Step] | None = None
        self._quick: Batched[Question] | None = None
        self._slow: Batched[Question] | None = None
        """For readers who ask for a whole history; whoever advances runs need not wait for them."""

    # --- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._writer is not None:
            return
        link = await asyncio.to_thread(schema.prepare, self._database, bring_up=self._migrate)
        self._link = link
        self._writer = Batched(Applier(link, self._database, self._probe).commit, "commit")
        self._quick = Batched(partial(self._ask, indexed=True), "read")
        self._slow = Batched(self._ask, "read on")

    async def close(self) -> None:
        threads = [thread for thread in (self._writer, self._quick, self._slow) if thread is not None]
        self._writer = self._quick = self._slow = None
        for thread in threads:
            await thread.close()
        if self._link is not None:
            link, self._link = self._link, None
            await asyncio.to_thread(self._disconnect, link)

    def _disconnect(self, link: Link) -> None:
        link.close()
        self._database.dispose()

    # --- writing -----------------------------------------------------------------------------------------------------

    async def register(self, machine: MachineSpec) -> int:
        known = await self._read(lambda sql: claims.registered(sql, machine))
        if known is not None:
            return known
        number = await self._submit(machine)
        assert isinstance(number, int)
        return number

    def submit(self, write: Write) -> asyncio.Future[object]:
        return self._submit(write)

    def _submit(self, write: Step) -> asyncio.Future[object]:
        return _open(self._writer).submit(write)

    def listen(self, wake: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def woken() -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended.
                loop.call_soon_threadsafe(wake)

        self._database.listen(woken)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _ask(self, questions: Sequence[Question], *, indexed: bool = False) -> list[object]:
        """Answer all in one read transaction, so that they see the same database, and each by itself."""
        database = self._database
        try:
            with database.reader(indexed=indexed) as sql:
                return _answers(sql, questions, database.errors)
        except database.errors as error:
            told = database.translate(error)
            if len(questions) == 1 or database.lost(error) or not isinstance(told, WriteRefused):
                return [told for _ in questions]
        return [self._ask([question], indexed=indexed)[0] for question in questions]

    async def _read(self, question: Callable[[sa.Connection], R]) -> R:
        return cast(R, await _open(self._quick).submit(question))

    async def _read_on(self, question: Callable[[sa.Connection], R]) -> R:
        return cast(R, await _open(self._slow).submit(question))

    def _ours(self, found: R) -> R:
        """With leases and due times by our clock."""
        shift = self._database.shift
        return cast(R, later(found, -shift)) if shift else found

    async def load(self, run_id: bytes) -> Loaded:
        loaded = await self._read(_Load(run_id))
        return replace(loaded, run=self._ours(loaded.run)) if self._database.shift else loaded

    async def run(self, run_id: bytes) -> RunRecord:
        return self._ours(await self._read(lambda sql: claims.head(sql, run_id)))

    async def find(self, prefix: str) -> list[str]:
        return await self._read(lambda sql: reads.find(sql, prefix))

    async def every(self) -> list[bytes]:
        return await self._read_on(reads.every)

    async def runs(self, which: RunFilter) -> list[RunRecord]:
        return self._ours(await self._read_on(lambda sql: reads.runs(sql, which)))

    async def next_due(
        self,
        machines: Sequence[int],
        only: frozenset[bytes] | None,
        queues: Sequence[str] = ("default",),
        limits: Sequence[tuple[str, int]] = (),
    ) -> int | None:
        at = await self._read(lambda sql: due.next_due(sql, machines, only, queues, limits))
        return None if at is None else at - self._database.shift

    async def history(self, run_id: bytes) -> list[TransitionRecord]:
        return await self._read_on(lambda sql: reads.history(sql, run_id))

    async def calls(self, run_id: bytes, seq: int | None = None) -> list[CallRecord]:
        return await self._read_on(lambda sql: reads.calls(sql, run_id, seq))

    async def attempts(self, run_id: bytes, seq: int | None = None) -> list[AttemptRecord]:
        return await self._read(lambda sql: reads.attempts(sql, run_id, seq))

    async def reviews(self, run_id: bytes | None = None, *, open_only: bool = False) -> list[ReviewRecord]:
        return await self._read(lambda sql: asked.reviews(sql, run_id, open_only))

    async def used(self, meters: Sequence[str]) -> dict[str, int]:
        return await self._read(lambda sql: accounts.used(sql, meters))

    async def sightings(self, now: int, rule: Rule) -> Sightings:
        return await self._read_on(lambda sql: reminders.sightings(sql, now, rule))

    async def next_delivery(self, channel: str) -> int | None:
        return await self._read(lambda sql: errands.next_delivery(sql, channel))

    async def deliveries(self, *, failed: bool = False, event: str = "", limit: int = 50) -> list[DeliveryRecord]:
        return await self._read_on(lambda sql: errands.deliveries(sql, failed, event, limit))

    async def schedules(self, name: str | None = None) -> list[ScheduleRecord]:
        return await self._read(lambda sql: schedules.listed(sql, name))

    async def due_schedules(self, machines: Sequence[str], now: int) -> list[ScheduleRecord]:
        return await self._read(lambda sql: schedules.due(sql, machines, now))

    async def next_schedule(self, machines: Sequence[str]) -> int | None:
        return await self._read(lambda sql: schedules.earliest(sql, machines))

    async def figures(self, now: int) -> Figures:
        return await self._read_on(lambda sql: figures.figures(sql, now, self._database.shift))

    async def heat(self, machine: str, since: int) -> Heat:
        return await self._read_on(lambda sql: heat.heat(sql, machine, since))

    async def diagnosis(self, run_id: bytes) -> str | None:
        return await self._read(lambda sql: reads.diagnosis(sql, run_id))

    async def dead_letters(self, which: DeadFilter) -> list[DeadLetter]:
        return await self._read_on(lambda sql: dead.letters(sql, which))

    async def dead_letter(self, run_id: bytes) -> DeadLetter | None:
        return await self._read(lambda sql: dead.letter(sql, run_id))

    async def dead_patterns(self, which: DeadFilter) -> list[DeadPattern]:
        return await self._read_on(lambda sql: dead.patterns(sql, which))

    async def feed(self, after: int, run_id: bytes | None = None, limit: int = 500) -> list[FeedEntry]:
        # Of one run, positions grow with its commits, since its writers wait for each other. Of all runs, what somebody may
        # still commit below a position is waited for; this is asked before what is committed.
        upto = await self._read_on(self._database.feed_end) if run_id is None else None
        return await self._read_on(lambda sql: reads.feed(sql, after, run_id, limit, upto))

    async def transcript(self, head: bytes) -> list[str]:
        return await self._read_on(lambda sql: reads.transcript(sql, head))

    async def blob(self, hash: bytes) -> str:
        return await self._read(lambda sql: reads.blob(sql, hash))

    async def spec(self, fingerprint: str) -> MachineSpec:
        return await self._read(lambda sql: reads.spec(sql, fingerprint))

    async def known(self, fingerprint: str) -> list[Version]:
        return await self._read(lambda sql: rewriting.known(sql, fingerprint))

    async def versions(self, names: Sequence[str]) -> list[Version]:
        return await self._read(lambda sql: rewriting.versions(sql, names))

    async def verify(self, run_id: bytes) -> list[str]:
        return await self._read_on(lambda sql: verify(sql, run_id))


@dataclass(frozen=True)
class _Load:
    """The question of all that is needed to go on with a run. Those that are asked together are answered together."""

    run_id: bytes

    def __call__(self, sql: sa.Connection) -> Loaded:
        (found,) = loading.load(sql, [self.run_id])
        if isinstance(found, Exception):
            raise found
        return found


def _answers(sql: sa.Connection, questions: Sequence[Question], passed_on: tuple[type[Exception], ...]) -> list[object]:
    ids = list(dict.fromkeys(question.run_id for question in questions if isinstance(question, _Load)))
    loaded = dict(zip(ids, loading.load(sql, ids), strict=True)) if ids else {}
    return [
        loaded[question.run_id] if isinstance(question, _Load) else _answer(sql, question, passed_on) for question in questions
    ]


def _answer(sql: sa.Connection, question: Question, passed_on: tuple[type[Exception], ...]) -> object:
    try:
        return question(sql)
    except passed_on:
        raise
    except Exception as error:  # noqa: BLE001  # It is this reader's outcome, whatever it is.
        return error


def _open(thread: Batched[W] | None) -> Batched[W]:
    if thread is None:
        raise StoreUnavailable("the store is not open")
    return thread
