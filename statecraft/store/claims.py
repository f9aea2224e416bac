"""Writes that look before they write: taking runs, keeping them, ending them, and making machines known.

Each function runs inside a write transaction, so what it saw still holds when it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import sqlalchemy as sa

from statecraft.clock import instant, stamp
from statecraft.errors import NotFound, Refused, RunClosed, RunHeld
from statecraft.records import RunRecord, Status, Waiting
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.port import Cancel, Claim, ClaimDue, MachineSpec, Release, Renew
from statecraft.store.rows import RUN, Row, run_record
from statecraft.store.statements import Query
from statecraft.store.writes import Rows, note

_CHUNK = 400
"""How many ids go into one IN list."""

T = TypeVar("T")


def owners_of(sql: sa.Connection, keys: Sequence[str]) -> dict[str, bytes]:
    """Which of the start keys belong to a run already, and to which."""
    found = sql.execute(sa.select(t.runs.c.key, t.runs.c.run_id).where(t.runs.c.key.in_(keys)))
    return {str(key): bytes(run_id) for key, run_id in found}


def head(sql: sa.Connection, run_id: bytes) -> RunRecord:
    """The run's head. Raises `NotFound`."""
    return run_record(head_row(sql, run_id))


def head_row(sql: sa.Connection, run_id: bytes) -> Row:
    """The run's head as a row of `RUNS`. Raises `NotFound`."""
    found = RUN.ask(sql, run_id)
    if not found:
        raise NotFound(f"no run {run_id.hex()} in this database; list them with `statecraft runs`")
    return found[0]


def claim(sql: sa.Connection, write: Claim, rows: Rows) -> RunRecord:
    """Take one run. Raises `RunClosed`, `RunHeld` or `NotFound`."""
    run = head(sql, write.run_id)
    refusal = _unclaimable(run, write)
    if refusal is not None:
        raise refusal
    return take(run, write, rows)


def take(run: RunRecord, write: Claim | ClaimDue, rows: Rows) -> RunRecord:
    """Raise the epoch, hand the lease over, and say so; answer the run as it is then."""
    run_id = bytes.fromhex(run.id)
    rows[s.TAKE].append((write.owner, write.lease_until, write.now, run_id, run.epoch))
    rows[s.FREE].append((run_id,))
    rows[s.FEED].append((run_id, "claimed", run.seq, 0, write.now, note(owner=write.owner, epoch=run.epoch + 1)))
    if run.waiting_for is Waiting.START and run.due_at is not None:
        # Bounds of time count from when it may begin, or from when somebody had it begin before.
        began = min(write.now, stamp(run.due_at))
        rows[s.BEGIN].append((began, run_id, run.epoch))
        run = replace(run, created_at=instant(began))
    held = replace(run, taken_from=run.owner, status=Status.RUNNING, owner=write.owner, lease_until=instant(write.lease_until))
    freed = replace(held, waiting_for=None, due_at=None, updated_at=instant(write.now))
    return replace(freed, epoch=run.epoch + 1, attempts=run.attempts + 1)


def _unclaimable(run: RunRecord, write: Claim) -> Refused | None:
    if run.status.closed:
        return RunClosed(f"run {run.id} is {run.status} in {run.state}; it cannot be taken")
    if run.status is not Status.RUNNING or run.epoch == write.epoch:
        return None
    if run.lease_until is not None and stamp(run.lease_until) <= write.now:
        return None
    return RunHeld(f"run {run.id} is held by {run.owner} until {run.lease_until}; wait, or take it over by force")


_SOME = t.runs.c.run_id.in_(sa.bindparam("run_ids", expanding=True))


def skip_locked(query: sa.Select[*tuple[Any, ...]]) -> sa.Select[*tuple[Any, ...]]:
    """A query of heads that holds what it finds, and passes over what another writer holds."""
    return query.with_for_update(key_share=True, skip_locked=True, of=t.runs)


_HELD = sa.select(t.runs.c.run_id, t.runs.c.epoch).where(_SOME, t.runs.c.status == str(Status.RUNNING))


def renew(sql: sa.Connection, write: Renew, rows: Rows) -> list[bytes]:
    """Extend leases; answer the runs that are no longer held so."""
    held: set[tuple[bytes, int]] = set()
    for some in chunks(write.held):
        found = sql.execute(_HELD, {"run_ids": [run_id for run_id, _ in some]})
        held.update((run_id, epoch) for run_id, epoch in found)
    rows[s.RENEW] += (
        (write.lease_until, run_id, epoch) for run_id, epoch in dict.fromkeys(write.held) if (run_id, epoch) in held
    )
    return [run_id for run_id, epoch in write.held if (run_id, epoch) not in held]


_HELD_BY = Query(
    sa.select(t.runs.c.run_id, t.runs.c.epoch, t.runs.c.seq)
    .where(t.runs.c.lease_until.is_not(None), t.runs.c.owner == sa.bindparam("owner"))
    .order_by(t.runs.c.run_id)
    .with_for_update(key_share=True),
    "owner",
)
"""Looks at the runs that anybody holds, of all those that there are."""


def release(sql: sa.Connection, write: Release, rows: Rows) -> int:
    """Make what somebody holds ready for others; answer how many runs that were."""
    held = _HELD_BY.ask(sql, write.owner)
    freed = (str(Status.READY), None, None, None, write.at, write.at, None, None)
    rows[s.HAND_BACK] += ((*freed, run.run_id, run.epoch, run.seq) for run in held)
    rows[s.FREE] += ((run.run_id,) for run in held)
    return len(held)


def cancel(sql: sa.Connection, write: Cancel, rows: Rows) -> None:
    """End a run by request. Raises `RunClosed` or `NotFound`."""
    run = head(sql, write.run_id)
    if run.status.closed:
        raise RunClosed(f"run {run.id} is {run.status} in {run.state} already; there is nothing to cancel")
    rows[s.CANCEL].append((write.at, write.at, write.reason, write.run_id, run.epoch))
    rows[s.FEED].append((write.run_id, "cancelled", run.seq, 0, write.at, note(actor=write.actor, reason=write.reason)))
    rows.ended.append((write.run_id, write.at))


def register(sql: sa.Connection, write: MachineSpec) -> int:
    """The number of a definition, written down if it is new. One that is known may have gained edges: moves that are
    no part of what a definition is known by, such as migrations."""
    number = number_of(sql, write.fingerprint)
    if number is None:
        values = {"fingerprint": write.fingerprint, "name": write.name, "version": write.version, "spec": write.spec}
        sql.execute(sa.insert(t.machines), [values])
        number = number_of(sql, write.fingerprint)
        assert number is not None
    missing = [
        {"machine": number, "source": source, "event": event, "target": target}
        for source, event, target in _missing(sql, number, write)
    ]
    if missing:
        sql.execute(sa.insert(t.machine_edges), missing)
    return number


def registered(sql: sa.Connection, write: MachineSpec) -> int | None:
    """The number of a definition that is known with all its edges."""
    number = number_of(sql, write.fingerprint)
    return None if number is None or _missing(sql, number, write) else number


def _missing(sql: sa.Connection, number: int, write: MachineSpec) -> list[tuple[str, str, str]]:
    edges = t.machine_edges.c
    found = sql.execute(sa.select(edges.source, edges.event, edges.target).where(edges.machine == number))
    known = {tuple(edge) for edge in found}
    return [edge for edge in dict.fromkeys(write.edges) if edge not in known]


def number_of(sql: sa.Connection, fingerprint: str) -> int | None:
    """The number of a definition that is known."""
    return sql.execute(sa.select(t.machines.c.machine).where(t.machines.c.fingerprint == fingerprint)).scalar()


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in parts that fit into an IN list."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
