"""Whose turn it is: tenants share a queue, and each gets its share however much the others put into it.

This is start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing: A Scheduling Algorithm for
Integrated Services Packet Switching Networks", SIGCOMM 1996). Each run gets a start tag when it is started, its turn:
the later of the queue's virtual time and the tenant's last turn plus one unit over its share; ready runs are taken in
the order of their turns. Virtual time is the tag of the run in service. Here that is the first run that is ready, since
it is served next; and while none is ready, the latest turn given, so that a tenant that comes to an idle queue begins
level with the others, and nobody saves up credit while away.

Runs of different priority do not compete, so each priority of a queue has its own time. Runs of no tenant are one tenant
among the others: first in, first out. A delayed start takes no turn away from its tenant; it gets the virtual time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from statecraft.records import Status
from statecraft.store import tables as t
from statecraft.store.port import Start
from statecraft.store.statements import Query

UNIT = 1_000_000
"""The turn of a tenant with share 1 moves on by this much with each run."""

_runs, _ready = t.runs.c, t.runs.alias("first").c
_ONE, _ZERO = sa.literal_column("1", sa.Integer), sa.literal_column("0", sa.Integer)
_LEVEL = (_runs.queue == sa.bindparam("queue"), _runs.priority == sa.bindparam("priority"))


def _last(*where: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    return sa.select(_runs.turn).where(*where).order_by(_runs.turn.desc()).limit(_ONE).offset(_ZERO).scalar_subquery()


def _head() -> sa.ScalarSelect[Any]:
    """The first turn of the runs that are ready, over all machines: one look into `ix_runs_ready` for each."""
    first = (
        sa.select(_ready.turn)
        .where(_ready.machine == t.machines.c.machine, _ready.queue == sa.bindparam("queue"))
        .where(_ready.priority == sa.bindparam("priority"), _ready.status == sa.literal_column(f"'{Status.READY}'"))
        .order_by(_ready.turn)
        .limit(_ONE)
        .offset(_ZERO)
        .correlate(t.machines)
        .scalar_subquery()
    )
    return sa.select(sa.func.min(first)).select_from(t.machines).scalar_subquery()


def _line(tenant: sa.ColumnElement[bool]) -> sa.Select[*tuple[Any, ...]]:
    return sa.select(_head().label("head"), _last(*_LEVEL).label("latest"), _last(*_LEVEL, tenant).label("own"))


_OF_NOBODY = Query(_line(_runs.tenant.is_(None)), *("queue", "priority") * 3)
_OF_TENANT = Query(_line(_runs.tenant == sa.bindparam("tenant")), *("queue", "priority") * 3, "tenant")


def turns(sql: sa.Connection, starts: Sequence[Start]) -> dict[bytes, int]:
    """The turns of new runs, by id. One question for each queue, priority and tenant among them."""
    lines: dict[tuple[str, int, str | None], tuple[int, int]] = {}
    given: dict[bytes, int] = {}
    for start in starts:
        line = (start.queue, start.priority, start.tenant)
        time, following = lines.get(line) or _ask(sql, start)
        turn = time
        if start.head.status is not Status.WAITING:
            turn = max(time, following)
            following = turn + max(1, round(UNIT / start.share))
        given[start.transition.run_id] = turn
        lines[line] = time, following
    return given


def _ask(sql: sa.Connection, start: Start) -> tuple[int, int]:
    """(virtual time, the tenant's next turn as far as it depends on the tenant)."""
    level = (start.queue, start.priority) * 3
    row = _OF_NOBODY.ask(sql, *level)[0] if start.tenant is None else _OF_TENANT.ask(sql, *level, start.tenant)[0]
    time = row.head if row.head is not None else row.latest or 0
    return time, 0 if row.own is None else row.own + max(1, round(UNIT / start.share))
