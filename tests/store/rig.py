"""What the store's own tests share: a store for a URL, the stories of the exported suite, and SQL straight to the database."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from statecraft.records import Json
from statecraft.store import open_store
from statecraft.store.sql import SqlStore
from statecraft.testing.conformance.stories import (
    EDGES,
    FOREVER,
    IDS,
    LONG,
    OTHER,
    PAPER,
    Story,
    begun,
    child_of,
    conversation,
    ended,
    question,
    ready,
    running,
    waiting_for_review,
)

__all__ = [
    "EDGES",
    "FOREVER",
    "IDS",
    "LONG",
    "OTHER",
    "PAPER",
    "REFUSED",
    "Story",
    "ask",
    "begun",
    "child_of",
    "conversation",
    "ended",
    "opened",
    "path_of",
    "question",
    "raw",
    "ready",
    "running",
    "spoken",
    "tampered",
    "waiting_for_review",
    "within",
]

R = TypeVar("R")

REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError, psycopg.DataError)
"""What a database raises for a row that must not be."""


@asynccontextmanager
async def opened(url: str, probe: Callable[[str], None] | None = None) -> AsyncIterator[SqlStore]:
    """The store of a URL, open for the block."""
    store = open_store(url, probe=probe)
    assert isinstance(store, SqlStore)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def within(url: str, story: Callable[[SqlStore], Awaitable[R]], probe: Callable[[str], None] | None = None) -> R:
    """Run one async test over an open store."""

    async def go() -> R:
        async with opened(url, probe) as store:
            return await story(store)

    return asyncio.run(go())


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


# --- SQL straight to the database --------------------------------------------------------------------------------------


@contextmanager
def raw(url: str) -> Iterator[Any]:
    """A connection of an outsider, who begins and ends transactions by hand. Both drivers have `execute` and `fetchall`."""
    if url.startswith("postgresql"):
        with closing(psycopg.connect(url, autocommit=True)) as link:
            yield link
    else:
        with closing(sqlite3.connect(path_of(url), isolation_level=None)) as file:
            file.execute("PRAGMA foreign_keys=ON")
            yield file


def spoken(url: str, sql: str) -> str:
    """The statement, with SQLite's `x'00'` and `zeroblob(1)`, in the language of the URL's database."""
    if not url.startswith("postgresql"):
        return sql
    sql = re.sub(r"zeroblob\((\d+)\)", lambda size: f"x'{'00' * int(size[1])}'", sql)
    return re.sub(r"\bx'([0-9a-f]*)'", r"'\\x\1'::bytea", sql)


def ask(url: str, sql: str) -> list[tuple[Json, ...]]:
    """A query."""
    with raw(url) as link:
        found: list[tuple[Json, ...]] = link.execute(spoken(url, sql)).fetchall()
        return found


def tampered(url: str, *changes: str) -> None:
    """Change rows as somebody would who owns the database: triggers, references and (on SQLite) checks off."""
    with raw(url) as link:
        if url.startswith("postgresql"):
            link.execute("SET session_replication_role = replica")
        else:
            link.execute("PRAGMA foreign_keys=OFF")
            link.execute("PRAGMA ignore_check_constraints=ON")
            for (trigger,) in link.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                link.execute(f"DROP TRIGGER {trigger}")
        for change in changes:
            assert link.execute(spoken(url, change)).rowcount > 0, change
