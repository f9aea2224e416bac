"""Reads: each function is given a connection inside one read transaction, so that all it sees is of one moment."""

from __future__ import annotations

import sqlalchemy as sa

from statecraft.clock import stamp
from statecraft.errors import NotFound
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    FeedEntry,
    RunFilter,
    RunRecord,
    TransitionRecord,
)
from statecraft.store import rows
from statecraft.store import tables as t
from statecraft.store.claims import head
from statecraft.store.port import MachineSpec

_MOST_FOUND = 10


def find(sql: sa.Connection, prefix: str) -> list[str]:
    """Ids that start with `prefix`; `@last` is the newest run's that is nobody's child."""
    query = sa.select(t.runs.c.run_id)
    if prefix == "@last":
        query = query.where(t.runs.c.parent.is_(None)).order_by(t.runs.c.no.desc()).limit(1)
    else:
        low, high = (bytes_or_none(prefix.ljust(32, digit)) for digit in "0f")
        if not prefix or low is None or high is None:
            return []
        query = query.where(t.runs.c.run_id.between(low, high)).order_by(t.runs.c.run_id).limit(_MOST_FOUND)
    return [run_id.hex() for run_id in sql.execute(query).scalars()]


def every(sql: sa.Connection) -> list[bytes]:
    """Ids of all runs, newest first, from nothing but the head's own column."""
    return [bytes(run_id) for run_id in sql.execute(sa.select(t.runs.c.run_id).order_by(t.runs.c.no.desc())).scalars()]


def bytes_or_none(text: str) -> bytes | None:
    """The 16 bytes that 32 hex digits stand for; None for anything else."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return raw if len(raw) == 16 and len(text) == 32 else None


def runs(sql: sa.Connection, which: RunFilter) -> list[RunRecord]:
    """Runs that fit the filter, newest first."""
    wanted = (
        (t.runs.c.status, which.status),
        (t.runs.c.state, which.state),
        (t.machines.c.name, which.machine),
        (t.runs.c.key, which.key),
        (t.runs.c.tenant, which.tenant),
        (t.runs.c.queue, which.queue),
    )
    query = rows.RUNS.order_by(t.runs.c.no.desc()).limit(which.limit)
    for column, value in wanted:
        if value is not None:
            query = query.where(column == str(value))
    if which.parent is not None:
        # An id that is none finds nothing.
        query = query.where(t.runs.c.parent == (bytes_or_none(which.parent) or b""))
    if which.since is not None:
        query = query.where(t.runs.c.created_at >= stamp(which.since))
    if which.older_than is not None:
        last = sa.select(t.runs.c.no).where(t.runs.c.run_id == (bytes_or_none(which.older_than) or b"")).scalar_subquery()
        query = query.where(t.runs.c.no < last)
    return [rows.run_record(row) for row in sql.execute(query)]


def history(sql: sa.Connection, run_id: bytes) -> list[TransitionRecord]:
    """The run's transitions, in order. Raises `NotFound`."""
    found = list(sql.execute(rows.TRANSITIONS.where(t.transitions.c.run_id == run_id)))
    if not found:
        head(sql, run_id)
    return [rows.transition_record(row) for row in found]


def calls(sql: sa.Connection, run_id: bytes, seq: int | None) -> list[CallRecord]:
    """The run's finished calls, or those of one visit, in order of completion."""
    return [rows.call_record(row) for row in _call_rows(sql, run_id, seq)]


def _call_rows(sql: sa.Connection, run_id: bytes, seq: int | None) -> list[rows.Row]:
    query = rows.CALLS.where(t.calls.c.run_id == run_id)
    return list(sql.execute(query if seq is None else query.where(t.calls.c.seq == seq)))


def attempts(sql: sa.Connection, run_id: bytes, seq: int | None) -> list[AttemptRecord]:
    """Attempts and intents of the run, or of one visit, in the order in which they were written."""
    query = sa.select(t.attempts).where(t.attempts.c.run_id == run_id).order_by(t.attempts.c.no)
    return [rows.attempt_record(row) for row in sql.execute(query if seq is None else query.where(t.attempts.c.seq == seq))]


def diagnosis(sql: sa.Connection, run_id: bytes) -> str | None:
    """What was written when the run died, the last time it did."""
    query = sa.select(t.deaths.c.diagnosis).where(t.deaths.c.run_id == run_id)
    return sql.execute(query.order_by(t.deaths.c.seq.desc(), t.deaths.c.epoch.desc()).limit(1)).scalar()


def feed(sql: sa.Connection, after: int, run_id: bytes | None, limit: int, upto: int | None = None) -> list[FeedEntry]:
    """Entries above a position, in order, none above `upto`."""
    query = rows.FEED.where(t.feed.c.pos > after).limit(limit)
    if run_id is not None:
        query = query.where(t.feed.c.run_id == run_id)
    if upto is not None:
        query = query.where(t.feed.c.pos <= upto)
    return [rows.feed_entry(row) for row in sql.execute(query)]


def transcript(sql: sa.Connection, last: bytes) -> list[str]:
    """Bodies of the messages from the root to `last`. Raises `NotFound`."""
    found = [body for _, _, body in conversation(sql, last)]
    if not found:
        raise NotFound(f"no message {last.hex()} in this database")
    return found


def conversation(sql: sa.Connection, last: bytes) -> list[tuple[bytes, bytes | None, str]]:
    """(hash, parent, body) of the messages from the root to `last`; empty if there is no such message."""
    message = t.messages.c
    back = (
        sa.select(message.hash, message.parent, message.body, sa.literal(0).label("depth"))
        .where(message.hash == last)
        .cte("back", recursive=True)
    )
    before = sa.select(message.hash, message.parent, message.body, back.c.depth + 1).join(back, message.hash == back.c.parent)
    whole = back.union_all(before)
    query = sa.select(whole.c.hash, whole.c.parent, whole.c.body).order_by(whole.c.depth.desc())
    return [(name, parent, body) for name, parent, body in sql.execute(query)]


def blob(sql: sa.Connection, hash: bytes) -> str:
    """A text by its hash. Raises `NotFound`."""
    found = sql.execute(sa.select(t.payloads.c.body).where(t.payloads.c.hash == hash)).scalar()
    if found is None:
        raise NotFound(f"no text {hash.hex()} in this database")
    return str(found)


def spec(sql: sa.Connection, fingerprint: str) -> MachineSpec:
    """A definition by its fingerprint. Raises `NotFound`."""
    row = sql.execute(sa.select(t.machines).where(t.machines.c.fingerprint == fingerprint)).first()
    if row is None:
        raise NotFound(f"no machine with fingerprint {fingerprint} in this database")
    edge = t.machine_edges.c
    edges = sql.execute(sa.select(edge.source, edge.event, edge.target).where(edge.machine == row.machine)).all()
    return MachineSpec(
        row.name, row.version, row.fingerprint, row.spec, tuple((source, event, target) for source, event, target in edges)
    )
