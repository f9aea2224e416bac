"""Writes that look before they write: taking runs, keeping them, ending them, and making machines known.

Each function runs inside a write transaction, so what it saw still holds when it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import sqlalchemy as sa

from statecraft.clock import instant, stamp
from statecraft.errors import NotFound, Refused, RunClosed, RunHeld
from statecraft.records import RunRecord, Status
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.port import Cancel, Claim, ClaimDue, MachineSpec, Renew
from statecraft.store.rows import RUN, RUNS, Row, run_record
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
    return _take(run, write, rows)


def _take(run: RunRecord, write: Claim | ClaimDue, rows: Rows) -> RunRecord:
    """Raise the epoch, hand the lease over, and say so; answer the run as it is then."""
    run_id = bytes.fromhex(run.id)
    rows[s.TAKE].append((write.owner, write.lease_until, write.now, run_id, run.epoch))
    rows[s.FREE].append((run_id,))
    rows[s.FEED].append((run_id, "claimed", run.seq, 0, write.now, note(owner=write.owner, epoch=run.epoch + 1)))
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


def claim_due(sql: sa.Connection, write: ClaimDue, rows: Rows) -> list[RunRecord]:
    """Take what is due: expired leases first, then by due time."""
    found: list[RunRecord] = []
    for query in (_EXPIRED, _DUE):
        room = write.limit - len(found)
        if room > 0:
            found += _ripe(sql, query, write, room)
    return [_take(run, write, rows) for run in found]


_SOME = t.runs.c.run_id.in_(sa.bindparam("run_ids", expanding=True))


@dataclass(frozen=True, slots=True)
class Ripening:
    """Runs by one of the two times that make them claimable: the earliest of all, or of some."""

    time: sa.Label[int]
    of_all: sa.Select[*tuple[Any, ...]]
    of_some: sa.Select[*tuple[Any, ...]]


def _ripening(column: sa.Column[int]) -> Ripening:
    time = column.label("ripe_at")
    machines = t.runs.c.machine.in_(sa.bindparam("machines", expanding=True))
    come = column <= sa.bindparam("now")
    query = RUNS.add_columns(time).where(come, machines).order_by(column).limit(sa.bindparam("most"))
    return Ripening(time, query, query.where(_SOME))


_EXPIRED, _DUE = _ripening(t.runs.c.lease_until), _ripening(t.runs.c.due_at)
_EVER = 2**63 - 1


def _ripe(sql: sa.Connection, query: Ripening, write: ClaimDue, limit: int) -> list[RunRecord]:
    """The earliest runs whose time has come, in order."""
    # What another writer has in hand is not due for us. (Where there is one writer, these words are left out.)
    taking = Ripening(query.time, skip_locked(query.of_all), skip_locked(query.of_some))
    return [run_record(row) for row in _ripe_rows(sql, taking, write, limit)]


def skip_locked(query: sa.Select[*tuple[Any, ...]]) -> sa.Select[*tuple[Any, ...]]:
    """A query of heads that holds what it finds, and passes over what another writer holds."""
    return query.with_for_update(key_share=True, skip_locked=True, of=t.runs)


def _ripe_rows(sql: sa.Connection, query: Ripening, write: ClaimDue, limit: int) -> list[Row]:
    values = {"machines": list(write.machines), "now": write.now, "most": limit}
    if write.only is None:
        return list(sql.execute(query.of_all, values))
    parts = (sql.execute(query.of_some, {**values, "run_ids": some}) for some in _chunks(list(write.only)))
    return sorted((row for part in parts for row in part), key=lambda row: (row.ripe_at, row.no))[:limit]


def next_due(sql: sa.Connection, machines: Sequence[int], only: frozenset[bytes] | None) -> int | None:
    """The earliest instant at which `claim_due` could take something."""
    ever = ClaimDue("", _EVER, _EVER, tuple(machines), 1, only)
    return min((int(row.ripe_at) for query in (_EXPIRED, _DUE) for row in _ripe_rows(sql, query, ever, 1)), default=None)


_HELD = sa.select(t.runs.c.run_id, t.runs.c.epoch).where(_SOME, t.runs.c.status == str(Status.RUNNING))


def renew(sql: sa.Connection, write: Renew, rows: Rows) -> list[bytes]:
    """Extend leases; answer the runs that are no longer held so."""
    held: set[tuple[bytes, int]] = set()
    for some in _chunks(write.held):
        found = sql.execute(_HELD, {"run_ids": [run_id for run_id, _ in some]})
        held.update((run_id, epoch) for run_id, epoch in found)
    rows[s.RENEW] += (
        (write.lease_until, run_id, epoch) for run_id, epoch in dict.fromkeys(write.held) if (run_id, epoch) in held
    )
    return [run_id for run_id, epoch in write.held if (run_id, epoch) not in held]


def cancel(sql: sa.Connection, write: Cancel, rows: Rows) -> None:
    """End a run by request. Raises `RunClosed` or `NotFound`."""
    run = head(sql, write.run_id)
    if run.status.closed:
        raise RunClosed(f"run {run.id} is {run.status} in {run.state} already; there is nothing to cancel")
    rows[s.CANCEL].append((write.at, write.at, write.reason, write.run_id, run.epoch))
    rows[s.FEED].append((write.run_id, "cancelled", run.seq, 0, write.at, note(actor=write.actor, reason=write.reason)))
    rows.ended.append((write.run_id, write.at))


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


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
