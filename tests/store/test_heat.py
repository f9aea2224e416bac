"""Where runs are and where they went: what is counted, and that nothing that has ended is read for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite import dialect

from statecraft.clock import instant
from statecraft.records import Status, Waiting
from statecraft.stats import Crowd, Flow, Heat
from statecraft.store import heat as heats
from statecraft.store.port import Head
from statecraft.store.sql import SqlStore
from tests.store import rig

SECOND = 1_000_000
NOW = 100 * SECOND


@pytest.fixture
def url(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/heat.db"


def test_open_and_dead_runs_are_counted_by_state_and_moves_by_row(url: str) -> None:
    async def story(store: SqlStore) -> Heat:
        await rig.begun(store)
        await rig.begun(store, rig.ready(NOW))
        await rig.waiting_for_review(store)
        ended, dead = [await rig.begun(store) for _ in range(2)]
        await store.submit(ended.move("gave_up", head=Head(Status.FAILED)))
        await store.submit(dead.die())
        return await store.heat("paper", 0)

    found = rig.within(url, story)
    assert set(found.crowds) == {
        Crowd("draft", Status.RUNNING, None, 1),
        Crowd("draft", Status.READY, None, 1),
        Crowd("draft", Status.DEAD, None, 1),
        Crowd("review", Status.WAITING, Waiting.REVIEW, 1),
    }
    assert {(flow.source, flow.event, flow.moves) for flow in found.flows} == {("draft", "asked", 1), ("draft", "gave_up", 1)}
    assert (found.machine, found.whole, found.since) == ("paper", True, instant(0))


def test_another_machine_has_no_part_in_it(url: str) -> None:
    async def story(store: SqlStore) -> Heat:
        await rig.waiting_for_review(store)
        return await store.heat("letters", 0)

    found = rig.within(url, story)
    assert (found.crowds, found.flows) == ((), ())


def test_moves_before_the_window_are_not_counted(url: str) -> None:
    async def story(store: SqlStore) -> tuple[Flow, ...]:
        for at in (NOW - 5 * SECOND, NOW, NOW + SECOND):
            run = await rig.begun(store)
            run.at = at
            await store.submit(run.move("asked"))
        return (await store.heat("paper", NOW)).flows

    (flow,) = rig.within(url, story)
    assert flow.moves == 2


def test_what_is_looked_at_is_bounded_and_that_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heats, "LOOKED", 2)

    async def story(store: SqlStore) -> Heat:
        for age in (30, 20, 10):
            run = await rig.begun(store)
            run.at = NOW - age * SECOND
            await store.submit(run.move("asked"))
        return await store.heat("paper", 0)

    found = rig.within(url, story)
    assert not found.whole
    assert sum(flow.moves for flow in found.flows) == 1


def test_definitions_are_found_by_the_beginning_of_their_fingerprint(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await rig.begun(store)
        fingerprint = (await store.run(run.run_id)).fingerprint
        (known,) = await store.known(fingerprint[:8])
        assert (known.name, known.fingerprint) == ("paper", fingerprint)
        assert await store.known("%") == []

    rig.within(url, story)


def test_no_query_reads_runs_that_have_ended_or_the_whole_journal(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await rig.begun(store)

    rig.within(url, story)
    with closing(sqlite3.connect(rig.path_of(url))) as raw:
        for query, given in ((heats.CROWDS, {"name": "x"}), (heats.FLOWS, {"name": "x", "since": 0, "after": 5})):
            spoken = query.compile(dialect=dialect(paramstyle="named"))
            plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {spoken}", {**spoken.params, **given})]
            read = [step for step in plan if "runs" in step or "transitions" in step or "feed" in step]
            assert read
            assert not [step for step in read if step.startswith("SCAN")], plan
