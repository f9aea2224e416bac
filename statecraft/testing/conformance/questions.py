"""Questions about calls: asked once, decided once, and nobody waits for an answer that is there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from statecraft.clock import instant
from statecraft.errors import (
    DecisionLate,
    IllegalEvent,
    NotFound,
    RunClosed,
    StatecraftError,
    Superseded,
)
from statecraft.ids import digest
from statecraft.records import Status, Waiting
from statecraft.store.port import (
    Cancel,
    Head,
    Store,
    Write,
)
from statecraft.store.questions import review_id
from statecraft.testing.conformance.stories import (
    Story,
    begun,
    question,
    waiting_for_review,
)
from statecraft.testing.conformance.suite import Suite, behaviour, due, refused, taken


async def asking(store: Store) -> Story:
    """A run that waits for the decision about `question()`."""
    run = await begun(store)
    await store.submit(run.ask_about(question()))
    return run


async def claimed(store: Store, run: Story) -> None:
    """Take the run, so that the story may go on."""
    run.epoch = (await taken(store, run.claim())).epoch


class Questions(Suite):
    """Reviews of calls and their decisions."""

    @behaviour
    async def test_a_question_about_a_call_is_listed_with_all_a_person_needs(self, store: Store) -> None:
        run, asked = await asking(store), question()
        (review,) = await store.reviews(run.run_id, open_only=True)
        assert (review.run_id, review.seq, review.state, review.kind) == (run.run_id.hex(), 0, "draft", "gate")
        assert (review.question, review.show, review.tool) == ("Send it?", {"risk": "high"}, "send")
        assert (review.arguments, review.action) == ({"to": "me"}, asked.action.hex())
        assert (review.events, review.decision) == (("approve", "reject"), None)
        times = (review.requested_at, review.remind_at, review.expires_at)
        assert times == (instant(2_000), instant(4_000), instant(8_000))
        assert review.call == (asked.digest.hex(), 0, 0)
        assert review.id == review_id(0, (asked.digest, 0, 0))
        assert len(review.id) == 12
        assert (await store.load(run.run_id)).reviews == (review,)

    @behaviour
    async def test_both_sorts_of_reviews_are_listed_oldest_first(self, store: Store) -> None:
        state = await waiting_for_review(store)
        call = await asking(store)
        found = await store.reviews(open_only=True)
        assert [(review.run_id, review.kind) for review in found] == [
            (state.run_id.hex(), "state"),
            (call.run_id.hex(), "gate"),
        ]
        assert found[0].id == review_id(1)

    @behaviour
    async def test_a_question_asked_again_stays_as_it_was_and_a_new_round_is_a_new_question(self, store: Store) -> None:
        run = await asking(store)
        await claimed(store, run)
        second = question(round=1)
        await store.submit(run.ask_about(replace(question(), question="Really?", expires_at=99_000), second))
        first, again = (await store.load(run.run_id)).reviews
        assert (first.question, first.expires_at, again.call) == ("Send it?", instant(8_000), (second.digest.hex(), 0, 1))
        assert first.id != again.id

    @behaviour
    async def test_a_decision_is_kept_and_told_and_makes_the_run_due(self, store: Store) -> None:
        run = await asking(store)
        assert due(await store.run(run.run_id)) == 9_000
        assert await store.submit(run.decide(question())) is None
        head = await store.run(run.run_id)
        assert (head.status, due(head)) == (Status.WAITING, 3_000)
        (review,) = await store.reviews(run.run_id)
        assert (review.decision, review.decided_by, review.decided_at) == ("approve", "ann", instant(3_000))
        assert (review.note, review.answer) == ("fine", {"to": "you"})
        assert await store.reviews(run.run_id, open_only=True) == []
        told = [entry for entry in await store.feed(0) if entry.kind == "decided"]
        assert [entry.detail for entry in told] == [{"tool": "send", "decision": "approve", "by": "ann"}]
        assert (await store.load(run.run_id)).reviews == (review,)

    @pytest.mark.parametrize("waits", [Waiting.RETRY, Waiting.TIMER])
    @behaviour
    async def test_a_decision_wakes_a_run_that_waits_for_something_else_too(self, store: Store, waits: Waiting) -> None:
        run = await begun(store)
        head = Head(Status.WAITING, waiting_for=waits, due_at=9_000)
        await store.submit(replace(run.sleep_until(9_000), head=head, asks=(question(),)))
        await store.submit(run.decide(question()))
        assert due(await store.run(run.run_id)) == 3_000

    @behaviour
    async def test_a_decision_that_does_not_fit_is_refused_and_nothing_is_written(self, store: Store) -> None:
        run = await asking(store)
        right = run.decide(question())
        await refused(store, replace(right, run_id=b"?" * 16), NotFound)
        for other in (replace(right, seq=1), replace(right, round=1), replace(right, occurrence=1)):
            await refused(store, other, NotFound)
        await refused(store, replace(right, digest=digest("x")), NotFound)
        await refused(store, replace(right, action=digest("x")), Superseded)
        await refused(store, replace(right, decision="happened"), IllegalEvent)
        await refused(store, replace(right, at=8_000), DecisionLate)
        assert len(await store.reviews(open_only=True)) == 1
        await store.submit(replace(right, at=7_999))

    @behaviour
    async def test_a_decision_comes_too_late_for_a_run_that_went_on_or_ended(self, store: Store) -> None:
        moved, answered, cancelled = [await asking(store) for _ in range(3)]
        decisions = [run.decide(question()) for run in (moved, answered, cancelled)]
        await claimed(store, moved)
        await store.submit(moved.move("more"))
        await claimed(store, answered)
        await store.submit(replace(answered.call('"send"'), digest=question().digest))
        await store.submit(Cancel(cancelled.run_id, 2_500, "bob", ""))
        for decision, kind in zip(decisions, (Superseded, Superseded, RunClosed), strict=True):
            await refused(store, decision, kind)
        assert await store.reviews(open_only=True) == []
        assert len(await store.reviews()) == 3

    @behaviour
    async def test_an_expired_question_stays_listed_while_the_run_waits(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.ask_about(replace(question(), expires_at=1)))
        assert len(await store.reviews(open_only=True)) == 1

    @behaviour
    async def test_a_decision_made_while_the_run_was_held_makes_it_due_as_soon_as_it_parks(self, store: Store) -> None:
        run = await begun(store)
        first, second = question(), question('"other"')
        await store.submit(run.ask_about(first, second))
        await claimed(store, run)
        await store.submit(run.decide(first))
        assert (await store.run(run.run_id)).due_at is None
        await store.submit(run.ask_about(first, second))
        assert due(await store.run(run.run_id)) == run.at
        await claimed(store, run)
        await store.submit(run.ask_about(second))
        assert due(await store.run(run.run_id)) == 9_000

    @pytest.mark.parametrize("decision_first", [True, False])
    @behaviour
    async def test_a_decision_made_while_the_run_parks_makes_it_due_in_either_order(
        self, store: Store, decision_first: bool
    ) -> None:
        run = await asking(store)
        await claimed(store, run)
        writes: list[Write] = [run.decide(question()), run.ask_about(question())]
        await asyncio.gather(*map(store.submit, writes if decision_first else reversed(writes)))
        assert due(await store.run(run.run_id)) in {run.at, 3_000}

    @behaviour
    async def test_questions_of_an_earlier_visit_are_not_loaded(self, store: Store) -> None:
        run = await asking(store)
        await claimed(store, run)
        await store.submit(run.move("more"))
        assert (await store.load(run.run_id)).reviews == ()

    @behaviour
    async def test_an_alert_is_told_in_the_feed(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.ask_about(question(), alert="nobody answers"))
        told = [entry for entry in await store.feed(0) if entry.kind == "alert"]
        assert [(entry.run_id, entry.detail) for entry in told] == [(run.run_id.hex(), {"text": "nobody answers"})]

    @behaviour
    async def test_a_refused_park_asks_nothing(self, store: Store) -> None:
        run = await begun(store)
        with pytest.raises(StatecraftError):
            await store.submit(replace(run.ask_about(question(), alert="x"), epoch=7))
        assert await store.reviews() == []
        assert [entry.kind for entry in await store.feed(0)] == ["started"]
        await store.submit(run.move("gave_up", head=Head(Status.FAILED)))
