"""How often a run entered each state. A migration says how often that was by the names of its definition; before it, other
names counted. Neither a migration nor a fork enters a state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from statecraft.store import rows
from statecraft.store import tables as t
from statecraft.store.statements import Query
from statecraft.store.versions import FORKED, MIGRATED

Counted = Mapping[str, int]

_since = t.transitions.c
_LAST = Query(
    sa.select(rows.PAYLOAD.label("payload"), _since.seq)
    .select_from(rows.LINKED)
    .where(
        _since.run_id == sa.bindparam("run_id"),
        _since.seq < sa.bindparam("seq"),
        _since.event == sa.literal_column(f"'{MIGRATED}'"),
    )
    .order_by(_since.seq.desc())
    .limit(sa.literal_column("1", sa.Integer))
    .offset(sa.literal_column("0", sa.Integer)),
    "run_id",
    "seq",
)
_BETWEEN = Query(
    sa.select(_since.target, _since.event, sa.func.count().label("times"))
    .where(_since.run_id == sa.bindparam("run_id"), _since.seq > sa.bindparam("after"), _since.seq < sa.bindparam("seq"))
    .group_by(_since.target, _since.event),
    "run_id",
    "after",
    "seq",
)


def counted_before(sql: sa.Connection, run_id: bytes, seq: int, past: Sequence[rows.Row]) -> Counted:
    """Visits before step `seq`. `past` is how often each (target, event) was before it, migrations disregarded."""
    if not any(row.event == MIGRATED for row in past):
        return _sum({}, past)
    (last,) = _LAST.ask(sql, run_id, seq)
    return _sum(json.loads(last.payload)["visits"], _BETWEEN.ask(sql, run_id, last.seq, seq))


def _sum(before: Counted, groups: Sequence[rows.Row]) -> Counted:
    visits = dict(before)
    for row in groups:
        if row.event != FORKED:
            visits[row.target] = visits.get(row.target, 0) + row.times
    return visits


def counted(before: Counted, links: Sequence[rows.Row]) -> dict[str, int]:
    """Visits after these links of the journal."""
    visits = dict(before)
    for link in links:
        if link.event == MIGRATED:
            visits = dict(json.loads(link.payload)["visits"])
        elif link.event != FORKED:
            visits[link.target] = visits.get(link.target, 0) + 1
    return visits
