"""The table of schedules: its writes, each sound whatever other writers do at the same time, and its reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, assert_never

import sqlalchemy as sa

from statecraft.clock import instant
from statecraft.errors import NotFound
from statecraft.records import ScheduleRecord
from statecraft.store.fleet import schedules as t
from statecraft.store.scheduling import DropSchedule, Fired, PauseSchedule, PutSchedule, ResumeSchedule, ScheduleWrite

MOST_DUE = 1000
"""Most schedules looked at in one go."""

_DEFINITION = ("machine", "rule", "input", "queue", "priority", "tenant", "missed", "overlap")
"""The columns that a put gives. The others say how far the schedule is."""


def change(sql: sa.Connection, write: ScheduleWrite) -> object:
    """Do one write and answer what its class says. Raises `NotFound`; then nothing was changed."""
    match write:
        case PutSchedule():
            return _put(sql, write)
        case Fired():
            return _fired(sql, write)
        case PauseSchedule():
            _pause(sql, write)
            return None
        case ResumeSchedule():
            return _resume(sql, write)
        case DropSchedule():
            _drop(sql, write)
            return None
        case _:
            assert_never(write)


def _put(sql: sa.Connection, write: PutSchedule) -> str:
    definition = {column: getattr(write, column) for column in _DEFINITION}
    found = sql.execute(sa.select(*(t.c[column] for column in _DEFINITION)).where(t.c.name == write.name)).first()
    if found is None:
        times = {"next_at": write.next_at, "created_at": write.at, "updated_at": write.at}
        sql.execute(sa.insert(t), [{"name": write.name, **definition, **times}])
        return "created"
    if found._asdict() == definition:
        return "unchanged"
    kept = sa.or_(t.c.paused_at.is_not(None), t.c.rule == write.rule)
    next_at = sa.case((kept, t.c.next_at), else_=write.next_at)
    _update(sql, t.c.name == write.name, **definition, next_at=next_at, updated_at=write.at)
    return "replaced"


def _fired(sql: sa.Connection, write: Fired) -> bool:
    still = (t.c.name == write.name, t.c.next_at == write.at, t.c.rule == write.rule)
    last: dict[str, object] = {"last_at": write.at} if write.ran else {}
    return _update(sql, *still, next_at=write.next_at, **last) > 0


def _pause(sql: sa.Connection, write: PauseSchedule) -> None:
    going = (t.c.name == write.name, t.c.paused_at.is_(None))
    if not _update(sql, *going, paused_at=write.at, next_at=None):
        _must_exist(sql, write.name)


def _resume(sql: sa.Connection, write: ResumeSchedule) -> bool:
    paused = (t.c.name == write.name, t.c.paused_at.is_not(None), t.c.rule == write.rule)
    if _update(sql, *paused, paused_at=None, next_at=write.next_at):
        return True
    _must_exist(sql, write.name)
    return sql.execute(sa.select(t.c.name).where(t.c.name == write.name, t.c.paused_at.is_(None))).first() is not None


def _drop(sql: sa.Connection, write: DropSchedule) -> None:
    if not sql.execute(sa.delete(t).where(t.c.name == write.name)).rowcount:
        raise _missing(write.name)


def _update(sql: sa.Connection, *where: sa.ColumnElement[bool], **values: object) -> int:
    return sql.execute(sa.update(t).where(*where).values(values)).rowcount


def _must_exist(sql: sa.Connection, name: str) -> None:
    if sql.execute(sa.select(t.c.name).where(t.c.name == name)).first() is None:
        raise _missing(name)


def _missing(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name!r}; list them with `statecraft schedule list`")


# --- reads ----------------------------------------------------------------------------------------------------------


def listed(sql: sa.Connection, name: str | None) -> list[ScheduleRecord]:
    """All schedules by name, or the one of that name."""
    query = sa.select(t).order_by(t.c.name)
    return [_record(row) for row in sql.execute(query if name is None else query.where(t.c.name == name))]


def due(sql: sa.Connection, machines: Sequence[str], now: int) -> list[ScheduleRecord]:
    """Schedules of these machines whose next instant has come, the longest due first."""
    query = sa.select(t).where(t.c.next_at <= now, t.c.machine.in_(machines)).order_by(t.c.next_at, t.c.name).limit(MOST_DUE)
    return [_record(row) for row in sql.execute(query)]


def earliest(sql: sa.Connection, machines: Sequence[str]) -> int | None:
    """The earliest next instant of the schedules of these machines."""
    query = sa.select(t.c.next_at).where(t.c.next_at.is_not(None), t.c.machine.in_(machines))
    return sql.execute(query.order_by(t.c.next_at).limit(1)).scalar()


def _record(row: sa.Row[Any]) -> ScheduleRecord:
    told = row._asdict()
    for column in ("next_at", "last_at", "paused_at", "created_at", "updated_at"):
        told[column] = None if told[column] is None else instant(told[column])
    for column in ("rule", "input"):
        told[column] = json.loads(told[column])
    return ScheduleRecord(**told)
