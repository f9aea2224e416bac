"""The writing connection to PostgreSQL: its transactions, and what becomes of them when the connection is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, cast

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import InvalidRequestError

from statecraft import trace
from statecraft.errors import StoreUnavailable
from statecraft.store.postgres import faults, feed, locks
from statecraft.store.postgres.arrays import Blobs, Ints, Texts, TooMuch
from statecraft.store.postgres.batch import Batch, batch
from statecraft.store.skew import moved
from statecraft.store.statements import Row, Statement
from statecraft.store.writes import Step

if TYPE_CHECKING:
    from statecraft.store.postgres.server import Postgres

IDLE_SECONDS = 15
"""A writer that stands still in the middle of a transaction for longer was stopped; what it holds is needed by others."""

BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
"""Plans are kept, and one made while a table was small would read all of it for ever."""

SETTINGS = f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'; {BY_INDEX}"
"""Of a writer."""

PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds before each attempt to find out what became of a commit."""

_PIPELINES = psycopg.Pipeline.is_supported()

_BEGIN = b"BEGIN; SELECT pg_current_xact_id()::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_ANNOUNCE = f", {feed.ANNOUNCE}".encode()
_FATE = """SELECT pg_xact_status(%s::xid8), (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint,
    (SELECT floor(extract(epoch FROM checkpoint_time))::bigint FROM pg_control_checkpoint())"""
_END_OF = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = %s::xid8::xid
    AND (extract(epoch FROM xact_start) * 1000000)::bigint <= %s"""
"""By its transaction alone: behind a pooler, the number of its process that we were told is the pooler's. One that began later
has our number because a crash gave it away again, and is somebody else's."""


class Link:
    """Implements `database.Link`. One statement writes all rows of a batch (`batch`)."""

    def __init__(self, server: Postgres, pause: Callable[[float], object]) -> None:
        self.gate: AbstractContextManager[object] = nullcontext()
        self._server = server
        self._pause = pause
        self._sql: sa.Connection | None = None
        self._xid = ""
        self._woke = False
        """Whether the transaction made something due."""
        self._announces = False
        """Whether each transaction begins with `feed.ANNOUNCE`; there is no feed before the schema is made."""
        self._pending: list[tuple[bytes, Sequence[object]]] = []
        """What is sent together with the next statements: one trip to the server instead of two."""
        self._begun = 0
        """When the transaction at hand began, in microseconds of the server's clock."""
        self._connect()

    @property
    def sql(self) -> sa.Connection:
        if self._sql is None:
            self._reconnect(None)
        self._flush()
        return cast(sa.Connection, self._sql)

    @property
    def shift(self) -> int:
        return self._server.skew.shift

    @property
    def in_transaction(self) -> bool:
        return self._sql is not None and self._raw.info.transaction_status in (
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        )

    # --- the connection ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._sql = self._server.connect()
        self._raw = cast("psycopg.Connection[Any]", self._sql.connection.dbapi_connection)
        self._new: Callable[[], psycopg.Cursor[Any]] = self._raw.cursor
        self._cursor = self._new()

    def _drop(self) -> None:
        """Have done with a connection that is of no use any more."""
        sql, self._sql = self._sql, None
        self._pending = []
        if sql is not None:
            with suppress(*self._server.errors, InvalidRequestError):
                sql.invalidate()
                sql.close()

    def _reconnect(self, error: BaseException | None) -> None:
        self._drop()
        self._connect()
        said = "" if error is None else str(faults.translate(error, self._server.target))
        trace.emit("store.reconnected", {"database": str(self._server.target), "error": said}, level=logging.WARNING)

    def close(self) -> None:
        self.rollback()
        if self._sql is not None:
            self._sql.close()
            self._sql = None

    # --- transactions ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        if self._sql is None:
            self._reconnect(None)
        try:
            self._begin()
        except psycopg.Error as error:
            if not faults.lost(error):
                raise
            # It went while nobody used it, so nothing is lost with it.
            self._reconnect(error)
            self._begin()

    def _begin(self) -> None:
        self._woke, self._pending = False, []
        with self._server.skew.measured() as measured:
            self._cursor.execute(_BEGIN + _ANNOUNCE if self._announces else _BEGIN)
            self._cursor.nextset()
            found = self._cursor.fetchone()
            assert found is not None
            self._xid, self._begun = found[0], found[1]
            measured(self._begun)

    def hold(self, writes: Sequence[Step]) -> None:
        if not self._announces:
            self._cursor.execute(b"SELECT 1" + _ANNOUNCE)
            self._announces = True
        heads, ending, meters = locks.heads(writes), locks.ending(writes), locks.meters(writes)
        if ending:
            self._pending.append((locks.HEADS_AND_FAMILIES.encode(), (Blobs(ending), Blobs(heads))))
        elif heads:
            self._pending.append((locks.HEADS.encode(), (Blobs(heads),)))
        if meters:
            self._pending.append((locks.METERS.encode(), (Ints(meters),)))
        # One alone has an order of its own: that of its one statement.
        if len(writes) > 1 and (charged := locks.charged(writes)):
            self._pending.append((locks.CHARGED.encode(), (Texts(charged),)))

    def run(self, work: Sequence[tuple[Statement, Sequence[Row]]]) -> Iterator[int]:
        prepared = [self._ready(statement, rows) for statement, rows in work]
        waiting, self._pending = self._pending, []
        done, failed = self._send([*waiting, *((known.text, values) for known, _, values in prepared)])
        for (known, rows, _), cursor in zip(prepared, done[len(waiting) :], strict=False):
            self._woke = self._woke or (cursor.rowcount > 0 and known.wakes(rows))
            yield cursor.rowcount
        if isinstance(failed, TooMuch):
            at = len(done) - len(waiting)
            statement, rows = work[at]
            half = len(rows) // 2
            yield sum(self.run([(statement, rows[:half]), (statement, rows[half:])]))
            yield from self.run(work[at + 1 :])
        elif failed is not None:
            raise failed

    def _ready(self, statement: Statement, rows: Sequence[Row]) -> tuple[Batch, Sequence[Row], Sequence[object]]:
        known = batch(statement, self._server.dialect)
        if statement.merge is not None and len(rows) > 1:
            rows = statement.merge(rows)
        if known.instants and self.shift:
            rows = moved(rows, known.instants, self.shift)
        values = zip(known.columns, zip(*rows, strict=True), strict=True)
        return known, rows, [send(column) for send, column in values]

    def _send(self, work: Sequence[tuple[bytes, Sequence[object]]]) -> tuple[list[psycopg.Cursor[Any]], Exception | None]:
        """Run all in order, in one trip; answer those that succeeded, and what the next one failed with."""
        sent: list[psycopg.Cursor[Any]] = []
        failed: Exception | None = None
        try:
            with self._raw.pipeline() if len(work) > 1 and _PIPELINES else nullcontext():
                for text, values in work:
                    sent.append(cursor := self._new())
                    cursor.execute(text, values)
        except Exception as error:  # noqa: BLE001  # It is raised after the answers of those before it.
            failed = error
        return [cursor for cursor in sent if cursor.statusmessage is not None], failed

    def _flush(self) -> None:
        """Run what waits to be sent."""
        waiting, self._pending = self._pending, []
        _, failed = self._send(waiting)
        if failed is not None:
            raise failed

    def execute(self, sql: str) -> None:
        self._flush()
        self._cursor.execute(sql.encode())

    def mark(self) -> None:
        self._flush()
        self._cursor.execute("SAVEPOINT one")

    def keep(self) -> None:
        self._cursor.execute("RELEASE one")

    def undo(self) -> None:
        self._cursor.execute("ROLLBACK TO one; RELEASE one")

    def rollback(self) -> None:
        self._pending = []
        if self._sql is None:
            return
        try:
            if self._raw.closed:
                self._drop()
            elif self._raw.info.transaction_status != TransactionStatus.IDLE:
                self._cursor.execute("ROLLBACK")
        except psycopg.Error:
            self._drop()

    def commit(self) -> None:
        self._flush()
        try:
            self._cursor.execute("COMMIT")
        except psycopg.Error as error:
            if not faults.lost(error):
                raise
            self._find_out(error)
        if self._woke:
            self._server.hints.tell()

    # --- a commit without an answer ----------------------------------------------------------------------------------

    def _find_out(self, error: psycopg.Error) -> None:
        """Return if the transaction was committed though nobody told us; raise `StoreUnavailable` if it was not, or if
        that cannot be told."""
        fate: str | None = None
        for pause in PAUSES:
            self._pause(pause)
            try:
                self._reconnect(error)
                fate = self._fate()
                if fate == "in progress":
                    self._cursor.execute(_END_OF, (self._xid, self._begun))
                    continue
                break
            except self._server.errors:
                continue
        told = {"database": str(self._server.target), "xid": self._xid, "outcome": fate or "unknown"}
        trace.emit("store.resolved", told, level=logging.WARNING)
        if fate == "committed":
            return
        where = f"the connection to {self._server.target} was lost during a commit"
        if fate == "aborted":
            raise StoreUnavailable(f"{where}; nothing of it was kept: resume when the server is there") from error
        raise StoreUnavailable(
            f"{where}, and the server cannot tell its outcome (transaction {self._xid}); look at the run before trying again"
        ) from error

    def _fate(self) -> str | None:
        """`committed`, `aborted`, `in progress`, or None if the server cannot tell.

        A crash loses numbers of transactions that had written nothing durable, and the server gives them away again: after a
        restart or a recovery (which ends with a checkpoint, whose second is known) since ours began, `committed` may be said
        of somebody else's. An ordinary checkpoint in that second is taken for one, which is safe and seldom.
        """
        self._cursor.execute(_FATE, (self._xid,))
        fate, restarted, recovered = cast("tuple[str | None, int, int]", self._cursor.fetchone())
        doubtful = restarted > self._begun or recovered >= self._begun // 1_000_000
        return None if fate == "committed" and doubtful else fate
