"""The table that the rows go into: SQLite, each document in it once, whatever dies or runs twice.

Three tables are made if they are missing: `invoices` (the name is given), `invoices_lines` and `invoices_documents`. The last
says which documents were dealt with, those without an invoice included.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from statecraft import CallInfo, tool

from .extract_rows import NAMES, Row  # noqa: TID252

_AT_MOST = timedelta(seconds=60)
_BUSY = 20.0
"""Seconds to wait for somebody else's transaction."""
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,40}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS {t}_documents (
    document TEXT PRIMARY KEY, run TEXT NOT NULL, file TEXT NOT NULL, records INTEGER NOT NULL, key TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS {t} (
    run TEXT NOT NULL, document TEXT NOT NULL REFERENCES {t}_documents, record INTEGER NOT NULL, file TEXT NOT NULL,
    number TEXT NOT NULL, supplier TEXT NOT NULL, date TEXT NOT NULL, currency TEXT NOT NULL,
    net TEXT NOT NULL, tax TEXT NOT NULL, total TEXT NOT NULL,
    confidence REAL NOT NULL, checked_by TEXT NOT NULL CHECK (checked_by IN ('code', 'person')), key TEXT NOT NULL,
    PRIMARY KEY (run, document, record), UNIQUE (document, record)
);
CREATE TABLE IF NOT EXISTS {t}_lines (
    document TEXT NOT NULL, record INTEGER NOT NULL, line INTEGER NOT NULL, description TEXT NOT NULL, amount TEXT NOT NULL,
    PRIMARY KEY (document, record, line), FOREIGN KEY (document, record) REFERENCES {t} (document, record)
);
"""


class Done(BaseModel):
    """A document that has been dealt with, and its rows; none if there is no invoice in it."""

    document: str
    file: str
    rows: list[Row] = []


class Known(BaseModel):
    """Which documents the table has already."""

    documents: list[str] = []
    problem: str = ""
    """Why the table cannot be used; empty if all is well."""


class Stored(BaseModel):
    """What became of some documents."""

    written: list[str]
    """By this call, or by an earlier attempt at it."""
    elsewhere: list[str]
    """Somebody else had written them meanwhile. Nothing of them was written again."""
    rows: int


@tool(effect="idempotent", risk="low", timeout=_AT_MOST)
def prepare(database: str, table: str, documents: list[str]) -> Known:
    """Make the database and its tables if they are missing, and say which of these documents are there already."""
    if not _TABLE.fullmatch(table):
        return Known(problem=f"{table!r} is no name for a table: small letters, digits and _, at most 41")
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
        with _open(database) as db:
            for statement in filter(str.strip, _SCHEMA.format(t=table).split(";")):
                db.execute(statement)
            db.execute(f"SELECT key, checked_by FROM {table} LIMIT 0")  # noqa: S608 - the name was checked above
            there = {str(row[0]) for row in db.execute(f"SELECT document FROM {table}_documents")}  # noqa: S608
    except (OSError, sqlite3.Error) as error:
        return Known(problem=f"the table {table} of {database} cannot be used: {error}")
    return Known(documents=[document for document in documents if document in there])


@tool(effect="idempotent", risk="medium", timeout=_AT_MOST)
def write(info: CallInfo, database: str, table: str, documents: list[Done]) -> Stored:
    """Write documents and their rows in one transaction. Under the same idempotency key nothing is written twice."""
    if not _TABLE.fullmatch(table):
        raise ValueError(f"{table!r} is no name for a table")
    stored = Stored(written=[], elsewhere=[], rows=0)
    with _open(database) as db:
        for done in documents:
            values = (done.document, info.run_id, done.file, len(done.rows), info.key)
            new = db.execute(f"INSERT OR IGNORE INTO {table}_documents VALUES (?, ?, ?, ?, ?)", values).rowcount  # noqa: S608
            (key,) = db.execute(f"SELECT key FROM {table}_documents WHERE document = ?", values[:1]).fetchone()  # noqa: S608
            (stored.written if key == info.key else stored.elsewhere).append(done.document)
            stored.rows += len(done.rows) if key == info.key else 0
            if new:
                _insert(db, table, info, done.rows)
    return stored


def _insert(db: sqlite3.Connection, table: str, info: CallInfo, rows: Sequence[Row]) -> None:
    for row in rows:
        invoice, by = row.invoice, "person" if row.accepted or row.corrected else "code"
        values = (invoice.field(name).value for name in NAMES)
        whole = (info.run_id, row.document, row.record, row.file, *values, row.confidence, by, info.key)
        db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(whole))})", whole)  # noqa: S608
        lines = [(row.document, row.record, at, line.description, line.amount) for at, line in enumerate(invoice.lines, 1)]
        db.executemany(f"INSERT INTO {table}_lines VALUES (?, ?, ?, ?, ?)", lines)  # noqa: S608


@contextmanager
def _open(database: str) -> Iterator[sqlite3.Connection]:
    """A connection of its own, and one transaction on it that is written whole or not at all."""
    with closing(sqlite3.connect(database, timeout=_BUSY, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
