"""Channels and their deliveries: who is told, who carries what, what became of it.

The functions that take rows run inside a write transaction, so what they saw still holds when they write.
"""

from __future__ import annotations

import json
from typing import cast

import sqlalchemy as sa

from statecraft.clock import instant
from statecraft.errors import NotFound
from statecraft.records import DeliveryRecord, Json
from statecraft.store import fleet, reminders, telling
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.outbox import Carried, Enable, Errand, Fetch, Hurry, Missed, Redeliver, Remind, Subscribe, Tell, Telling
from statecraft.store.rows import Row
from statecraft.store.statements import Query
from statecraft.store.upsert import insert_or_leave
from statecraft.store.writes import Rows

_way, _out, _on = fleet.deliveries.c, fleet.outbox.c, fleet.channels.c


def act(sql: sa.Connection, write: Telling, rows: Rows) -> object:
    """Do one write of the outbox and answer what its class says. Raises `NotFound`."""
    match write:
        case Tell():
            telling.told(write, rows)
        case Remind():
            reminders.remind(sql, write, rows)
        case Subscribe():
            _subscribe(sql, write, rows)
        case Enable():
            _enable(sql, write)
        case Fetch():
            return _fetch(sql, write, rows)
        case Carried():
            rows[s.CARRIED].append((write.at, write.channel, write.event, write.attempt))
        case Missed():
            rows[s.MISSED].append((write.due_at, write.error, write.channel, write.event, write.attempt))
        case Hurry():
            _hurry(sql, write)
        case Redeliver():
            return _redeliver(sql, write)
    return None


def _subscribe(sql: sa.Connection, write: Subscribe, rows: Rows) -> None:
    """The channel as this process knows it. Nothing is written when nothing changes, as with every start but the first."""
    known = sql.execute(sa.select(_on.channel).where(_on.channel == write.channel)).first()
    if known is None:
        new = {"channel": write.channel, "since": write.at, "disabled_at": None, "reason": None}
        sql.execute(insert_or_leave(fleet.channels).build(sql.dialect.name), [new])
    reminders.begin(sql, write.at, rows)
    wants = fleet.wants
    had = set(sql.execute(sa.select(wants.c.kind).where(wants.c.channel == write.channel)).scalars())
    if had != set(write.kinds):
        sql.execute(sa.delete(wants).where(wants.c.channel == write.channel, wants.c.kind.not_in(write.kinds)))
        if new_ones := [{"kind": kind, "channel": write.channel} for kind in write.kinds if kind not in had]:
            sql.execute(insert_or_leave(wants).build(sql.dialect.name), new_ones)


def _enable(sql: sa.Connection, write: Enable) -> None:
    off = None if write.reason is None else write.at
    open_again = _on.disabled_at.is_not(None) if off is None else _on.disabled_at.is_(None)
    change = sa.update(fleet.channels).where(_on.channel == write.channel, open_again)
    sql.execute(change.values(disabled_at=off, reason=write.reason))


# --- carrying ---------------------------------------------------------------------------------------------------------

_FACTS = (
    sa.select(
        *(_out[name] for name in ("event", "kind", "at", "run_id", "seq", "body")),
        _way.attempts,
        t.machines.c.name.label("machine"),
        t.transitions.c.target.label("state"),
        *(t.runs.c[name] for name in ("key", "tenant", "parent")),
    )
    .join_from(fleet.deliveries, fleet.outbox, _out.event == _way.event)
    .outerjoin(t.runs, t.runs.c.run_id == _out.run_id)
    .outerjoin(t.machines, t.machines.c.machine == t.runs.c.machine)
    .outerjoin(t.transitions, sa.and_(t.transitions.c.run_id == _out.run_id, t.transitions.c.seq == _out.seq))
)
_DUE = (
    sa.select(_way.event)
    .join(fleet.channels, _on.channel == _way.channel)
    .where(_way.channel == sa.bindparam("channel"), _way.due_at <= sa.bindparam("now"), _on.disabled_at.is_(None))
    .order_by(_way.due_at)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True, of=fleet.deliveries)
)
"""(Where several write at once, two that look at the same moment find different ones. SQLite has one writer.)"""


def _fetch(sql: sa.Connection, write: Fetch, rows: Rows) -> list[Errand]:
    due = sql.execute(_DUE, {"channel": write.channel, "now": write.now, "most": write.limit}).scalars().all()
    if not due:
        return []
    found = sql.execute(_FACTS.where(_way.channel == write.channel, _way.event.in_(due)).order_by(_out.at, _out.event)).all()
    rows[s.CARRY] += ((write.until, write.channel, row.event, row.attempts) for row in found)
    return [Errand(bytes(row.event), row.kind, row.at, row.attempts + 1, _data(row)) for row in found]


def _data(row: Row) -> dict[str, Json]:
    """Where it happened, then what. All of it is written once, so every attempt says the same."""
    facts = cast("dict[str, Json]", json.loads(row.body))
    if row.run_id is None:
        return facts
    parent = None if row.parent is None else row.parent.hex()
    place = {"run": row.run_id.hex(), "machine": row.machine, "state": row.state, "step": row.seq}
    more = {"key": row.key, "tenant": row.tenant, "parent": parent}
    return {**place, **{name: value for name, value in more.items() if value is not None}, **facts}


def _hurry(sql: sa.Connection, write: Hurry) -> None:
    # One that is under way has no error yet, and stays whose it is.
    waits = (_way.channel == write.channel, _way.due_at > write.at, _way.error.is_not(None))
    sql.execute(sa.update(fleet.deliveries).where(*waits).values(due_at=write.at))


def _redeliver(sql: sa.Connection, write: Redeliver) -> int:
    again = sa.update(fleet.deliveries).where(_way.event == write.event).values(due_at=write.at, delivered_at=None)
    found = sql.execute(again).rowcount
    if not found:
        raise NotFound(f"nothing was told under the id {write.event.hex()}; list what was with `statecraft alerts list`")
    return found


# --- reads ------------------------------------------------------------------------------------------------------------

_NEXT = Query(
    sa.select(sa.func.min(_way.due_at).label("due_at"))
    .join(fleet.channels, _on.channel == _way.channel)
    .where(_way.channel == sa.bindparam("channel"), _way.due_at.is_not(None), _on.disabled_at.is_(None)),
    "channel",
)


def next_delivery(sql: sa.Connection, channel: str) -> int | None:
    """When the channel's first delivery is due."""
    due = _NEXT.ask(sql, channel)[0].due_at
    return None if due is None else int(due)


def deliveries(sql: sa.Connection, failed: bool, event: str, limit: int) -> list[DeliveryRecord]:
    """Deliveries, those of the newest events first. Raises `NotFound` if `event` is no beginning of an id."""
    query = sa.select(fleet.deliveries, _out.kind, _out.at, _out.run_id).join(fleet.outbox, _out.event == _way.event)
    if failed:
        query = query.where(_way.due_at.is_(None), _way.delivered_at.is_(None))
    if event:
        low, high = _bounds(event)
        query = query.where(_way.event >= low, _way.event <= high)
    found = sql.execute(query.order_by(_out.at.desc(), _way.event, _way.channel).limit(limit)).all()
    return [_record(row) for row in found]


def _bounds(event: str) -> tuple[bytes, bytes]:
    """The first and the last id that begin with these hex digits."""
    try:
        return bytes.fromhex(event.ljust(32, "0")[:32]), bytes.fromhex(event.ljust(32, "f")[:32])
    except ValueError:
        raise NotFound(f"{event!r} is not the beginning of an alert's id; list them with `statecraft alerts list`") from None


def _record(row: Row) -> DeliveryRecord:
    return DeliveryRecord(
        id=row.event.hex(),
        channel=row.channel,
        kind=row.kind,
        at=instant(row.at),
        attempts=row.attempts,
        due_at=None if row.due_at is None else instant(row.due_at),
        delivered_at=None if row.delivered_at is None else instant(row.delivered_at),
        error=row.error,
        run_id=None if row.run_id is None else row.run_id.hex(),
    )
