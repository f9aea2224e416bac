"""Questions about calls: asked once, decided once, and nobody waits for an answer that is there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from statecraft.clock import instant
from statecraft.errors import AlreadyDecided, DecisionLate, IllegalEvent, NotFound, RunClosed, StatecraftError, Superseded
from statecraft.ids import digest
from statecraft.records import RunRecord, Status
from statecraft.store.port import Cancel, Decide, Head, Write
from statecraft.store.questions import review_id
from statecraft.store.sql import SqlStore
from tests.store.rig import Story, ask, begun, opened, question, waiting_for_review, within
from tests.store.test_families import due


async def asking(store: SqlStore) -> Story:
    """A run that waits for the decision about `question()`."""
    run = await begun(store)
    await store.submit(run.ask_about(question()))
    return run


async def claimed(store: SqlStore, run: Story) -> None:
    taken = await store.submit(run.claim())
    assert isinstance(taken, RunRecord)
    run.epoch = taken.epoch


def test_a_question_about_a_call_is_listed_with_all_a_person_needs(url: str) -> None:
    async def story(store: SqlStore) -> None:
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

    within(url, story)


def test_both_sorts_of_reviews_are_listed_oldest_first(url: str) -> None:
    async def story(store: SqlStore) -> None:
        state = await waiting_for_review(store)
        call = await asking(store)
        found = await store.reviews(open_only=True)
        assert [(review.run_id, review.kind) for review in found] == [
            (state.run_id.hex(), "state"),
            (call.run_id.hex(), "gate"),
        ]
        assert found[0].id == review_id(1)

    within(url, story)


def test_a_question_asked_again_stays_as_it_was_and_a_new_round_is_a_new_question(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await asking(store)
        await claimed(store, run)
        second = question(round=1)
        await store.submit(run.ask_about(replace(question(), question="Really?", expires_at=99_000), second))
        first, again = (await store.load(run.run_id)).reviews
        assert (first.question, first.expires_at, again.call) == ("Send it?", instant(8_000), (second.digest.hex(), 0, 1))
        assert first.id != again.id

    within(url, story)


def test_a_decision_is_kept_and_told_and_makes_the_run_due(url: str) -> None:
    async def story(store: SqlStore) -> None:
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

    within(url, story)


@pytest.mark.parametrize("waits", ["retry", "timer"])
def test_a_decision_wakes_a_run_that_waits_for_something_else_too(url: str, waits: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(replace(run.sleep_until(9_000), asks=(question(),)))
        await store.submit(run.decide(question()))
        assert due(await store.run(run.run_id)) == 3_000

    within(url, story)


def test_of_two_decisions_one_counts(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await asking(store)
        async with opened(url) as other:
            decisions = [store.submit(run.decide(question())), other.submit(run.decide(question(), "reject", "bob"))]
            outcomes = await asyncio.gather(*decisions, return_exceptions=True)
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds == {type(None), AlreadyDecided}
        (refused,) = [outcome for outcome in outcomes if outcome is not None]
        (review,) = await store.reviews(run.run_id)
        assert f"{review.decided_by}: {review.decision}" in str(refused)

    within(url, story)


async def refused(store: SqlStore, write: Decide, kind: type[StatecraftError], match: str) -> None:
    before = await store.feed(0)
    with pytest.raises(kind, match=match):
        await store.submit(write)
    assert await store.feed(0) == before


def test_a_decision_that_does_not_fit_is_refused_and_nothing_is_written(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await asking(store)
        right = run.decide(question())
        await refused(store, replace(right, run_id=b"?" * 16), NotFound, "no run")
        for other in (replace(right, seq=1), replace(right, round=1), replace(right, occurrence=1)):
            await refused(store, other, NotFound, "no such question")
        await refused(store, replace(right, digest=digest("x")), NotFound, "no such question")
        await refused(store, replace(right, action=digest("x")), Superseded, "another action")
        await refused(store, replace(right, decision="happened"), IllegalEvent, "takes approve or reject")
        await refused(store, replace(right, at=8_000), DecisionLate, "expired")
        assert len(await store.reviews(open_only=True)) == 1
        await store.submit(replace(right, at=7_999))

    within(url, story)


def test_a_decision_comes_too_late_for_a_run_that_went_on_or_ended(url: str) -> None:
    async def story(store: SqlStore) -> None:
        moved, answered, cancelled = [await asking(store) for _ in range(3)]
        decisions = [run.decide(question()) for run in (moved, answered, cancelled)]
        await claimed(store, moved)
        await store.submit(moved.move("more"))
        await claimed(store, answered)
        await store.submit(replace(answered.call('"send"'), digest=question().digest))
        await store.submit(Cancel(cancelled.run_id, 2_500, "bob", ""))
        for decision, kind in zip(decisions, (Superseded, Superseded, RunClosed), strict=True):
            await refused(store, decision, kind, "run")
        assert await store.reviews(open_only=True) == []
        assert len(await store.reviews()) == 3

    within(url, story)


def test_an_expired_question_stays_listed_while_the_run_waits(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.ask_about(replace(question(), expires_at=1)))
        assert len(await store.reviews(open_only=True)) == 1

    within(url, story)


def test_a_decision_made_while_the_run_was_held_makes_it_due_as_soon_as_it_parks(url: str) -> None:
    async def story(store: SqlStore) -> None:
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

    within(url, story)


@pytest.mark.parametrize("decision_first", [True, False])
def test_a_decision_made_while_the_run_parks_makes_it_due_in_either_order(url: str, decision_first: bool) -> None:
    async def story(store: SqlStore) -> None:
        run = await asking(store)
        await claimed(store, run)
        writes: list[Write] = [run.decide(question()), run.ask_about(question())]
        await asyncio.gather(*map(store.submit, writes if decision_first else reversed(writes)))
        assert due(await store.run(run.run_id)) in {run.at, 3_000}

    within(url, story)


def test_questions_of_an_earlier_visit_are_not_loaded(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await asking(store)
        await claimed(store, run)
        await store.submit(run.move("more"))
        assert (await store.load(run.run_id)).reviews == ()

    within(url, story)


def test_an_alert_is_told_in_the_feed(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.ask_about(question(), alert="nobody answers"))
        told = [entry for entry in await store.feed(0) if entry.kind == "alert"]
        assert [(entry.run_id, entry.detail) for entry in told] == [(run.run_id.hex(), {"text": "nobody answers"})]

    within(url, story)


def test_a_refused_park_asks_nothing(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        with pytest.raises(StatecraftError):
            await store.submit(replace(run.ask_about(question(), alert="x"), epoch=7))
        assert ask(url, "SELECT count(*) FROM call_reviews") == [(0,)]
        assert [entry.kind for entry in await store.feed(0)] == ["started"]
        await store.submit(run.move("gave_up", head=Head(Status.FAILED)))

    within(url, story)


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_crash_around_a_decision_leaves_no_half(url: str, point: str) -> None:
    found: list[Story] = []

    class Crash(Exception): ...

    def crash(at: str) -> None:
        if at == point and found:
            raise Crash

    async def story(store: SqlStore) -> None:
        found.append(await asking(store))
        with pytest.raises(Exception, match="Crash"):
            await store.submit(found[0].decide(question()))

    async def after(store: SqlStore) -> None:
        (review,) = await store.reviews()
        kept = point == "after"
        assert (review.decision is not None) == kept
        assert due(await store.run(found[0].run_id)) == (3_000 if kept else 9_000)
        assert [entry.kind for entry in await store.feed(0)].count("decided") == kept

    within(url, story, crash)
    within(url, after)
