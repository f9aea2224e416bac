"""The store over SQLAlchemy Core: writes by group commit, reads on a few readers of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import sqlalchemy as sa

from statecraft.errors import StoreUnavailable
from statecraft.records import AttemptRecord, CallRecord, FeedEntry, ReviewRecord, RunFilter, RunRecord, TransitionRecord
from statecraft.store import claims, reads, schema, sqlite
from statecraft.store.apply import Applier, Probe
from statecraft.store.committer import Committer
from statecraft.store.port import Loaded, MachineSpec, Write
from statecraft.store.verify import verify
from statecraft.store.writes import Step

R = TypeVar("R")


class SqlStore:
    """Implements `statecraft.store.port.Store`. Open it, and use it, on one event loop."""

    def __init__(self, database: sqlite.Sqlite, *, probe: Probe | None = None) -> None:
        self._database = database
        self._probe = probe
        self._link: sqlite.Link | None = None
        self._committer: Committer[Step] | None = None
        self._readers: ThreadPoolExecutor | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._committer is not None:
            return
        readers = ThreadPoolExecutor(self._database.readers, thread_name_prefix="statecraft read")
        try:
            link = await asyncio.get_running_loop().run_in_executor(readers, schema.prepare, self._database)
        except BaseException:
            readers.shutdown(wait=False)
            raise
        self._readers, self._link = readers, link
        self._committer = Committer(Applier(link, self._database.target, self._probe).commit)

    async def close(self) -> None:
        if self._committer is None or self._readers is None:
            return
        await self._committer.close()
        readers, self._readers = self._readers, None
        self._committer = None
        await asyncio.get_running_loop().run_in_executor(readers, self._disconnect)
        readers.shutdown(wait=False)

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._database.dispose()

    # --- writing -----------------------------------------------------------------------------------------------------

    async def register(self, machine: MachineSpec) -> int:
        known = await self._read(lambda sql: claims.number_of(sql, machine.fingerprint))
        if known is not None:
            return known
        number = await self._submit(machine)
        assert isinstance(number, int)
        return number

    async def submit(self, write: Write) -> object:
        return await self._submit(write)

    def _submit(self, write: Step) -> asyncio.Future[object]:
        if self._committer is None:
            raise _not_open()
        return self._committer.submit(write)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _read(self, question: Callable[[sa.Connection], R]) -> R:
        if self._readers is None:
            raise _not_open()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._ask, question)

    def _ask(self, question: Callable[[sa.Connection], R]) -> R:
        try:
            with self._database.reader() as sql:
                return question(sql)
        except sqlite.DATABASE_ERRORS as error:
            raise sqlite.translate(error, self._database.target) from error

    async def load(self, run_id: bytes) -> Loaded:
        return await self._read(lambda sql: reads.load(sql, run_id))

    async def run(self, run_id: bytes) -> RunRecord:
        return await self._read(lambda sql: claims.head(sql, run_id))

    async def find(self, prefix: str) -> list[str]:
        return await self._read(lambda sql: reads.find(sql, prefix))

    async def runs(self, which: RunFilter) -> list[RunRecord]:
        return await self._read(lambda sql: reads.runs(sql, which))

    async def next_due(self, machines: Sequence[int], only: frozenset[bytes] | None) -> int | None:
        return await self._read(lambda sql: claims.next_due(sql, machines, only))

    async def history(self, run_id: bytes) -> list[TransitionRecord]:
        return await self._read(lambda sql: reads.history(sql, run_id))

    async def calls(self, run_id: bytes, seq: int | None = None) -> list[CallRecord]:
        return await self._read(lambda sql: reads.calls(sql, run_id, seq))

    async def attempts(self, run_id: bytes, seq: int | None = None) -> list[AttemptRecord]:
        return await self._read(lambda sql: reads.attempts(sql, run_id, seq))

    async def reviews(self, run_id: bytes | None = None, *, open_only: bool = False) -> list[ReviewRecord]:
        return await self._read(lambda sql: reads.reviews(sql, run_id, open_only))

    async def diagnosis(self, run_id: bytes) -> str | None:
        return await self._read(lambda sql: reads.diagnosis(sql, run_id))

    async def feed(self, after: int, run_id: bytes | None = None, limit: int = 500) -> list[FeedEntry]:
        return await self._read(lambda sql: reads.feed(sql, after, run_id, limit))

    async def transcript(self, head: bytes) -> list[str]:
        return await self._read(lambda sql: reads.transcript(sql, head))

    async def blob(self, hash: bytes) -> str:
        return await self._read(lambda sql: reads.blob(sql, hash))

    async def spec(self, fingerprint: str) -> MachineSpec:
        return await self._read(lambda sql: reads.spec(sql, fingerprint))

    async def verify(self, run_id: bytes) -> list[str]:
        return await self._read(lambda sql: verify(sql, run_id))


def _not_open() -> StoreUnavailable:
    return StoreUnavailable("the store is not open")
