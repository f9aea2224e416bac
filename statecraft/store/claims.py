"""Writes that look before they write: taking runs, keeping them, ending them, and making machines known.

Each function runs inside a write transaction, so what it saw still holds when it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import sqlalchemy as sa

from statecraft.clock import stamp
from statecraft.errors import NotFound, Refused, RunClosed, RunHeld
from statecraft.records import CLOSED, RunRecord, Status
from statecraft.store import tables as t
from statecraft.store.port import Cancel, Claim, ClaimDue, MachineSpec, Renew
from statecraft.store.rows import RUNS, run_record
from statecraft.store.writes import Step, note

_CHUNK = 400
"""How many ids go into one IN list."""

T = TypeVar("T")

_LEASED = t.runs.c.lease_until
_DUE = t.runs.c.due_at


def look_and_write(sql: sa.Connection, write: Step) -> object:
    """Do one write of `writes.ALONE`; answer what its class says."""
    match write:
        case Claim():
            return claim(sql, write)
        case ClaimDue():
            return claim_due(sql, write)
        case Renew():
            return renew(sql, write)
        case Cancel():
            cancel(sql, write)
            return None
        case MachineSpec():
            return register(sql, write)
        case _:
            raise TypeError(f"{type(write).__name__} is not a write")


def owners_of(sql: sa.Connection, keys: Sequence[str]) -> dict[str, bytes]:
    """Which of the start keys belong to a run already, and to which."""
    found = sql.execute(sa.select(t.runs.c.key, t.runs.c.run_id).where(t.runs.c.key.in_(keys)))
    return {str(key): bytes(run_id) for key, run_id in found}


def head(sql: sa.Connection, run_id: bytes) -> RunRecord:
    """The run's head. Raises `NotFound`."""
    row = sql.execute(RUNS.where(t.runs.c.run_id == run_id)).first()
    if row is None:
        raise NotFound(f"no run {run_id.hex()} in this database; list them with `statecraft runs`")
    return run_record(row)


def claim(sql: sa.Connection, write: Claim) -> RunRecord:
    """Take one run. Raises `RunClosed`, `RunHeld` or `NotFound`."""
    run = head(sql, write.run_id)
    refusal = _unclaimable(run, write)
    if refusal is not None:
        raise refusal
    return _take(sql, [write.run_id], write.owner, write.now, write.lease_until)[0]


def _unclaimable(run: RunRecord, write: Claim) -> Refused | None:
    if run.status.closed:
        return RunClosed(f"run {run.id} is {run.status} in {run.state}; it cannot be taken")
    if run.status is not Status.RUNNING or run.epoch == write.epoch:
        return None
    if run.lease_until is not None and stamp(run.lease_until) <= write.now:
        return None
    return RunHeld(f"run {run.id} is held by {run.owner} until {run.lease_until}; wait, or take it over by force")


def claim_due(sql: sa.Connection, write: ClaimDue) -> list[RunRecord]:
    """Take what is due: expired leases first, then by due time."""
    found: list[bytes] = []
    for column in (_LEASED, _DUE):
        room = write.limit - len(found)
        if room > 0:
            found += [run_id for _, run_id in _ripe(sql, column, write.machines, write.only, write.now, room)]
    return _take(sql, found, write.owner, write.now, write.lease_until)


def _ripe(
    sql: sa.Connection,
    column: sa.Column[int],
    machines: Sequence[int],
    only: frozenset[bytes] | None,
    now: int | None,
    limit: int,
) -> list[tuple[int, bytes]]:
    """(instant, run) of the earliest runs by one of the two times; `now` None: whether or not it has come."""
    query = (
        sa.select(column, t.runs.c.run_id)
        .where(column.is_not(None), t.runs.c.machine.in_(machines))
        .order_by(column)
        .limit(limit)
    )
    if now is not None:
        query = query.where(column <= now)
    if only is None:
        return [(at, run_id) for at, run_id in sql.execute(query)]
    found = [(at, run_id) for some in _chunks(list(only)) for at, run_id in sql.execute(query.where(t.runs.c.run_id.in_(some)))]
    return sorted(found)[:limit]


def next_due(sql: sa.Connection, machines: Sequence[int], only: frozenset[bytes] | None) -> int | None:
    """The earliest instant at which `claim_due` could take something."""
    return min((at for column in (_LEASED, _DUE) for at, _ in _ripe(sql, column, machines, only, None, 1)), default=None)


def _take(sql: sa.Connection, run_ids: Sequence[bytes], owner: str, now: int, lease_until: int) -> list[RunRecord]:
    """Raise the epoch, hand the lease over, and say so; answer the runs as they are then, in the order given."""
    taken: list[RunRecord] = []
    for some in _chunks(run_ids):
        held = {"status": str(Status.RUNNING), "owner": owner, "lease_until": lease_until, "waiting_for": None, "due_at": None}
        counted = {"epoch": t.runs.c.epoch + 1, "attempts": t.runs.c.attempts + 1, "updated_at": now}
        sql.execute(sa.update(t.runs).where(t.runs.c.run_id.in_(some)).values({**held, **counted}))
        records = [run_record(row) for row in sql.execute(RUNS.where(t.runs.c.run_id.in_(some)))]
        place = {run_id.hex(): position for position, run_id in enumerate(some)}
        taken += sorted(records, key=lambda run: place[run.id])
    if taken:
        sql.execute(sa.insert(t.feed), [_entry(run, "claimed", now, note(owner=run.owner, epoch=run.epoch)) for run in taken])
    return taken


def renew(sql: sa.Connection, write: Renew) -> list[bytes]:
    """Extend leases; answer the runs that are no longer held so."""
    lost: list[bytes] = []
    for some in _chunks(write.held):
        query = sa.select(t.runs.c.run_id, t.runs.c.epoch).where(
            t.runs.c.run_id.in_([run_id for run_id, _ in some]), t.runs.c.status == str(Status.RUNNING)
        )
        held = {(run_id, epoch) for run_id, epoch in sql.execute(query)}
        kept = [run_id for run_id, epoch in some if (run_id, epoch) in held]
        sql.execute(sa.update(t.runs).where(t.runs.c.run_id.in_(kept)).values(lease_until=write.lease_until))
        lost += [run_id for run_id, epoch in some if (run_id, epoch) not in held]
    return lost


def cancel(sql: sa.Connection, write: Cancel) -> None:
    """End a run by request. Raises `RunClosed` or `NotFound`."""
    run = head(sql, write.run_id)
    if run.status in CLOSED:
        raise RunClosed(f"run {run.id} is {run.status} in {run.state} already; there is nothing to cancel")
    freed = {"owner": None, "lease_until": None, "waiting_for": None, "due_at": None}
    ended = {"status": str(Status.CANCELLED), "epoch": run.epoch + 1, "reason": write.reason}
    times = {"updated_at": write.at, "finished_at": write.at}
    sql.execute(sa.update(t.runs).where(t.runs.c.run_id == write.run_id).values({**freed, **ended, **times}))
    sql.execute(sa.insert(t.feed), [_entry(run, "cancelled", write.at, note(actor=write.actor, reason=write.reason))])


def register(sql: sa.Connection, write: MachineSpec) -> int:
    """The number of a definition, written down if it is new."""
    known = number_of(sql, write.fingerprint)
    if known is not None:
        return known
    values = {"fingerprint": write.fingerprint, "name": write.name, "version": write.version, "spec": write.spec}
    sql.execute(sa.insert(t.machines), [values])
    number = number_of(sql, write.fingerprint)
    assert number is not None
    edges = [
        {"machine": number, "source": source, "event": event, "target": target}
        for source, event, target in dict.fromkeys(write.edges)
    ]
    if edges:
        sql.execute(sa.insert(t.machine_edges), edges)
    return number


def number_of(sql: sa.Connection, fingerprint: str) -> int | None:
    """The number of a definition that is known."""
    return sql.execute(sa.select(t.machines.c.machine).where(t.machines.c.fingerprint == fingerprint)).scalar()


def _entry(run: RunRecord, kind: str, at: int, facts: str) -> dict[str, object]:
    return {"run_id": bytes.fromhex(run.id), "kind": kind, "seq": run.seq, "idx": 0, "at": at, "note": facts}


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
