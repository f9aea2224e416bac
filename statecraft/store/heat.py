"""Where a machine's runs are and where they went, in two queries whose cost does not grow with what has ended.

Runs that are open or dead are counted in the indexes of just those runs. Moves are found through the newest entries of the
feed (at most `LOOKED`), since the journal itself is in the order of runs and not of time.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from statecraft.clock import instant
from statecraft.records import Status, Waiting
from statecraft.stats.heat import Crowd, Flow, Heat
from statecraft.store import figures
from statecraft.store import tables as t

LOOKED = 100_000
"""Entries of the feed that are looked at, the newest."""

_run, _fed, _moved = t.runs.c, t.feed.c, t.transitions.c
_NAME = sa.bindparam("name", type_=sa.Text)
_SINCE, _AFTER = sa.bindparam("since", type_=sa.BigInteger), sa.bindparam("after", type_=sa.BigInteger)
_OURS = sa.select(t.machines.c.machine).where(t.machines.c.name == _NAME).scalar_subquery()


def _standing(status: Status, which: sa.ColumnElement[bool]) -> sa.Select[*tuple[Any, ...]]:
    return (
        sa.select(_run.state, sa.literal(str(status)).label("status"), _run.waiting_for, sa.func.count().label("runs"))
        .where(which, _run.machine.in_(_OURS))
        .group_by(_run.state, _run.waiting_for)
    )


CROWDS = sa.union_all(*(_standing(status, which) for status, which in figures.STANDING))

FLOWS = (
    sa.select(_moved.source, _moved.event, _moved.target, _moved.guards, sa.func.count().label("moves"))
    .select_from(t.feed.join(t.transitions, sa.and_(_moved.run_id == _fed.run_id, _moved.seq == _fed.seq)))
    .where(_fed.pos > _AFTER, _fed.kind == "transition", _fed.at >= _SINCE, _moved.machine.in_(_OURS))
    .group_by(_moved.source, _moved.event, _moved.target, _moved.guards)
)


def heat(sql: sa.Connection, name: str, since: int) -> Heat:
    """The runs of all versions of the machine called `name`, and their moves since an instant."""
    after = max(0, (sql.execute(figures.LAST).scalar() or 0) - LOOKED)
    first = sql.execute(figures.FIRST, {"since": after}).scalar() if after else None
    asked = {"name": name, "since": since, "after": after}
    crowds = [
        Crowd(row.state, Status(row.status), None if row.waiting_for is None else Waiting(row.waiting_for), row.runs)
        for row in sql.execute(CROWDS, {"name": name})
    ]
    flows = [
        Flow(row.source, row.event, row.target, tuple((guard, held) for guard, held in json.loads(row.guards)), row.moves)
        for row in sql.execute(FLOWS, asked)
    ]
    begin = since if first is None else max(since, first)
    return Heat(name, instant(begin), begin == since, tuple(crowds), tuple(flows))
