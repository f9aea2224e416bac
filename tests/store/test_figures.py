"""Operating figures: what they count, and that no query of them reads what has ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from statecraft.clock import instant
from statecraft.records import Status, Waiting
from statecraft.stats import Stats
from statecraft.store import beats, crew, figures
from statecraft.store.port import Beat, Claim, Head
from statecraft.store.sql import SqlStore
from tests.store import rig

NOW = 100_000_000
SECOND = 1_000_000
BEAT = Beat("ann", NOW, 30 * SECOND, 8, 2, 10, 1, 3, (), ("paper",))


async def stats(store: SqlStore, now: int = NOW) -> Stats:
    return (await store.figures(now)).stats


def later(seconds: float) -> Head:
    return Head(Status.WAITING, waiting_for=Waiting.TIMER, due_at=NOW + int(seconds * SECOND))


@pytest.fixture
def url(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/figures.db"


def test_an_empty_database_has_figures_too(url: str) -> None:
    async def story(store: SqlStore) -> None:
        found = await stats(store)
        assert found.runs == {"ready": 0, "running": 0, "waiting": 0}
        assert (found.queues, found.places, found.workers, found.outbox, found.dead) == ((), (), (), (), {})
        assert (found.moves, found.overdue, found.reviews, found.schedule_next) == (0, 0, 0, None)
        assert [pace.moves for pace in found.pace] == [0.0, 0.0, 0.0]

    rig.within(url, story)


def test_a_queue_tells_what_is_due_how_old_it_is_and_what_comes_later(url: str) -> None:
    async def story(store: SqlStore) -> None:
        for head in (rig.ready(NOW - 3 * SECOND), rig.ready(NOW - SECOND), later(-7), later(9), later(5)):
            run = await rig.begun(store)
            await store.submit(replace(run.sleep_until(0), head=head))
        (queue,) = (await stats(store)).queues
        assert (queue.queue, queue.depth, queue.delayed) == ("default", 3, 2)
        assert (queue.oldest, queue.next_due) == (timedelta(seconds=7), instant(NOW + 5 * SECOND))

    rig.within(url, story)


def test_open_runs_are_counted_by_status_and_by_where_they_stand_and_ended_ones_are_not(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await rig.begun(store)
        await rig.waiting_for_review(store)
        ended = await rig.begun(store)
        await store.submit(ended.move("gave_up", head=Head(Status.FAILED)))
        found = await stats(store)
        assert found.runs == {"ready": 0, "running": 1, "waiting": 1}
        assert {(place.machine, place.state, place.status, place.runs) for place in found.places} == {
            ("paper", "draft", "running", 1),
            ("paper", "review", "waiting", 1),
        }
        assert not found.sampled

    rig.within(url, story)


def test_places_of_very_many_runs_are_said_to_be_a_part(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {
        name: (status, sa.text("SELECT 1 AS machine, 'draft' AS state, 20001 AS runs"))
        for name, (status, _) in figures.PLACES.items()
    }
    monkeypatch.setattr(figures, "PLACES", some)

    async def story(store: SqlStore) -> None:
        await rig.begun(store)
        assert (await stats(store)).sampled

    rig.within(url, story)


def test_a_run_waits_for_a_person_until_its_review_is_due(url: str) -> None:
    async def story(store: SqlStore) -> None:
        forever = await rig.begun(store)
        await store.submit(forever.move("asked"))
        await store.submit(replace(forever.ask_person(), at=NOW - 60 * SECOND))
        a_while = await rig.begun(store)
        await store.submit(a_while.move("asked"))
        await store.submit(replace(a_while.ask_person(expires_at=NOW + SECOND), at=NOW - 90 * SECOND))
        found = await stats(store)
        assert (found.reviews, found.review_oldest) == (2, timedelta(seconds=90))
        assert found.waiting_for == {"review": 2}
        found = await stats(store, NOW + SECOND)
        assert (found.reviews, found.review_oldest) == (1, timedelta(seconds=61))

    rig.within(url, story)


def test_dead_letters_are_counted_by_machine(url: str) -> None:
    async def story(store: SqlStore) -> None:
        for _ in range(2):
            run = await rig.begun(store)
            await store.submit(run.die())
        assert (await stats(store)).dead == {"paper": 2}

    rig.within(url, story)


def test_a_lease_that_is_over_counts_until_somebody_takes_the_run(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await rig.begun(store, rig.running("me", NOW - 1))
        assert (await stats(store)).overdue == 1
        taken = await store.submit(Claim(run.run_id, "you", NOW, NOW + SECOND))
        assert taken.taken_from == "me"  # type: ignore[attr-defined]
        assert (await stats(store)).overdue == 0

    rig.within(url, story)


def test_a_claim_of_a_run_that_nobody_held_takes_it_from_nobody(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await rig.begun(store, rig.ready())
        taken = await store.submit(Claim(run.run_id, "you", NOW, NOW + SECOND))
        assert taken.taken_from is None  # type: ignore[attr-defined]

    rig.within(url, story)


def test_the_pace_counts_moves_starts_and_ends_of_each_window(url: str) -> None:
    async def story(store: SqlStore) -> None:
        now = 10_000 * SECOND
        for age in (30, 120, 1_800):
            run = await rig.begun(store)
            run.at = now - age * SECOND
            await store.submit(run.move("asked"))
            dead = await rig.begun(store)
            dead.at = now - age * SECOND
            await store.submit(dead.die())
        pace = (await stats(store, now)).pace
        assert [round(each.moves * each.over.total_seconds()) for each in pace] == [1, 2, 3]
        assert [round(each.ended * each.over.total_seconds()) for each in pace] == [1, 2, 3]
        assert [each.over for each in pace] == [each.window for each in pace]

    rig.within(url, story)


def test_a_window_longer_than_the_tail_of_the_feed_is_judged_by_the_tail(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "TAIL", 2)

    async def story(store: SqlStore) -> None:
        now = 10_000 * SECOND
        runs = [await rig.begun(store) for _ in range(3)]
        for run, age in zip(runs, (3_000, 40, 20), strict=True):
            run.at = now - age * SECOND
            await store.submit(run.move("asked"))
        await store.submit(replace(runs[-1].ask_person(), at=now))
        pace = (await stats(store, now)).pace
        assert [each.over for each in pace] == [timedelta(seconds=20) - timedelta(microseconds=1)] * 3
        assert [round(each.moves, 3) for each in pace] == [0.05] * 3

    rig.within(url, story)


def test_a_run_that_ended_well_counts_as_ended_once(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await rig.begun(store)
        run.at = NOW
        await store.submit(run.move("gave_up", head=Head(Status.FAILED)))
        assert [round(each.ended * each.over.total_seconds()) for each in (await stats(store, NOW + 10)).pace] == [1, 1, 1]

    rig.within(url, story)


def test_a_worker_is_alive_then_lost_or_stopped(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await store.submit(BEAT)
        (ann,) = (await stats(store)).workers
        assert (ann.owner, ann.state, ann.held, ann.concurrency, ann.machines, ann.queues) == (
            "ann",
            "alive",
            2,
            8,
            ("paper",),
            (),
        )
        assert (await stats(store, NOW + 31 * SECOND)).workers[0].state == "lost"
        await store.submit(replace(BEAT, at=NOW + 40 * SECOND, held=0, stopped=True))
        (ann,) = (await stats(store, NOW + 99 * SECOND)).workers
        assert (ann.state, ann.held, ann.beat_at) == ("stopped", 0, instant(NOW + 40 * SECOND))

    rig.within(url, story)


def test_a_worker_that_comes_back_is_alive_again(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await store.submit(replace(BEAT, stopped=True))
        await store.submit(BEAT)
        assert (await stats(store)).workers[0].state == "alive"

    rig.within(url, story)


def test_counters_are_sums_and_outlive_the_rows_of_workers_that_are_gone(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await store.submit(BEAT)
        await store.submit(replace(BEAT, owner="bob"))
        for owner, days in (("eve", 2), ("zoe", 4)):
            await store.submit(replace(BEAT, owner=owner, at=NOW + days * beats.SILENCE))
            assert [worker.owner for worker in (await stats(store)).workers] == [owner]
        found = await stats(store)
        assert (found.moves, found.refused, found.taken_over) == (40, 4, 12)

    rig.within(url, story)


def test_tenants_are_found_whatever_the_number_of_their_windows(url: str) -> None:
    async def story(store: SqlStore) -> None: ...

    rig.within(url, story)
    with closing(sqlite3.connect(rig.path_of(url))) as raw, raw:
        names = [f"tenant:{name}:{window}+60:tokens" for name in ("acme", "a:b", "a", "zoo") for window in range(50)]
        raw.executemany("INSERT INTO meters(meter, used) VALUES(?, 1)", [(name,) for name in (*names, "run:1:tokens", "zz")])
        raw.execute("INSERT INTO meters(meter, used, state) VALUES('breaker:model:x', 0, '{}')")

    async def look(store: SqlStore) -> None:
        found = await store.figures(NOW)
        assert found.tenants == ("a", "a:b", "acme", "zoo")
        assert found.circuits == {"model:x": "{}"}

    rig.within(url, look)


def test_schedules_and_alerts_tell_how_late_they_are(url: str) -> None:
    async def story(store: SqlStore) -> None: ...

    rig.within(url, story)
    with closing(sqlite3.connect(rig.path_of(url))) as raw, raw:
        raw.execute("INSERT INTO channels(channel, since) VALUES('ops', 1)")
        raw.execute("INSERT INTO outbox(event, kind, at, body) VALUES(zeroblob(16), 'x', 1, '{}')")
        raw.execute(
            "INSERT INTO deliveries(event, channel, attempts, due_at) VALUES(zeroblob(16), 'ops', 0, ?)", (NOW - 5 * SECOND,)
        )
        raw.execute(
            "INSERT INTO schedules(name, machine, rule, next_at, created_at, updated_at, queue, priority, input, missed, overlap)"
            " VALUES('daily', 'paper', '@daily', ?, 1, 1, 'default', 0, '{}', 'latest', 'allow')",
            (NOW - 2 * SECOND,),
        )

    async def look(store: SqlStore) -> None:
        found = await stats(store)
        assert [(each.channel, each.deliveries, each.late) for each in found.outbox] == [("ops", 1, timedelta(seconds=5))]
        assert (found.schedules, found.schedule_late) == (1, timedelta(seconds=2))
        assert found.schedule_next == instant(NOW - 2 * SECOND)

    rig.within(url, look)


QUERIES = {
    "ready": figures.READY,
    "due": figures.DUE,
    "parked": figures.PARKED,
    "leases": figures.LEASES,
    "dead": figures.DEAD,
    **{f"places {name}": query for name, (_, query) in figures.PLACES.items()},
    "reviewed": figures.REVIEWED[0],
    "reviewed until": figures.REVIEWED[1],
    "moved": figures.MOVED,
    "ended": figures.ENDED,
    "first": figures.FIRST,
    "tenant": crew.NEXT_TENANT,
    "circuits": crew.CIRCUITS,
    "outbox": figures.OUTBOX,
    "schedules": figures.SCHEDULES,
}


@pytest.mark.parametrize("name", QUERIES)
def test_no_figure_reads_a_whole_table(name: str, url: str) -> None:
    async def story(store: SqlStore) -> None: ...

    rig.within(url, story)
    text = str(QUERIES[name].compile(dialect=sqlite_dialect()))
    values = [1] * text.count("?")
    with closing(sqlite3.connect(rig.path_of(url))) as raw:
        plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    touched = [step for step in plan if step.startswith(("SCAN", "SEARCH")) and "anon" not in step]
    assert touched
    for step in touched:
        assert "USING" in step, plan
