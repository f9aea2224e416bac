"""A run is given up: it waits for a time or a person, dies, or is cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from statecraft.errors import (
    AlreadyDecided,
    Fenced,
    RunClosed,
)
from statecraft.records import Status, Waiting
from statecraft.store.port import (
    Cancel,
    Head,
    Store,
)
from statecraft.testing.conformance.stories import (
    begun,
    ready,
    waiting_for_review,
)
from statecraft.testing.conformance.suite import Suite, behaviour, refused


class Parks(Suite):
    """Waiting, reviews of states, deaths and cancelling."""

    @behaviour
    async def test_a_parked_run_has_a_reason_and_no_owner(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.sleep_until(9_000))
        head = await store.run(run.run_id)
        assert (head.status, head.waiting_for, head.owner, head.seq) == (Status.WAITING, Waiting.TIMER, None, 0)
        assert await store.next_due([run.machine], None) == 9_000

    @behaviour
    async def test_the_first_question_of_a_visit_stays(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.move("asked"))
        await store.submit(run.ask_person("Publish?"))
        await store.submit(run.claim(epoch=1))
        run.epoch = 2
        await store.submit(run.ask_person("Really publish?"))
        (review,) = await store.reviews(run.run_id)
        assert (review.question, review.show, review.events) == ("Publish?", {"text": "bees"}, ("approved", "rejected"))
        assert (await store.run(run.run_id)).status is Status.WAITING

    @behaviour
    async def test_a_decision_moves_a_waiting_run_and_closes_its_review(self, store: Store) -> None:
        run = await waiting_for_review(store)
        assert [review.seq for review in await store.reviews(open_only=True)] == [1]
        await store.submit(run.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
        (review,) = await store.reviews(run.run_id)
        assert (review.decision, review.decided_by) == ("approved", "ann")
        assert await store.reviews(open_only=True) == []
        assert (await store.run(run.run_id)).status is Status.DONE
        assert (await store.history(run.run_id))[-1].actor == "ann"

    @behaviour
    async def test_time_may_decide_a_review_while_somebody_holds_the_run(self, store: Store) -> None:
        run = await waiting_for_review(store)
        await store.submit(run.claim())
        run.epoch = 2
        assert [review.seq for review in await store.reviews(run.run_id, open_only=True)] == [1]
        await store.submit(run.move("rejected", decision=True))
        (review,) = await store.reviews(run.run_id)
        assert (review.decision, review.decided_by) == ("rejected", None)

    @behaviour
    async def test_of_two_decisions_at_once_one_is_told_that_the_other_came_first(self, store: Store) -> None:
        run = await waiting_for_review(store)
        other = replace(run)
        moves = [
            run.move("approved", head=Head(Status.DONE), decision=True, actor="ann"),
            other.move("rejected", head=ready(), decision=True, actor="bob"),
        ]
        outcomes = await asyncio.gather(*map(store.submit, moves), return_exceptions=True)
        assert outcomes[0] is None
        assert isinstance(outcomes[1], AlreadyDecided)
        assert [review.decided_by for review in await store.reviews()] == ["ann"]

    @behaviour
    async def test_a_decision_without_an_open_review_is_refused(self, store: Store) -> None:
        run = await begun(store)
        await refused(store, run.move("more", decision=True), AlreadyDecided)

    @behaviour
    async def test_a_waiting_run_moves_by_a_decision_only(self, store: Store) -> None:
        run = await waiting_for_review(store)
        await refused(store, run.move("approved", head=Head(Status.DONE)), Fenced)

    @behaviour
    async def test_a_dead_run_keeps_its_diagnosis(self, store: Store) -> None:
        run = await begun(store)
        assert await store.diagnosis(run.run_id) is None
        await store.submit(run.die("no row takes it"))
        head = await store.run(run.run_id)
        assert (head.status, head.reason) == (Status.DEAD, "no row takes it")
        assert await store.diagnosis(run.run_id) == '{"why":"no row"}'

    @behaviour
    async def test_cancelling_fences_the_holder_and_closes_the_run(self, store: Store) -> None:
        run = await begun(store)
        assert await store.submit(Cancel(run.run_id, 2_000, "ann", "not needed")) is None
        head = await store.run(run.run_id)
        assert (head.status, head.reason, head.epoch, head.owner) == (Status.CANCELLED, "not needed", 2, None)
        await refused(store, run.call('"q"'), Fenced)
        await refused(store, run.move("more"), Fenced, "cancelled")
        await refused(store, Cancel(run.run_id, 3_000, "bob", "again"), RunClosed, "cancelled")

    @behaviour
    async def test_a_cancelled_run_asks_nobody_any_more(self, store: Store) -> None:
        run = await waiting_for_review(store)
        await store.submit(Cancel(run.run_id, 2_000, "ann", "not needed"))
        assert await store.reviews(open_only=True) == []
        assert len(await store.reviews(run.run_id)) == 1
        late = run.move("approved", head=Head(Status.DONE), decision=True, actor="bob")
        await refused(store, late, Fenced, "cancelled")
