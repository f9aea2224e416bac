"""The store over SQLAlchemy Core: writes by group commit, reads on a few readers of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import sqlalchemy as sa

from statecraft.errors import StoreUnavailable
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    DeliveryRecord,
    FeedEntry,
    ReviewRecord,
    RunFilter,
    RunRecord,
    TransitionRecord,
)
from statecraft.store import accounts, asked, claims, errands, reads, reminders, schema, sqlite
from statecraft.store.apply import Applier, Probe
from statecraft.store.batched import Batched
from statecraft.store.port import Loaded, MachineSpec, Rule, Sightings, Write
from statecraft.store.verify import verify
from statecraft.store.writes import Step

R = TypeVar("R")
W = TypeVar("W")


Question = Callable[[sa.Connection], object]


class SqlStore:
    """Implements `statecraft.store.port.Store`. Open it, and use it, on one event loop."""

    def __init__(self, database: sqlite.Sqlite, *, probe: Probe | None = None) -> None:
        self._database = database
        self._probe = probe
        self._link: sqlite.Link | None = None
        self._writer: Batched[Step] | None = None
        self._quick: Batched[Question] | None = None
        self._slow: Batched[Question] | None = None
        """For readers who ask for a whole history; whoever advances runs need not wait for them."""

    # --- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._writer is not None:
            return
        link = await asyncio.to_thread(schema.prepare, self._database)
        self._link = link
        self._writer = Batched(Applier(link, self._database.target, self._probe).commit, "commit")
        self._quick = Batched(self._ask, "read")
        self._slow = Batched(self._ask, "read on")

    async def close(self) -> None:
        threads = [thread for thread in (self._writer, self._quick, self._slow) if thread is not None]
        self._writer = self._quick = self._slow = None
        for thread in threads:
            await thread.close()
        if self._link is not None:
            link, self._link = self._link, None
            await asyncio.to_thread(self._disconnect, link)

    def _disconnect(self, link: sqlite.Link) -> None:
        link.close()
        self._database.dispose()

    # --- writing -----------------------------------------------------------------------------------------------------

    async def register(self, machine: MachineSpec) -> int:
        known = await self._read(lambda sql: claims.number_of(sql, machine.fingerprint))
        if known is not None:
            return known
        number = await self._submit(machine)
        assert isinstance(number, int)
        return number

    def submit(self, write: Write) -> asyncio.Future[object]:
        return self._submit(write)

    def _submit(self, write: Step) -> asyncio.Future[object]:
        return _open(self._writer).submit(write)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _ask(self, questions: Sequence[Question]) -> list[object]:
        """Answer all in one read transaction, so that they see the same database, and each by itself."""
        try:
            with self._database.reader() as sql:
                return [self._answer(sql, question) for question in questions]
        except sqlite.DATABASE_ERRORS as error:
            return [sqlite.translate(error, self._database.target) for _ in questions]

    def _answer(self, sql: sa.Connection, question: Question) -> object:
        try:
            return question(sql)
        except sqlite.DATABASE_ERRORS as error:
            return sqlite.translate(error, self._database.target)
        except Exception as error:  # noqa: BLE001  # It is this reader's outcome, whatever it is.
            return error

    async def _read(self, question: Callable[[sa.Connection], R]) -> R:
        return cast(R, await _open(self._quick).submit(question))

    async def _read_on(self, question: Callable[[sa.Connection], R]) -> R:
        return cast(R, await _open(self._slow).submit(question))

    async def load(self, run_id: bytes) -> Loaded:
        return await self._read(lambda sql: reads.load(sql, run_id))

    async def run(self, run_id: bytes) -> RunRecord:
        return await self._read(lambda sql: claims.head(sql, run_id))

    async def find(self, prefix: str) -> list[str]:
        return await self._read(lambda sql: reads.find(sql, prefix))

    async def runs(self, which: RunFilter) -> list[RunRecord]:
        return await self._read_on(lambda sql: reads.runs(sql, which))

    async def next_due(self, machines: Sequence[int], only: frozenset[bytes] | None) -> int | None:
        return await self._read(lambda sql: claims.next_due(sql, machines, only))

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

    async def diagnosis(self, run_id: bytes) -> str | None:
        return await self._read(lambda sql: reads.diagnosis(sql, run_id))

    async def feed(self, after: int, run_id: bytes | None = None, limit: int = 500) -> list[FeedEntry]:
        return await self._read_on(lambda sql: reads.feed(sql, after, run_id, limit))

    async def transcript(self, head: bytes) -> list[str]:
        return await self._read_on(lambda sql: reads.transcript(sql, head))

    async def blob(self, hash: bytes) -> str:
        return await self._read(lambda sql: reads.blob(sql, hash))

    async def spec(self, fingerprint: str) -> MachineSpec:
        return await self._read(lambda sql: reads.spec(sql, fingerprint))

    async def verify(self, run_id: bytes) -> list[str]:
        return await self._read_on(lambda sql: verify(sql, run_id))


def _open(thread: Batched[W] | None) -> Batched[W]:
    if thread is None:
        raise StoreUnavailable("the store is not open")
    return thread
