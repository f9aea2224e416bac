"""Operating figures on PostgreSQL: the same numbers, and plans that read no whole table of ended runs."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from benchmarks.crowded import NOW, Mix, fill
from statecraft.store import beats, figures, open_store
from statecraft.store.port import Beat

pytestmark = pytest.mark.slow

DIALECT = sa.make_url("postgresql+psycopg://").get_dialect()()

QUERIES: dict[str, sa.Select[*tuple[Any, ...]]] = {
    "ready": figures.READY,
    "due": figures.DUE,
    "parked": figures.PARKED,
    "leases": figures.LEASES,
    "dead": figures.DEAD,
    **{f"places {name}": query for name, (_, query) in figures.PLACES.items()},
    "reviewed": figures.REVIEWED[0],
    "reviewed until": figures.REVIEWED[1],
    "ended": figures.ENDED,
}


def scanned(plan: dict[str, Any]) -> list[str]:
    """Tables that a plan reads from end to end."""
    below = [name for part in plan.get("Plans", ()) for name in scanned(part)]
    return [plan["Relation Name"], *below] if plan["Node Type"] == "Seq Scan" else below


def test_figures_of_many_runs_are_counted_and_no_plan_reads_ended_ones(postgres_url: str) -> None:
    async def main() -> None:
        await fill(postgres_url, Mix(due=200, later=100, reviews=50, closed=20_000))
        store = open_store(postgres_url)
        await store.open()
        for owner, at in (("ann", NOW), ("bob", NOW), ("eve", NOW + 2 * beats.SILENCE)):
            await store.submit(Beat(owner, at, 1_000_000, 8, 0, 10, 1, 3, (), ("crowd",)))
        found = (await store.figures(NOW)).stats
        await store.close()
        assert found.runs == {"ready": 100, "running": 0, "waiting": 250}
        (queue,) = found.queues
        assert (queue.depth, queue.delayed, queue.queue) == (200, 100, "default")
        assert found.reviews == 50
        assert [(place.state, place.status, place.runs) for place in found.places] == [
            ("begin", "waiting", 250),
            ("begin", "ready", 100),
        ]
        assert (found.moves, found.refused, found.taken_over) == (30, 3, 9)
        assert [worker.owner for worker in found.workers] == ["eve"]
        assert [pace.window for pace in found.pace] == [timedelta(minutes=minutes) for minutes in (1, 5, 60)]

    asyncio.run(main())
    with psycopg.connect(postgres_url) as raw:
        for name, query in QUERIES.items():
            text = str(query.compile(dialect=DIALECT))
            values = {"now": NOW, "since": 0, "from_0": 1, "from_1": 1, "from_2": 1, "param_1": 20_000, "kind_1": "transition"}
            names = {**values, **{key: value for key, value in query.compile().params.items() if value is not None}}
            ((plan,),) = raw.execute(f"EXPLAIN (FORMAT JSON) {text}".encode(), names).fetchall()
            found = plan if isinstance(plan, list) else json.loads(plan)
            assert "runs" not in scanned(found[0]["Plan"]), (name, found)
