"""Dead letters in the database: read, counted by what they have in common, redriven, dropped."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from statecraft.clock import instant, stamp
from statecraft.errors import Gone, NotDead
from statecraft.letters import DeadFilter, DeadLetter, DeadPattern
from statecraft.records import Status
from statecraft.store import rows as r
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.claims import head_row
from statecraft.store.redrive import Drop, Redrive
from statecraft.store.visits import carried
from statecraft.store.writes import Rows, call_row, end, journal, note

_HOUR = 3_600_000_000
"""Microseconds."""

SAMPLES = 3
"""How many runs a pattern names at most."""

_DEATHS = t.deaths.join(t.runs, t.runs.c.run_id == t.deaths.c.run_id).join(t.machines, t.machines.c.machine == t.runs.c.machine)
_NOW = sa.and_(t.runs.c.status == sa.literal_column(f"'{Status.DEAD}'"), t.runs.c.epoch == t.deaths.c.epoch)
"""The death a run lies dead of: it has not been claimed since, which would have raised its epoch."""

_count = t.deaths.alias("every")
_LETTERS = sa.select(
    t.deaths,
    t.runs.c.tenant,
    t.runs.c.parent,
    t.runs.c.state.label("stands"),
    _NOW.label("open"),
    t.machines.c.name,
    t.machines.c.version,
    sa.select(sa.func.count()).where(_count.c.run_id == t.deaths.c.run_id).scalar_subquery().label("deaths"),
).select_from(_DEATHS)


def _fits(which: DeadFilter) -> list[sa.ColumnElement[bool]]:
    wanted: list[tuple[sa.ColumnElement[Any], object]] = [
        (t.machines.c.name, which.machine),
        (_STATE, which.state),
        (_ERROR, which.error),
        (_CALL, which.call),
        (t.runs.c.tenant, which.tenant),
    ]
    found = [_NOW, *(column == value for column, value in wanted if value is not None)]
    return found if which.since is None else [*found, t.deaths.c.at >= stamp(which.since)]


_STATE = sa.func.coalesce(t.deaths.c.state, t.runs.c.state)
_ERROR, _CALL = (sa.func.coalesce(column, sa.literal_column("''")) for column in (t.deaths.c.error, t.deaths.c.call))


def letters(sql: sa.Connection, which: DeadFilter) -> list[DeadLetter]:
    """Runs that are dead now, the latest death first."""
    latest = (t.deaths.c.at.desc(), t.runs.c.no.desc())
    return [_letter(row) for row in sql.execute(_LETTERS.where(*_fits(which)).order_by(*latest).limit(which.limit))]


def letter(sql: sa.Connection, run_id: bytes) -> DeadLetter | None:
    """The run's last death; None if it never died."""
    query = _LETTERS.where(t.deaths.c.run_id == run_id).order_by(t.deaths.c.epoch.desc()).limit(1)
    found = sql.execute(query).first()
    return None if found is None else _letter(found)


def _letter(row: r.Row) -> DeadLetter:
    told: dict[str, Any] = json.loads(row.diagnosis)
    return DeadLetter(
        run_id=row.run_id.hex(),
        machine=row.name,
        version=row.version,
        state=row.state or row.stands,
        seq=row.seq,
        at=instant(row.at),
        error=row.error or "",
        call=row.call or "",
        reason=told.get("reason") or "",
        event=told.get("event") or "",
        payload=told.get("payload"),
        data=told.get("data"),
        visits=told.get("visits") or {},
        path=tuple(told.get("path") or ()),
        last_calls=tuple(told.get("last_calls") or ()),
        unfinished=tuple(told.get("unfinished") or ()),
        needs=told.get("needs") or "",
        tenant=row.tenant,
        parent=None if row.parent is None else row.parent.hex(),
        deaths=row.deaths,
        open=bool(row.open),
    )


def patterns(sql: sa.Connection, which: DeadFilter) -> list[DeadPattern]:
    """Runs that are dead now, counted by what they died of, the most frequent first. One query."""
    # Whole numbers divided by a whole number stay whole in both databases.
    hour = (t.deaths.c.at // sa.literal_column(str(_HOUR), sa.BigInteger)) % sa.literal_column("24", sa.BigInteger)
    what = (t.machines.c.name.label("name"), _STATE.label("state"), _ERROR.label("error"), _CALL.label("call"))
    found = (
        sa.select(
            *what,
            hour.label("hour"),
            sa.func.count().label("deaths"),
            sa.func.min(t.deaths.c.at).label("first_at"),
            sa.func.max(t.deaths.c.at).label("last_at"),
            sa.func.max(t.runs.c.no).label("no"),
        )
        .select_from(_DEATHS)
        .where(*_fits(which))
        .group_by(*what, hour)
        .subquery("found")
    )
    query = sa.select(found, t.runs.c.run_id).join(t.runs, t.runs.c.no == found.c.no)
    parts: dict[tuple[str, ...], list[r.Row]] = defaultdict(list)
    for row in sql.execute(query):
        parts[row.name, row.state, row.error, row.call].append(row)
    whole = [_pattern(key, hours) for key, hours in parts.items()]
    return sorted(whole, key=lambda each: (-each.count, each.machine, each.state, each.error, each.call))


def _pattern(key: tuple[str, ...], hours: Sequence[r.Row]) -> DeadPattern:
    machine, state, error, call = key
    by_hour = {row.hour: row.deaths for row in hours}
    return DeadPattern(
        machine=machine,
        state=state,
        error=error,
        call=call,
        count=sum(by_hour.values()),
        first_at=instant(min(row.first_at for row in hours)),
        last_at=instant(max(row.last_at for row in hours)),
        hours=tuple(by_hour.get(hour, 0) for hour in range(24)),
        runs=tuple(row.run_id.hex() for row in sorted(hours, key=lambda row: -row.last_at)[:SAMPLES]),
    )


# --- writes -----------------------------------------------------------------------------------------------------------


def redrive(sql: sa.Connection, write: Redrive, rows: Rows) -> None:
    """Let a dead run go on. Raises `NotDead`, `Gone` or `NotFound`; then nothing was added."""
    row = head_row(sql, write.run_id)
    if (row.status, row.epoch, row.seq) != (Status.DEAD, write.epoch, write.seq):
        raise NotDead(f"run {write.run_id.hex()} is {row.status} in {row.state}; only a dead run is redriven")
    if row.parent is not None:
        _must_wait(sql, row)
    rows[s.NOTED].append(call_row(write.entry, rows))
    head, moved = write.head, write.transition
    place = (write.seq, row.state) if moved is None else (moved.seq, moved.target)
    finished = write.at if head.status.closed else None
    held = (str(head.status), None, None, None, head.due_at, write.deadline_at, write.at, finished, None, write.extra_steps)
    rows[s.REVIVE].append((*place, *held, write.run_id, write.epoch, write.seq))
    told = note(actor=write.actor, note=write.note, event=None if moved is None else moved.event)
    rows[s.FEED].append((write.run_id, "redriven", write.seq, 0, write.at, told))
    if moved is not None:
        journal(moved, "transition", rows)
    end(write.run_id, write.at, head, rows)


def _must_wait(sql: sa.Connection, child: r.Row) -> None:
    """Raise `Gone` unless the run's parent still waits for its end."""
    columns = (t.runs.c.status, t.runs.c.state, t.runs.c.seq)
    # Nobody claims the parent, and reads how the child lies there, before this is committed: see `postgres.locks`.
    parent = sql.execute(sa.select(*columns).where(t.runs.c.run_id == child.parent)).one()
    run, name = f"run {child.run_id.hex()} is a child run", f"its parent {child.parent.hex()}"
    if Status(parent.status).closed:
        raise Gone(f"{run}, and {name} has ended ({parent.status} in {parent.state}); redrive or start the parent")
    if parent.status == Status.RUNNING:
        raise Gone(f"{run}, and {name} is being advanced and may be reading its end; look again in a moment")
    asked = int(str(child.key or "").removeprefix("child:").split(".", 1)[0] or -1)
    if not carried(sql, child.parent, asked, parent.seq) or child.run_id.hex() in _told(sql, child.parent, asked):
        raise Gone(f"{run}, and {name} was told of its death and went on; it stands in {parent.state} now")


def _told(sql: sa.Connection, parent: bytes, seq: int) -> set[str]:
    """The child runs whose end stands in the journal of a visit, the run's last one."""
    calls = r.CALLS.where(t.calls.c.run_id == parent, t.calls.c.seq >= seq, t.calls.c.kind == "child")
    ends = (json.loads(row.result) for row in sql.execute(calls))
    return {str(told.get("run_id")) for told in ends}


def drop(sql: sa.Connection, write: Drop, rows: Rows) -> None:
    """End a dead run for good. Raises `NotDead` or `NotFound`; then nothing was added."""
    row = head_row(sql, write.run_id)
    if row.status != Status.DEAD:
        raise NotDead(f"run {write.run_id.hex()} is {row.status} in {row.state}; only a dead run is dropped")
    rows[s.CANCEL].append((write.at, write.at, write.reason, write.run_id, row.epoch))
    told = note(actor=write.actor, reason=write.reason)
    rows[s.FEED].append((write.run_id, "cancelled", row.seq, 0, write.at, told))
    rows.ended.append((write.run_id, write.at))
