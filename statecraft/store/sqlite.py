"""Everything that is particular to SQLite: addresses, connections, triggers, and what its errors mean."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from statecraft.clock import SystemClock
from statecraft.errors import ConfigError, StoreError, StoreFull, StoreUnavailable, WriteRefused
from statecraft.store import database
from statecraft.store.outgrown import Waits
from statecraft.store.rules import RULES

if TYPE_CHECKING:
    from statecraft.store.statements import Row, Statement
    from statecraft.store.writes import Step

Monotonic = Callable[[], float]
"""Seconds on a clock that never goes back."""

OLDEST = (3, 37)
"""STRICT tables came with this version of SQLite."""

_TRIES = 1000
"""Attempts to switch a new file to write-ahead logging while another process does the same."""

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
    """Implements `database.Link`.

    `run` is the hot path: SQL compiled once, tuples ready made. It runs row by row on purpose: SQLite answers a
    several-row INSERT into a table that others refer to by searching those others for every row, which costs more the
    longer a run's history is.
    """

    shift = 0

    def __init__(self, sql: sa.Connection, gate: AbstractContextManager[object], monotonic: Monotonic, waits: Waits) -> None:
        self.sql = sql
        self.gate = gate
        self._monotonic = monotonic
        self._waits = waits
        self._texts: dict[Statement, str] = {}
        self._raw = cast(sqlite3.Connection, sql.connection.dbapi_connection)
        self._cursor = self._raw.cursor()

    @property
    def in_transaction(self) -> bool:
        return self._raw.in_transaction

    def begin(self) -> None:
        started = self._monotonic()
        try:
            self._cursor.execute("BEGIN IMMEDIATE")
        finally:
            now = self._monotonic()
            self._waits.count(now, now - started)

    def hold(self, writes: Sequence[Step]) -> None:
        """Nothing to do: there is one writer."""

    def commit(self) -> None:
        self._cursor.execute("COMMIT")

    def rollback(self) -> None:
        if self._raw.in_transaction:
            self._cursor.execute("ROLLBACK")

    def mark(self) -> None:
        self._cursor.execute("SAVEPOINT one")

    def keep(self) -> None:
        self._cursor.execute("RELEASE one")

    def undo(self) -> None:
        self._cursor.execute("ROLLBACK TO one")
        self._cursor.execute("RELEASE one")

    def run(self, work: Sequence[tuple[Statement, Sequence[Row]]]) -> Iterator[int]:
        for statement, rows in work:
            yield self._run(statement, rows)

    def _run(self, statement: Statement, rows: Sequence[Row]) -> int:
        text = self._texts.get(statement)
        if text is None:
            text = self._texts[statement] = statement.compile(self.sql.dialect)
        if len(rows) == 1:
            self._cursor.execute(text, rows[0])
        else:
            self._cursor.executemany(text, rows)
        return self._cursor.rowcount

    def execute(self, sql: str) -> None:
        self._cursor.execute(sql)

    def close(self) -> None:
        self.rollback()
        self.sql.close()


class Sqlite:
    """Implements `database.Database`: one file, or a database in memory."""

    shared = False
    shift = 0
    errors = (sqlite3.Error, DBAPIError)

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

    def check_place(self) -> None:
        if sqlite3.sqlite_version_info < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old; use a Python with SQLite {oldest} or newer")
        if self.target.path is None:
            return
        folder = self.target.path.parent
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise StoreUnavailable(f"cannot open {self.target}: {folder} {what}; create it or choose another path")
        if self.target.path.is_dir():
            raise StoreUnavailable(f"cannot open {self.target}: it is a folder; name a file in it")

    def writer(self) -> Link:
        return Link(self._writer.connect(), self._gate, self._monotonic, self._waits)

    def settle(self, link: database.Link) -> None:
        """Use a write-ahead log: readers and the writer do not wait for each other then. The file remembers it."""
        mode = ""
        for attempt in range(_TRIES):
            try:
                mode = str(link.sql.exec_driver_sql("PRAGMA journal_mode=WAL").scalar())
                break
            except OperationalError as error:
                # The switch does not wait for other connections; a write transaction does.
                if getattr(error.orig, "sqlite_errorcode", 0) != sqlite3.SQLITE_BUSY or attempt == _TRIES - 1:
                    raise
                link.begin()
                link.rollback()
        if mode not in {"wal", "memory"}:
            raise StoreUnavailable(f"{self.target} is on a file system without shared memory ({mode}); choose a local path")

    def hold_schema(self, link: database.Link) -> None:
        """Nothing to do: the transaction began as a writer's."""

    def rules(self) -> list[str]:
        return triggers()

    def reader(self, *, indexed: bool = False) -> Reading:
        del indexed  # Plans are made by what there are indexes for.
        return Reading(self._reader, self._gate)

    def feed_end(self, _: sa.Connection) -> None:
        """Nothing to say: the one writer gives positions in the order of its commits."""

    def lost(self, _: BaseException) -> bool:
        return False

    def again(self, _: BaseException) -> bool:
        return False

    def translate(self, error: BaseException) -> StoreError:
        return translate(error, self.target)

    def listen(self, wake: Callable[[], None]) -> None:
        """Nothing to do: workers look again after their polling interval."""

    def dispose(self) -> None:
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


def triggers() -> list[str]:
    """`rules.RULES`, and that no row is replaced."""
    made: list[str] = []
    for rule in RULES:
        when = f" WHEN {rule.when}" if rule.when else ""
        made.append(_refuse(rule.name, f"BEFORE {rule.change} ON {rule.table}{when}", rule.message))
    # INSERT OR REPLACE deletes without firing DELETE triggers, so a row that exists must be refused before that.
    for number, (name, same) in enumerate(_IDENTITY):
        known = f"BEFORE INSERT ON {name} WHEN EXISTS (SELECT 1 FROM {name} AS old WHERE {same})"  # noqa: S608  # our own words
        made.append(_refuse(f"{name}_no_replace_{number}", known, f"{name} has that row already"))
    return made


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
