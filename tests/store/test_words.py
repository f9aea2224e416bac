"""What our store says when it refuses: one line that names what stood in the way. (That it refuses is in the suite.)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from statecraft.errors import StatecraftError
from statecraft.ids import digest
from statecraft.records import Status
from statecraft.store.port import Cancel, Charge, Head, Move, Write
from statecraft.store.sql import SqlStore
from tests.store.rig import PAPER, Story, begun, conversation, question, ready, running, waiting_for_review, within


async def said(store: SqlStore, write: Write) -> str:
    with pytest.raises(StatecraftError) as told:
        await store.submit(write)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_move_is_refused_by_what_it_is_and_where_the_run_stands(each_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        before, name = replace(run), run.run_id.hex()
        move = run.move("more")
        unknown = await said(store, Move(replace(move.transition, target="done")))
        assert f"step 1 of run {name} (draft by more to done)" in unknown
        assert "has no such edge" in unknown
        elsewhere = Move(replace(move.transition, source="review", event="approved", target="done"))
        assert "the run stood in draft after step 0" in await said(store, elsewhere)
        gap = Move(replace(move.transition, seq=2))
        assert f"run {name}" in await said(store, gap)
        fenced = await said(store, replace(before, epoch=0).move("more"))
        assert "it expects epoch 0 at step 0, but the run has epoch 1 at step 0 and is held by me" in fenced

    within(each_url, story)


HEADS = [
    (Head(Status.READY), "ready_is_due"),
    (Head(Status.WAITING), "waiting_iff_reason"),
    (Head(Status.RUNNING), "held_iff_running"),
    (Head(Status.RUNNING, "me"), "lease_whole"),
]


@pytest.mark.parametrize(("head", "constraint"), HEADS)
def test_a_head_that_cannot_be_is_refused_by_its_constraint(each_url: str, head: Head, constraint: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        told = await said(store, replace(run.move("more"), head=head))
        assert constraint in told
        assert run.run_id.hex() in told

    within(each_url, story)


def test_a_start_is_refused_by_what_is_not_there(each_url: str) -> None:
    async def story(store: SqlStore) -> None:
        machine = await store.register(PAPER)
        start = Story(machine).start()
        wrong = await said(store, replace(start, transition=replace(start.transition, target="review")))
        assert f"machine {machine} has no such edge" in wrong
        parent = await begun(store)
        await store.submit(parent.die())
        orphan = await said(store, Story(machine).start(parent=parent.run_id))
        assert f"its parent {parent.run_id.hex()} is dead in draft" in orphan

    within(each_url, story)


def test_a_call_is_refused_by_its_name_its_step_and_its_reason(each_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.call('"q"', '"first"'))
        again = await said(store, run.call('"q"', '"second"'))
        assert f"tool call search in step 0 of run {run.run_id.hex()} was refused: " in again
        orphan = replace(run.call('"r"'), nodes=(conversation(2)[1],))
        assert "a message has a parent that is not stored" in await said(store, orphan)
        below = await said(store, run.settle('"q"', Charge("m", -1)))
        assert "meter_used" in below

    within(each_url, story)


def test_a_claim_is_refused_by_who_holds_the_run_or_how_it_ended(each_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store, running(lease_until=6_000))
        assert "is held by me until 1970-01-01 00:00:00.006000+00:00" in await said(store, run.claim(now=5_999))
        await store.submit(Cancel(run.run_id, 2_000, "ann", ""))
        assert "is cancelled in draft; it cannot be taken" in await said(store, run.claim())
        assert "there is nothing to cancel" in await said(store, Cancel(run.run_id, 2_000, "ann", ""))
        assert "and is cancelled" in await said(store, run.move("more"))
        parked = await begun(store)
        await store.submit(parked.sleep_until(9_000))
        assert "and is waiting" in await said(store, parked.call('"q"'))

    within(each_url, story)


DECISIONS: list[tuple[Callable[[Story], Write], str]] = [
    (lambda run: replace(run.decide(question()), run_id=b"?" * 16), "no run 3f3f"),
    (lambda run: replace(run.decide(question()), round=1), "no such question"),
    (lambda run: replace(run.decide(question()), action=digest("x")), "another action"),
    (lambda run: run.decide(question(), "happened"), "takes approve or reject, not happened"),
    (lambda run: run.decide(question(), at=8_000), "expired at 1970-01-01 00:00:00.008000+00:00"),
]


@pytest.mark.parametrize(("wrong", "words"), DECISIONS)
def test_a_decision_is_refused_by_what_does_not_fit(each_url: str, wrong: Callable[[Story], Write], words: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.ask_about(question()))
        assert words in await said(store, wrong(run))
        await store.submit(run.decide(question(), "reject", "bob"))
        assert "bob: reject" in await said(store, run.decide(question()))

    within(each_url, story)


def test_a_decision_about_a_state_without_an_open_review_says_so(each_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await waiting_for_review(store)
        await store.submit(replace(run).move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
        late = run.move("rejected", head=ready(), decision=True, actor="bob")
        assert "the review of step 1 is not open" in await said(store, late)

    within(each_url, story)
