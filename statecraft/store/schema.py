"""Making a database ready: create the schema in a new one, bring up an older one, refuse what is newer than us or not ours."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateIndex, CreateTable

from statecraft.errors import SchemaTooNew, StoreUnavailable
from statecraft.store import columns, migrate, sqlite, tables
from statecraft.store.sqlite import Link, Sqlite, Target, translate

_TRIES = 1000
"""Attempts to switch a new file to write-ahead logging while another process does the same."""


def prepare(database: Sqlite, *, bring_up: bool = True, probe: migrate.Probe | None = None) -> Link:
    """Open the writing connection of a database whose schema is whole and ours.

    A new database gets its tables; one of an older schema is brought up, unless `bring_up` says to refuse it. Safe when several
    processes open one at once: the others wait. Raises `StoreUnavailable` or `SchemaTooNew`; then nothing was changed.
    """
    target = database.target
    _check_place(target)
    link: Link | None = None
    try:
        link = database.writer()
        _check(link, target, bring_up)
        _use_wal(link, target)
        _create_if_new(link, target)
        if migrate.version_of(link.sql) < tables.VERSION:
            migrate.bring_up(link, lambda: None, sqlite.triggers(), probe)
            _check(link, target)  # Whoever was faster may have been newer than us.
    except BaseException as error:
        if link is not None:
            link.close()
        database.dispose()
        if isinstance(error, sqlite.DATABASE_ERRORS):
            raise translate(error, target) from error
        raise
    return link


def _check_place(target: Target) -> None:
    if sqlite3.sqlite_version_info < sqlite.OLDEST:
        oldest = ".".join(map(str, sqlite.OLDEST))
        raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old; use a Python with SQLite {oldest} or newer")
    if target.path is None:
        return
    folder = target.path.parent
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise StoreUnavailable(f"cannot open {target}: {folder} {what}; create it or choose another path")
    if target.path.is_dir():
        raise StoreUnavailable(f"cannot open {target}: it is a folder; name a file in it")


def _check(link: Link, target: Target, bring_up: bool = True) -> bool:
    """Whether a schema is there. Raises if what is there is newer, too old, or somebody else's."""
    names = set(sa.inspect(link.sql).get_table_names())
    if not names:
        return False
    if not {"schema_version", "transitions"} <= names:
        raise StoreUnavailable(f"{target} holds another program's tables ({', '.join(sorted(names)[:3])}); choose another path")
    version = migrate.version_of(link.sql)
    if version > tables.VERSION:
        raise SchemaTooNew(
            f"{target} has schema {version}, written by a newer statecraft; this one knows {tables.VERSION}: upgrade statecraft"
        )
    if version < migrate.OLDEST:
        raise StoreUnavailable(
            f"{target} has schema {version}, made before the first release; this statecraft needs {tables.VERSION} and cannot "
            "carry it over: choose another path"
        )
    if version < tables.VERSION and not bring_up:
        raise StoreUnavailable(
            f"{target} has schema {version}; this statecraft needs {tables.VERSION}: run `statecraft migrate` on it"
        )
    return True


def _use_wal(link: Link, target: Target) -> None:
    """Readers and the writer do not wait for each other then. The file remembers it."""
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
        raise StoreUnavailable(f"{target} is on a file system without shared memory ({mode}); choose a local path")


_CREATION: dict[str, tuple[str, ...]] = {}


def creation(dialect: sa.Dialect) -> tuple[str, ...]:
    """The statements that make the tables and their indexes, compiled once for each sort of database."""
    if dialect.name not in _CREATION:
        parts: list[CreateTable | CreateIndex] = []
        for table in columns.metadata.sorted_tables:
            indexes = sorted(table.indexes, key=lambda index: str(index.name))
            parts += [CreateTable(table), *map(CreateIndex, indexes)]
        _CREATION[dialect.name] = tuple(str(part.compile(dialect=dialect)) for part in parts)
    return _CREATION[dialect.name]


def _create_if_new(link: Link, target: Target) -> None:
    link.begin()
    if not _check(link, target):
        for statement in creation(link.sql.dialect):
            link.execute(statement)
        for trigger in sqlite.triggers():
            link.execute(trigger)
        link.sql.execute(sa.insert(tables.schema_version), [{"id": 1, "version": tables.VERSION}])
    link.commit()
