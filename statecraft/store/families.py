"""What the end of a run does to others: its parent looks again, and its children end with it.

This happens in the transaction that ends the run. A child cannot start under a run that has ended
(`statements.CHILD`), so all open runs below one are reached through open ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.each import ask_each
from statecraft.store.statements import Query
from statecraft.store.writes import Rows, note


def _below() -> Query:
    columns = [t.runs.c[name] for name in ("run_id", "parent", "epoch", "seq")]
    first = sa.select(*columns).where(t.runs.c.parent == sa.bindparam("run_id"), t.runs.c.finished_at.is_(None))
    below = first.cte("below", recursive=True)
    child = t.runs.alias("child")
    rest = sa.select(*(child.c[column.name] for column in columns)).where(
        child.c.parent == below.c.run_id, child.c.finished_at.is_(None)
    )
    every = below.union_all(rest)
    # Held, so that none is claimed between being found and being cancelled. (One writer needs no words for it.)
    open_ = sa.select(*columns).where(t.runs.c.run_id.in_(sa.select(every.c.run_id)), t.runs.c.finished_at.is_(None))
    return Query(open_.order_by(t.runs.c.run_id).with_for_update(key_share=True), "run_id")


_BELOW = _below()
"""Children of a run, their children, and so on, that have not ended."""


def _related() -> Query:
    child = t.runs.alias("child")
    children = sa.select(child.c.no).where(child.c.parent == t.runs.c.run_id, child.c.finished_at.is_(None))
    reserved = sa.select(t.reservations.c.amount).where(t.reservations.c.run_id == t.runs.c.run_id)
    any_of = sa.or_(t.runs.c.parent.is_not(None), children.exists(), reserved.exists())
    return Query(sa.select(t.runs.c.no).where(t.runs.c.run_id == sa.bindparam("run_id"), any_of), "run_id")


_RELATED = _related()
"""Whether there is anything to do at all when a run ends; for most there is not."""


def follow(sql: sa.Connection, ended: Sequence[tuple[bytes, int]]) -> Rows:
    """The rows that follow from the end of runs; `sql` sees them ended. These may end others, which have followers too."""
    rows = Rows()
    related = ask_each(_RELATED, sql, [(run_id,) for run_id, _ in ended])
    for (run_id, at), anything in zip(ended, related, strict=True):
        if not anything:
            continue
        rows[s.FREE].append((run_id,))
        rows[s.WAKE_PARENT].append((at, run_id, at))
        for below in _BELOW.ask(sql, run_id):
            reason = f"its parent {below.parent.hex()} ended"
            rows[s.CANCEL].append((at, at, reason, below.run_id, below.epoch))
            rows[s.FREE].append((below.run_id,))
            rows.ended.append((below.run_id, at))
            rows[s.FEED].append((below.run_id, "cancelled", below.seq, 0, at, note(actor=None, reason=reason)))
    return rows
