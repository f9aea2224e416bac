"""Which rows belong to the visit that a run is in.

A migration puts a row of its own into the journal, so the numbers of steps go on, but the visit that was open goes on too:
its calls, attempts and questions keep the number under which they were written, and what comes new is written under the
number of the migration. So nothing is written twice, and no hash changes.
"""

from __future__ import annotations

import sqlalchemy as sa

from statecraft.store import tables as t
from statecraft.store.versions import MIGRATED


def of_open_visit(seq: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether step `seq` of the run in `runs` began, or carried on, the visit that the run is in now."""
    return sa.or_(t.runs.c.seq == seq, sa.and_(t.runs.c.seq > seq, ~_left(t.runs.c.run_id, seq, t.runs.c.seq).exists()))


def carried(sql: sa.Connection, run_id: bytes, begun: int, now: int) -> bool:
    """Whether the visit that step `begun` began is the one that goes on at step `now`."""
    if begun >= now:
        return begun == now
    return (
        sql.execute(_left(sa.literal(run_id, t.runs.c.run_id.type), sa.literal(begun), sa.literal(now)).limit(1)).first() is None
    )


def _left(run_id: sa.ColumnElement[bytes], begun: sa.ColumnElement[int], now: sa.ColumnElement[int]) -> sa.Select[tuple[int]]:
    """Steps after `begun`, up to `now`, that ended a visit."""
    later = t.transitions.alias("later")
    after = (later.c.seq > begun, later.c.seq <= now, later.c.event != sa.literal_column(f"'{MIGRATED}'"))
    return sa.select(later.c.seq).where(later.c.run_id == run_id, *after)
