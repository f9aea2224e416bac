"""What PostgreSQL's errors mean. Codes: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes"."""

from __future__ import annotations

import psycopg
from sqlalchemy.exc import DBAPIError

from statecraft.errors import StoreError, StoreFull, StoreUnavailable, WriteRefused
from statecraft.store.postgres.address import Target

_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
"""The server ends the connection with these."""

_IN_THE_WAY = frozenset({"40P01", "40001"})
"""Deadlock, serialization failure."""

_MADE_BY_ANOTHER = frozenset({"uq_run_key", "machines_fingerprint_key", "schedules_pkey"})
"""Unique constraints of what another process may have just made: a look at the database then finds it."""

_OF_THE_ROW = ("22", "23", "54")
"""Classes of errors that one row is guilty of: its data, a constraint, a size."""


def cause_of(error: BaseException) -> BaseException:
    """The driver's own error."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def code_of(error: BaseException) -> str:
    """Its SQLSTATE; empty if it came from no server."""
    return getattr(cause_of(error), "sqlstate", None) or ""


def lost(error: BaseException) -> bool:
    """Whether the connection ended with it."""
    cause, code = cause_of(error), code_of(error)
    if code:
        return code in _GONE or code.startswith("08")
    return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)


def again(error: BaseException) -> bool:
    """Whether the same writes may succeed when they are done anew."""
    cause, code = cause_of(error), code_of(error)
    if code == "23505" and isinstance(cause, psycopg.Error):
        return cause.diag.constraint_name in _MADE_BY_ANOTHER
    return code in _IN_THE_WAY


def translate(error: BaseException, target: Target) -> StoreError:
    """What an error means, in one line: what happened, where, and what to do."""
    cause, code = cause_of(error), code_of(error)
    if isinstance(cause, psycopg.Error) and code[:2] in _OF_THE_ROW:
        return WriteRefused(_constraint(cause, code))
    if isinstance(cause, psycopg.DataError) and not code:
        return WriteRefused(_line(cause))
    if code == "53100":
        return StoreFull(f"no space left for {target}; nothing of this write was kept: free some space on the server and resume")
    if code in _MEANING:
        return StoreUnavailable(f"{target} {_MEANING[code]} ({_line(cause)})")
    if lost(cause):
        return StoreUnavailable(f"{target} {_connection(_line(cause))}")
    return StoreUnavailable(f"{target} cannot be used: {_line(cause)}")


def _constraint(error: psycopg.Error, code: str) -> str:
    """As SQLite says it."""
    diag = error.diag
    match code:
        case "23505":
            return f"UNIQUE constraint failed: {diag.table_name} ({diag.constraint_name})"
        case "23503":
            return f"FOREIGN KEY constraint failed ({diag.constraint_name})"
        case "23502":
            return f"NOT NULL constraint failed: {diag.table_name}.{diag.column_name}"
        case "23514":
            return f"CHECK constraint failed: {diag.constraint_name}"
        case "54000":
            return f"a text is too long for the server: {_line(error)}"
        case _:
            return _line(error)


_MEANING = {
    "25006": "only reads: it is a standby, or was made read-only; give the URL of the primary",
    "28000": "refuses this user; check the name, and pg_hba.conf of the server",
    "28P01": "refuses the password of this user; correct the URL, PGPASSWORD or ~/.pgpass",
    "3D000": "does not exist; make it with `createdb`",
    "3F000": "has no schema to keep tables in; make the one that search_path names with CREATE SCHEMA",
    "40001": "was written by others again and again meanwhile; try again",
    "40P01": "was written by others again and again meanwhile; try again",
    "42501": "does not let this user do that; GRANT it the rights on tables and sequences that docs/postgres.md lists",
    "53200": "is out of memory; see the server's log",
    "53300": "takes no more connections; end some, raise max_connections, or use a pooler",
    "55P03": "waited for a lock longer than lock_timeout; see what holds it in pg_stat_activity, and try again",
    "57014": "cancelled a statement, by statement_timeout or by request; raise statement_timeout of this user if it is too short",
    "57P01": "was shut down, or ended this connection; start it, and resume",
    "57P02": "crashed and is being recovered; try again in a moment",
    "57P03": "is starting up or shutting down; try again in a moment",
    "25P03": "ended this connection because a transaction stood idle too long; this process was stopped for a while: resume",
}

_CONNECTION = (
    ("password authentication failed", _MEANING["28P01"]),
    ("no password supplied", _MEANING["28P01"]),
    ("too many clients", _MEANING["53300"]),
    ("remaining connection slots", _MEANING["53300"]),
    ("too many connections", _MEANING["53300"]),
    ("starting up", _MEANING["57P03"]),
    ("shutting down", _MEANING["57P03"]),
    ("in recovery mode", _MEANING["57P02"]),
    ("pg_hba.conf", _MEANING["28000"]),
    ("role ", "refuses this user; make it with `createuser`, or correct the URL"),
    ("database ", _MEANING["3D000"]),
    ("resolve host", "has a host name that is not known; correct the URL, or see whether the network is there"),
    ("timeout expired", "does not answer; see whether the server runs and a firewall lets you through"),
    ("refused", "is not there: no server listens; start it or correct host and port"),
    ("No such file", "is not there: no server listens; start it or correct host and port"),
)
"""libpq tells of a failed connection in words only."""


def _connection(said: str) -> str:
    for words, meaning in _CONNECTION:
        if words in said and (words != "database " or "does not exist" in said):
            return f"{meaning} ({said})"
    return f"cannot be reached, or ended the connection: see whether the server runs, then resume ({said})"


def _line(error: BaseException) -> str:
    """What was said, in one line."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((primary or str(error)).split())
