"""One PostgreSQL database: its engines, its readers, what its errors mean."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from statecraft.clock import Clock
from statecraft.errors import StoreError, StoreUnavailable
from statecraft.store import database
from statecraft.store.postgres import faults, feed, rules
from statecraft.store.postgres.address import Target, connect, parse
from statecraft.store.postgres.clocks import Skew
from statecraft.store.postgres.hints import Hints
from statecraft.store.postgres.link import BY_INDEX, SETTINGS, Link

__all__ = ["OLDEST", "Postgres", "parse"]

OLDEST = 14
"""The oldest PostgreSQL that is still maintained."""

_EVERY_CHARACTER = (None, "UTF8", "SQL_ASCII")
"""Encodings that keep any text. (The last one keeps bytes as they come, and ours are UTF-8; a pooler may tell none.)"""

_SCHEMA_LOCK = 0x5747_4352_4146_5400
"""Number of the advisory lock under which a schema is made."""


class Postgres:
    """Implements `database.Database`."""

    shared = True
    errors = (psycopg.Error, DBAPIError)

    def __init__(self, target: Target, clock: Clock | None = None, pause: Callable[[float], object] | None = None) -> None:
        self.target = target
        self.skew = Skew(clock)
        self.hints = Hints(target)
        self._pause = pause or threading.Event().wait
        self._writer = self._engine(lambda: connect(target, SETTINGS), sa.pool.NullPool)
        self._reader = self._engine(lambda: connect(target), sa.pool.QueuePool)
        self._quick = self._engine(lambda: connect(target, BY_INDEX), sa.pool.QueuePool)

    def _engine(self, creator: Callable[[], psycopg.Connection[Any]], pool: type[sa.Pool]) -> sa.Engine:
        return sa.create_engine(
            "postgresql+psycopg://",
            creator=creator,
            poolclass=pool,
            isolation_level="AUTOCOMMIT",
            paramstyle="format",
            use_native_hstore=False,
        )

    @property
    def dialect(self) -> sa.Dialect:
        """For compiling statements."""
        return self._writer.dialect

    @property
    def shift(self) -> int:
        return self.skew.shift

    def check_place(self) -> None:
        """Nothing to do: connecting tells."""

    def connect(self) -> sa.Connection:
        """A connection for writing."""
        return self._writer.connect()

    def writer(self) -> Link:
        self.hints = Hints(self.target)
        return Link(self, self._pause)

    def settle(self, link: database.Link) -> None:
        version = link.sql.dialect.server_version_info or (OLDEST,)
        if int(version[0]) < OLDEST:
            found = ".".join(map(str, version))
            raise StoreUnavailable(f"{self.target} runs PostgreSQL {found}; this needs {OLDEST} or newer: upgrade the server")
        raw = cast("psycopg.Connection[Any]", link.sql.connection.dbapi_connection)
        encoding = raw.info.parameter_status("server_encoding")
        if encoding not in _EVERY_CHARACTER:
            raise StoreUnavailable(
                f"{self.target} keeps texts as {encoding}, which lacks characters; make it with `createdb -E UTF8 -T template0`"
            )

    def hold_schema(self, link: database.Link) -> None:
        link.execute(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")

    def rules(self) -> list[str]:
        return rules.statements()

    def reader(self, *, indexed: bool = False) -> Reading:
        return Reading(self._quick if indexed else self._reader)

    def feed_end(self, sql: sa.Connection) -> int:
        return feed.end(sql)

    def lost(self, error: BaseException) -> bool:
        return faults.lost(error)

    def again(self, error: BaseException) -> bool:
        return faults.again(error)

    def translate(self, error: BaseException) -> StoreError:
        return faults.translate(error, self.target)

    def listen(self, wake: Callable[[], None]) -> None:
        self.hints.listen(wake)

    def dispose(self) -> None:
        self.hints.close()
        self._reader.dispose()
        self._quick.dispose()
        self._writer.dispose()


class Reading:
    """A read transaction: every statement in it sees the same database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def __enter__(self) -> sa.Connection:
        try:
            self._begin()
        except Postgres.errors as error:
            if not faults.lost(error):
                raise
            self._begin()  # Pooled connections of a server that is gone; now they are known to be.
        return self._sql

    def _begin(self) -> None:
        self._pool = self._engine.pool
        self._sql = self._engine.connect()
        try:
            self._sql.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except BaseException:
            self._leave()
            raise

    def __exit__(self, *error: object) -> None:
        with suppress(*Postgres.errors, InvalidRequestError):  # So SQLAlchemy calls a connection that was lost in between.
            raw = self._sql.connection.dbapi_connection
            if raw is not None and not cast("psycopg.Connection[Any]", raw).closed:
                cast("psycopg.Connection[Any]", raw).execute("ROLLBACK")
        self._leave()

    def _leave(self) -> None:
        """Give the connection back, unless it is of no use to anybody."""
        with suppress(*Postgres.errors, InvalidRequestError):
            raw = self._sql.connection.dbapi_connection
            if raw is None or cast("psycopg.Connection[Any]", raw).closed:
                self._engine.dispose()
                self._sql.invalidate()
            elif self._pool is not self._engine.pool:  # Another reader found its own lost: nobody would close ours any more.
                self._sql.invalidate()
        self._sql.close()
