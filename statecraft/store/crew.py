"""Who works, for whom, and with what: workers' last beats, tenants, breakers."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

from statecraft.clock import instant
from statecraft.stats.figures import WorkerBeat
from statecraft.store import tables as t
from statecraft.store.beats import GONE
from statecraft.store.fleet import workers as table

MOST_WORKERS = 1_000
MOST_TENANTS = 100
MOST_BREAKERS = 200

TOTALS = sa.select(*(sa.func.coalesce(sa.func.sum(table.c[name]), 0).label(name) for name in ("moves", "fenced", "recovered")))
LATEST = sa.select(table).where(table.c.owner != GONE).order_by(table.c.beat_at.desc(), table.c.owner).limit(MOST_WORKERS)
_AFTER = sa.bindparam("after", type_=sa.Text)
NEXT_TENANT = (
    sa.select(t.meters.c.meter)
    .where(t.meters.c.meter >= _AFTER, t.meters.c.meter < sa.literal("tenant;"))
    .order_by(t.meters.c.meter)
    .limit(1)
)
CIRCUITS = (
    sa.select(t.meters.c.meter, t.meters.c.state)
    .where(t.meters.c.meter >= sa.literal("breaker:"), t.meters.c.meter < sa.literal("breaker;"))
    .order_by(t.meters.c.meter)
    .limit(MOST_BREAKERS)
)


def totals(sql: sa.Connection) -> Any:
    """Sums of the counters of all workers that ever were."""
    return sql.execute(TOTALS).one()


def workers(sql: sa.Connection, now: int) -> tuple[WorkerBeat, ...]:
    """The workers whose rows are still there, latest beat first."""
    return tuple(_beat(row, now) for row in sql.execute(LATEST))


def _beat(row: Any, now: int) -> WorkerBeat:
    silent = now - row.beat_at > row.lease
    state: Literal["alive", "lost", "stopped"] = "stopped" if row.stopped_at is not None else "lost" if silent else "alive"
    return WorkerBeat(
        row.owner,
        state,
        instant(row.beat_at),
        row.held,
        row.concurrency,
        row.moves,
        row.fenced,
        row.recovered,
        tuple(row.queues.splitlines()),
        tuple(row.machines.splitlines()),
    )


def tenants(sql: sa.Connection) -> tuple[str, ...]:
    """Tenants with meters of their own, up to a bound. One look at the index for each, whatever the number of windows."""
    found: list[str] = []
    after = "tenant:"
    while len(found) < MOST_TENANTS:
        meter = sql.execute(NEXT_TENANT, {"after": after}).scalar()
        if meter is None:
            break
        # tenant:<name>:<window>:<unit>. A window begins with a digit, and `:` is the character after `9`: so `acme:` is past
        # all windows of acme, and before those of a tenant `acme:paris`.
        name = str(meter).removeprefix("tenant:").rsplit(":", 2)[0]
        found.append(name)
        after = f"tenant:{name}::"
    return tuple(found)


def circuits(sql: sa.Connection) -> dict[str, str]:
    """The states of the breakers that workers share, by dependency, up to a bound."""
    return {str(row.meter).removeprefix("breaker:"): row.state or "" for row in sql.execute(CIRCUITS)}
