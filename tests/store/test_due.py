"""Which runs are taken, from which queues, in which order, and at what cost."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.dialects import sqlite

from statecraft.clock import stamp
from statecraft.records import RunRecord, Status, Waiting
from statecraft.store import due, fairness
from statecraft.store.port import ClaimDue, Head, Park, Release
from statecraft.store.sql import SqlStore
from statecraft.store.statements import Query
from tests.store.rig import FOREVER, OTHER, PAPER, Story, begun, opened, path_of, ready, running, within

CLAIM = ClaimDue("you", 100, FOREVER, (1,), 10)


async def started(store: SqlStore, head: Head | None = None, **place: Any) -> Story:
    """A run that nobody holds."""
    story = Story(
        place.pop("machine", None) or await store.register(PAPER), epoch=0 if head is None else int(head.owner is not None)
    )
    await store.submit(replace(story.start(head or ready()), **place))
    return story


async def taken(store: SqlStore, claim: ClaimDue) -> list[str]:
    answer = await store.submit(claim)
    assert isinstance(answer, list)
    return [run.id for run in answer]


def test_ready_runs_go_by_priority_and_then_in_the_order_in_which_they_came(url: str) -> None:
    async def story(store: SqlStore) -> None:
        low, first, second, high = [await started(store, priority=priority) for priority in (-1, 0, 0, 7)]
        expected = [run.run_id.hex() for run in (high, first, second, low)]
        assert await taken(store, replace(CLAIM, limit=1)) == expected[:1]
        assert await taken(store, CLAIM) == expected[1:]

    within(url, story)


def test_only_the_queues_asked_for_are_served_and_several_are_merged_in_order(url: str) -> None:
    async def story(store: SqlStore) -> None:
        a = await started(store, queue="a", priority=1)
        other = await store.register(OTHER)
        b = await started(store, queue="b", priority=3)
        c = await started(store, queue="c", priority=9)
        more = await started(store, queue="a", priority=2, machine=other)
        both = replace(CLAIM, machines=(1, other), queues=("a", "b"))
        assert await store.next_due([1, other], None, ("a", "b")) == 1
        assert await taken(store, replace(both, limit=2)) == [b.run_id.hex(), more.run_id.hex()]
        assert await taken(store, both) == [a.run_id.hex()]
        assert await store.next_due([1, other], None, ("a", "b")) is not None  # The leases of those that were taken.
        assert (await store.run(c.run_id)).status is Status.READY

    within(url, story)


def test_own_runs_are_taken_whatever_their_queue(url: str) -> None:
    async def story(store: SqlStore) -> None:
        mine, other = await started(store, queue="bulk"), await started(store, queue="bulk")
        only = frozenset({mine.run_id})
        assert await store.next_due([1], only) == 1
        assert await taken(store, replace(CLAIM, only=only)) == [mine.run_id.hex()]
        assert (await store.run(other.run_id)).status is Status.READY

    within(url, story)


def test_a_run_that_is_handed_back_keeps_its_turn(url: str) -> None:
    async def story(store: SqlStore) -> None:
        first, second = await started(store), await started(store)
        assert await taken(store, replace(CLAIM, limit=1)) == [first.run_id.hex()]
        await store.submit(Park(first.run_id, 0, 1, 200, ready(200)))
        assert await taken(store, CLAIM) == [first.run_id.hex(), second.run_id.hex()]

    within(url, story)


def test_what_an_owner_holds_is_released_and_nothing_else(url: str) -> None:
    async def story(store: SqlStore) -> None:
        mine, theirs = [await begun(store, running(owner)) for owner in ("me", "they")]
        parked = await begun(store)
        await store.submit(parked.sleep_until(FOREVER))
        assert await store.submit(Release("me", 300)) == 1
        run = await store.run(mine.run_id)
        assert (run.status, run.owner, run.epoch, run.due_at and stamp(run.due_at)) == (Status.READY, None, 1, 300)
        assert (await store.run(theirs.run_id)).owner == "they"
        assert await store.submit(Release("me", 301)) == 0

    within(url, story)


def test_a_delayed_start_is_claimed_when_it_is_due_and_began_then(url: str) -> None:
    async def story(store: SqlStore) -> None:
        delayed = Head(Status.WAITING, waiting_for=Waiting.START, due_at=5_000)
        run = await started(store, delayed)
        assert await store.next_due([1], None) == 5_000
        assert await taken(store, replace(CLAIM, now=4_999)) == []
        answer = await store.submit(replace(CLAIM, now=6_000))
        assert isinstance(answer, list)
        (record,) = answer
        assert isinstance(record, RunRecord)
        assert stamp(record.created_at) == 5_000
        assert record == await store.run(run.run_id)
        assert [entry.kind for entry in await store.feed(0, run.run_id)] == ["started", "waiting", "claimed"]

    within(url, story)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_no_more_runs_of_a_limited_machine_are_taken_than_there_is_room_for(url: str) -> None:
    async def story(store: SqlStore) -> None:
        runs = [await started(store) for _ in range(5)]
        limits = (("paper", 2),)
        limited = replace(CLAIM, limits=limits)
        assert await taken(store, limited) == [run.run_id.hex() for run in runs[:2]]
        assert await taken(store, limited) == []
        assert await store.next_due([1], None, ("default",), limits) == FOREVER  # When a lease ends; not now.
        await store.submit(Park(runs[0].run_id, 0, 1, 200, Head(Status.WAITING, waiting_for=Waiting.TIMER, due_at=FOREVER)))
        assert await taken(store, replace(limited, only=frozenset(run.run_id for run in runs))) == [runs[2].run_id.hex()]
        assert await taken(store, limited) == []

    within(url, story)


def test_a_lease_that_expired_makes_no_room_but_its_run_may_be_taken(url: str) -> None:
    async def story(store: SqlStore) -> None:
        held = await begun(store, running(lease_until=50))
        await started(store)
        assert await taken(store, replace(CLAIM, limits=(("paper", 1),))) == [held.run_id.hex()]

    within(url, story)


def test_versions_of_a_machine_share_its_limit_and_others_are_not_touched(url: str) -> None:
    async def story(store: SqlStore) -> None:
        newer = await store.register(replace(PAPER, fingerprint="c" * 64, version="2"))
        other = await store.register(OTHER)
        for machine in (1, newer, other):
            for _ in range(2):
                await started(store, machine=machine)
        every = replace(CLAIM, machines=(1, newer, other), limits=(("paper", 3),))
        answer = await store.submit(every)
        assert isinstance(answer, list)
        assert sorted(run.machine for run in answer) == ["other", "other", "paper", "paper", "paper"]

    within(url, story)


def test_claimers_on_connections_of_their_own_never_exceed_a_limit(url: str) -> None:
    async def go() -> None:
        async with opened(url) as one, opened(url) as two, opened(url) as three:
            for _ in range(30):
                await started(one)
            claims = [replace(CLAIM, owner=f"w{n}", limit=3, limits=(("paper", 7),)) for n in range(12)]
            answers = await asyncio.gather(*((one, two, three)[n % 3].submit(claim) for n, claim in enumerate(claims)))
            ids = [run.id for answer in answers if isinstance(answer, list) for run in answer]
            assert len(ids) == len(set(ids)) == 7

    asyncio.run(go())


# --- what it costs ---------------------------------------------------------------------------------------------------

QUERIES = {
    "expired": (due._EXPIRED.next, "ix_runs_lease (machine=? AND lease_until>? AND lease_until<?)"),
    "waiting": (due._DUE.next, "ix_runs_due (machine=? AND queue=? AND due_at>? AND due_at<?)"),
    "ready": (due._READY.next, "ix_runs_ready (machine=? AND queue=?)"),
    "next waiting": (due._DUE.first, "ix_runs_due (machine=? AND queue=? AND due_at>?)"),
    "next ready": (due._READY.first, "ix_runs_ready (machine=? AND queue=?)"),
    "held of a machine": (due._HELD, "COVERING INDEX ix_runs_lease (machine=? AND lease_until>?)"),
    "turn": (fairness._OF_TENANT, "COVERING INDEX ix_runs_turn (queue=? AND priority=? AND tenant=?)"),
    "turn of nobody": (fairness._OF_NOBODY, "COVERING INDEX ix_runs_latest (queue=? AND priority=?)"),
}


def text_of(query: Query) -> tuple[str, list[Any]]:
    compiled = query.select.compile(dialect=sqlite.dialect())
    known: dict[str, Any] = {"machine": 1, "queue": "default", "now": 100, "most": 10, "priority": 0, "tenant": "ann", "since": 0}
    return str(compiled), [known[name] for name in getattr(compiled, "positiontup", ())]


@pytest.mark.parametrize("name", QUERIES)
def test_a_claim_looks_into_the_index_made_for_it_and_sorts_nothing(url: str, name: str) -> None:
    query, index = QUERIES[name]
    within(url, lambda store: store.register(PAPER))
    text, values = text_of(query)
    with closing(sqlite3.connect(path_of(url))) as raw:
        plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    assert any(line.endswith(index) for line in plan), plan
    assert not any(line.startswith("SCAN runs") or "TEMP B-TREE" in line for line in plan), plan


@pytest.mark.slow
def test_a_claim_does_the_same_work_however_many_runs_wait(url: str) -> None:
    async def fill(store: SqlStore) -> None:
        await asyncio.gather(*(started(store, tenant=f"t{n % 7}") for n in range(20)))

    def work() -> dict[str, int]:
        steps = dict.fromkeys(QUERIES, 0)
        with closing(sqlite3.connect(path_of(url))) as raw:
            for name, (query, _) in QUERIES.items():

                def count(name: str = name) -> int:
                    steps[name] += 1
                    return 0

                text, values = text_of(query)
                raw.set_progress_handler(count, 1)
                raw.execute(text, values).fetchall()
                raw.set_progress_handler(None, 1)
        return steps

    within(url, fill)
    few = work()
    for _ in range(20):
        within(url, fill)
    assert work() == few
    assert few["ready"] > 50
