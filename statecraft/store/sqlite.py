"""Everything that is particular to SQLite: addresses, connections, triggers, and what its errors mean.

A second database gets a module like this one; nothing else in the room knows which it is.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import ArgumentError, DBAPIError

from statecraft.clock import SystemClock
from statecraft.errors import ConfigError, StoreError, StoreFull, StoreUnavailable, WriteRefused
from statecraft.store import fleet, tables
from statecraft.store.outgrown import Waits

Monotonic = Callable[[], float]
"""Seconds on a clock that never goes back."""

OLDEST = (3, 37)
"""STRICT tables came with this version of SQLite."""

BUSY_SECONDS = 30
"""How long a writer waits for another process's transaction."""

_PAGE_BYTES = 2048
"""Measured for rows of about 2 KB: such a row leaves a short stub in its page and fills one overflow page. Bigger pages
waste a third to a half of themselves on it, and a lone commit has to write them whole."""

_CHECKPOINT_PAGES = 4000
_CACHE_KIB = 16_384
_STATEMENTS = 256
"""Prepared statements kept per connection."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a database lives."""

    path: Path | None
    """None: in memory."""

    def __str__(self) -> str:
        return "the database in memory" if self.path is None else str(self.path)


def parse(url: str) -> Target:
    """The target that a URL names. Raises `ConfigError` for anything but `sqlite:///path` and `sqlite://`."""
    try:
        parts = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(f"{url!r} is not a database URL; use sqlite:///path/to/file.db, or sqlite:// for memory") from None
    if parts.drivername != "sqlite":
        raise ConfigError(
            f"{parts.drivername!r} databases are not supported; use sqlite:///path/to/file.db, or sqlite:// for memory"
        )
    if parts.host or parts.query:
        raise ConfigError(
            f"{url!r} has a host or options, which SQLite does not take; a path follows three slashes: sqlite:///file.db"
        )
    in_memory = parts.database in (None, "", ":memory:")
    return Target(None if in_memory else Path(str(parts.database)).absolute())


_PRAGMAS = (
    f"page_size={_PAGE_BYTES}",
    "synchronous=FULL",
    "foreign_keys=ON",
    f"cache_size=-{_CACHE_KIB}",
    f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
)
"""What each connection is told first. The page size counts only for a file that is still empty."""


class Link:
    """The one connection that writes, with its transactions in plain sight.

    `sql` runs SQLAlchemy statements inside the transaction at hand. `many` is the hot path: SQL compiled once, tuples
    ready made. It runs row by row on purpose: SQLite answers a several-row INSERT into a table that others refer to
    by searching those others for every row, which costs more the longer a run's history is.
    """

    def __init__(self, sql: sa.Connection, gate: AbstractContextManager[object], monotonic: Monotonic, waits: Waits) -> None:
        self.sql = sql
        self.gate = gate
        self._monotonic = monotonic
        self._waits = waits
        """Held around each transaction; a real lock only if readers share the connection."""
        self._raw = cast(sqlite3.Connection, sql.connection.dbapi_connection)
        self._cursor = self._raw.cursor()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; some errors end it behind our back."""
        return self._raw.in_transaction

    def begin(self) -> None:
        started = self._monotonic()
        try:
            self._cursor.execute("BEGIN IMMEDIATE")
        finally:
            now = self._monotonic()
            self._waits.count(now, now - started)

    def commit(self) -> None:
        self._cursor.execute("COMMIT")

    def rollback(self) -> None:
        if self._raw.in_transaction:
            self._cursor.execute("ROLLBACK")

    def mark(self) -> None:
        """Set the point that `undo` goes back to."""
        self._cursor.execute("SAVEPOINT one")

    def keep(self) -> None:
        """Forget the mark; what was done since stays in the transaction."""
        self._cursor.execute("RELEASE one")

    def undo(self) -> None:
        """Take back everything since the mark."""
        self._cursor.execute("ROLLBACK TO one")
        self._cursor.execute("RELEASE one")

    def many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run one statement for each row; answer how many rows of the database it touched."""
        if len(rows) == 1:
            self._cursor.execute(sql, rows[0])
        else:
            self._cursor.executemany(sql, rows)
        return self._cursor.rowcount

    def execute(self, sql: str) -> None:
        """Run a statement of the database's own language, such as a PRAGMA."""
        self._cursor.execute(sql)

    def close(self) -> None:
        """Give up what is not committed, and the connection."""
        self.rollback()
        self.sql.close()


class Sqlite:
    """One SQLite database: its engines, its writing connection, its readers."""

    def __init__(self, target: Target, monotonic: Monotonic | None = None) -> None:
        self.target = target
        self._monotonic = monotonic or SystemClock().monotonic
        self._waits = Waits(target)
        self._gate = threading.Lock() if target.path is None else nullcontext()
        if target.path is None:
            self._writer = sa.create_engine(
                "sqlite://", creator=self._connect, poolclass=sa.pool.StaticPool, isolation_level="AUTOCOMMIT"
            )
            self._reader = self._writer
        else:
            self._writer = sa.create_engine(
                "sqlite://", creator=self._connect, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT"
            )
            self._reader = sa.create_engine(
                "sqlite://", creator=self._connect_reader, poolclass=sa.pool.QueuePool, isolation_level="AUTOCOMMIT"
            )

    @property
    def dialect(self) -> sa.Dialect:
        """For compiling statements."""
        return self._writer.dialect

    def writer(self) -> Link:
        """Open the connection that writes."""
        return Link(self._writer.connect(), self._gate, self._monotonic, self._waits)

    def reader(self) -> Reading:
        """A consistent view of the database, for a `with` block."""
        return Reading(self._reader, self._gate)

    def dispose(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        self._writer.dispose()

    def _connect(self) -> sqlite3.Connection:
        name = ":memory:" if self.target.path is None else str(self.target.path)
        link = sqlite3.connect(
            name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS
        )
        try:
            for pragma in _PRAGMAS:
                link.execute(f"PRAGMA {pragma}")
        except BaseException:
            link.close()
            raise
        return link

    def _connect_reader(self) -> sqlite3.Connection:
        link = self._connect()
        link.execute("PRAGMA query_only=ON")
        return link


class Reading:
    """A read transaction: every statement in it sees the same database."""

    def __init__(self, engine: sa.Engine, gate: AbstractContextManager[object]) -> None:
        self._engine = engine
        self._gate = gate

    def __enter__(self) -> sa.Connection:
        self._gate.__enter__()
        try:
            self._sql = self._engine.connect()
            self._sql.exec_driver_sql("BEGIN")
        except BaseException:
            self._gate.__exit__(None, None, None)
            raise
        return self._sql

    def __exit__(self, *error: object) -> None:
        try:
            self._sql.exec_driver_sql("ROLLBACK")
            self._sql.close()
        finally:
            self._gate.__exit__(None, None, None)


def insert_or_leave(table: sa.Table) -> sa.Insert:
    """An INSERT that does nothing where a row with the same primary key exists."""
    return sqlite_insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key.columns))


def insert_or_replace(table: sa.Table) -> sa.Insert:
    """An INSERT that overwrites the other columns where a row with the same primary key exists."""
    statement = sqlite_insert(table)
    keys = list(table.primary_key.columns)
    rest = {column.name: statement.excluded[column.name] for column in table.columns if column not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=rest)


def insert_or_update(table: sa.Table, **change: Callable[[sa.ColumnElement[Any], sa.ColumnElement[Any]], object]) -> sa.Insert:
    """An INSERT that, where a row with the same primary key exists, changes only the columns named: each function is
    given the old value and the new one."""
    statement = sqlite_insert(table)
    values = {name: rule(table.c[name], statement.excluded[name]) for name, rule in change.items()}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=values)


def triggers() -> list[str]:
    """The rules that no constraint can say: what may never change, never be deleted, never be replaced."""
    kept = [table.name for table in (*tables.APPEND_ONLY, *fleet.APPEND_ONLY)]
    rules = [(f"{name}_no_update", f"BEFORE UPDATE ON {name}", f"{name} is append-only") for name in kept]
    rules += [
        (f"{name}_no_delete", f"BEFORE DELETE ON {name}", f"{name} rows stay")
        for name in [*kept, "runs", "reviews", "call_reviews"]
    ]
    # INSERT OR REPLACE deletes without firing DELETE triggers, so a row that exists must be refused before that.
    for number, (name, same) in enumerate(_IDENTITY):
        known = f"BEFORE INSERT ON {name} WHEN EXISTS (SELECT 1 FROM {name} AS old WHERE {same})"  # noqa: S608  # our own words
        rules.append((f"{name}_no_replace_{number}", known, f"{name} has that row already"))
    return [_refuse(*rule) for rule in (*rules, *_RULES)]


def _refuse(name: str, when: str, message: str) -> str:
    return f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, '{message}'); END"


_SAME_VISIT = "old.run_id = NEW.run_id AND old.seq = NEW.seq"
_SAME_QUESTION = f"{_SAME_VISIT} AND old.digest = NEW.digest AND old.occurrence = NEW.occurrence"
_IDENTITY = (
    ("machines", "old.fingerprint = NEW.fingerprint"),
    ("payloads", "old.hash = NEW.hash AND old.body <> NEW.body"),
    ("messages", "old.hash = NEW.hash AND (old.body <> NEW.body OR old.parent IS NOT NEW.parent)"),
    ("runs", "old.run_id = NEW.run_id"),
    ("runs", "old.key = NEW.key"),
    ("transitions", _SAME_VISIT),
    ("calls", f"{_SAME_VISIT} AND old.idx = NEW.idx"),
    ("calls", _SAME_QUESTION),
    ("attempts", f"{_SAME_QUESTION} AND old.attempt = NEW.attempt AND old.kind = NEW.kind"),
    ("reviews", _SAME_VISIT),
    ("call_reviews", f"{_SAME_QUESTION} AND old.round = NEW.round"),
    ("deaths", f"{_SAME_VISIT} AND old.epoch = NEW.epoch"),
    *(
        (name, "old.rowid = NEW.rowid")
        for name in ("machines", "messages", "runs", "transitions", "calls", "attempts", "reviews", "call_reviews")
    ),
)

_ASKED = [column.name for column in tables.call_reviews.columns if column.name not in tables.ANSWER]

_RULES = (
    (
        "runs_go_forward",
        "BEFORE UPDATE ON runs WHEN NEW.epoch < OLD.epoch OR NEW.seq < OLD.seq OR NEW.run_id <> OLD.run_id OR NEW.no <> OLD.no",
        "a run goes forward only",
    ),
    ("runs_stay_closed", "BEFORE UPDATE ON runs WHEN OLD.status IN ('done', 'failed', 'cancelled')", "the run is closed"),
    ("reviews_decided_once", "BEFORE UPDATE ON reviews WHEN OLD.decision IS NOT NULL", "the review is decided already"),
    (
        "reviews_keep_question",
        "BEFORE UPDATE OF run_id, seq, state, question, show, events, requested_at, expires_at ON reviews",
        "a review keeps its question",
    ),
    (
        "call_reviews_decided_once",
        "BEFORE UPDATE ON call_reviews WHEN OLD.decision IS NOT NULL",
        "the review is decided already",
    ),
    (
        "call_reviews_keep_question",
        f"BEFORE UPDATE OF {', '.join(_ASKED)} ON call_reviews",
        "a review keeps its question",
    ),
)


DATABASE_ERRORS = (sqlite3.Error, DBAPIError)
"""What the database raises, straight from its driver or through SQLAlchemy."""


def translate(error: BaseException, target: Target) -> StoreError:
    """What a database's error means, in one line: what happened, where, and what to do."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    match code & 0xFF if isinstance(code, int) else None:
        case sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_MISMATCH | sqlite3.SQLITE_TOOBIG:
            return WriteRefused(str(cause))
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"no space left for {target}; nothing of this write was kept: free some space and resume")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreUnavailable(
                f"{target} is locked by another process for more than {BUSY_SECONDS} s; end that transaction and try again"
            )
        case sqlite3.SQLITE_READONLY:
            return StoreUnavailable(f"{target} is read-only; make the file and its folder writable")
        case sqlite3.SQLITE_CANTOPEN:
            return StoreUnavailable(f"cannot open {target}; make its folder writable or choose another path")
        case sqlite3.SQLITE_NOTADB:
            return StoreUnavailable(f"{target} is not an SQLite database; choose another path")
        case sqlite3.SQLITE_CORRUPT:
            return StoreUnavailable(f"{target} is damaged ({cause}); restore it from a copy")
        case _:
            return StoreUnavailable(f"{target} cannot be used: {cause}")
