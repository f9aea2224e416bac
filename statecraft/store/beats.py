"""The sign of life that a worker writes, and what becomes of the rows of those that are gone.

A worker that ended leaves a row for a day. Then its counters are added to the row of an owner without a name, so that their
sums over all rows never go back, which a monitoring system would take for a restart.
"""

from __future__ import annotations

import sqlalchemy as sa

from statecraft.store.fleet import workers
from statecraft.store.holding import Beat

GONE = ""
"""Owner of the row that keeps the counters of workers whose rows were removed."""

SILENCE = 86_400_000_000
"""Microseconds (a day) after which the row of a worker that stopped, or says nothing any more, is removed."""

_COUNTERS = ("moves", "fenced", "recovered")


def beat(sql: sa.Connection, write: Beat) -> None:
    """Write down a sign of life."""
    # Nobody else writes this row, so there is no race between looking and writing, on any database.
    values = {
        "beat_at": write.at,
        "stopped_at": write.at if write.stopped else None,
        "lease": write.lease,
        "concurrency": write.concurrency,
        "held": write.held,
        **{name: getattr(write, name) for name in _COUNTERS},
        "queues": _list(write.queues),
        "machines": _list(write.machines),
    }
    _put(sql, write.owner, values, {"started_at": write.at, **values})
    _sweep(sql, write.at)


def _put(sql: sa.Connection, owner: str, change: dict[str, object], fresh: dict[str, object]) -> None:
    touched = sql.execute(sa.update(workers).where(workers.c.owner == owner).values(change))
    if touched.rowcount == 0:
        sql.execute(sa.insert(workers).values(owner=owner, **fresh))


def _sweep(sql: sa.Connection, now: int) -> None:
    """Remove what was silent for a day, and keep its counters."""
    old = sa.and_(workers.c.owner != GONE, workers.c.beat_at < now - SILENCE)
    if sql.execute(sa.select(workers.c.owner).where(old).limit(1)).first() is None:
        return
    # RETURNING, so that of two who sweep at the same time only the one who removed a row adds it up.
    removed = sql.execute(sa.delete(workers).where(old).returning(*(workers.c[name] for name in _COUNTERS))).all()
    if not removed:
        return
    sums = {name: sum(getattr(row, name) for row in removed) for name in _COUNTERS}
    blank: dict[str, object] = {"started_at": now, "beat_at": now, "stopped_at": now, "lease": 1, "concurrency": 0, "held": 0}
    _put(
        sql,
        GONE,
        {name: workers.c[name] + number for name, number in sums.items()},
        {**blank, **sums, "queues": _list(()), "machines": _list(())},
    )


def _list(names: tuple[str, ...]) -> str:
    return "\n".join(names)
