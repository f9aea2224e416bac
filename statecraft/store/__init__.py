"""The durable home of runs: a port (`statecraft.store.port`) and its implementation over SQL."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from statecraft.clock import Clock
from statecraft.errors import ConfigError
from statecraft.store.port import Store

if TYPE_CHECKING:
    from statecraft.store.database import Database

_KNOWN = "sqlite:///path/to/file.db, sqlite:// for memory, or postgresql://user@host/database"


def open_store(
    url: str, *, probe: Callable[[str], None] | None = None, clock: Clock | None = None, migrate: bool = True
) -> Store:
    """A store for a database URL, not opened yet: `sqlite:///path/to/file.db`, `sqlite://` for memory, or
    `postgresql://user@host/database`.

    `probe` is called with `before` just before and `after` just after each commit, for tests that crash there. If `clock`
    is the `SystemClock` that the times of writes come from, a PostgreSQL store compares leases and due times on the
    server's clock, by the difference that it measures; otherwise it takes them as they are.
    Opening brings an older schema up, unless `migrate` is off: then `StoreUnavailable` says that it is due.
    Raises `ConfigError` for a URL that is not supported, or if the driver of its database is not installed.
    """
    # SQLAlchemy is heavy, so it loads with the first store.
    from statecraft.store.sql import SqlStore

    return SqlStore(database_of(url, clock), probe=probe, migrate=migrate)


def shown(url: str) -> str:
    """A database URL as it may be shown to people: without its password."""
    return re.sub(r"(://[^:/@]*):.*@|(password=)[^&]*", lambda hit: f"{hit[1]}:***@" if hit[1] else f"{hit[2]}***", url)


def schema_of(url: str) -> tuple[int | None, int]:
    """(the schema that a database has, None if it has none yet; the one that this statecraft needs). Changes nothing.

    Raises `ConfigError`, `StoreUnavailable` or `SchemaTooNew`.
    """
    from statecraft.store import schema, tables

    return schema.found(database_of(url)), tables.VERSION


def database_of(url: str, clock: Clock | None = None) -> Database:
    """The database that a URL names. Raises `ConfigError`."""
    scheme = url.partition(":")[0]
    if "://" not in url:
        raise ConfigError(f"{shown(url)!r} is not a database URL; use {_KNOWN}")
    if scheme == "sqlite":
        from statecraft.store.sqlite import Sqlite, parse

        return Sqlite(parse(url), clock.monotonic if clock is not None else None)
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        try:
            from statecraft.store import postgres
        except ModuleNotFoundError as missing:
            if missing.name not in ("psycopg", "psycopg_binary"):
                raise
            raise ConfigError('PostgreSQL needs its driver: pip install "statecraft-agents[postgres]"') from None
        return postgres.Postgres(postgres.parse(url), clock)
    raise ConfigError(f"{scheme!r} databases are not supported; use {_KNOWN}")
