"""A `once` call that began and left no outcome: a person says what became of it, and it never runs twice without them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import Approve, DidNotHappen, GatePolicy, GiveUp, Happened, Modify, RunRecord
from statecraft.errors import AlreadyDecided, IllegalEvent, InvalidPayload
from statecraft.records import ReviewRecord
from tests.runtime.shop import Bill, Shop, finished, insist, only_review
from tests.runtime.test_gates import play


def ungated(folder: Path, **more: Any) -> Shop:
    return Shop(folder, policy=GatePolicy(), **more)


async def die_inside(shop: Shop, run: RunRecord | None = None) -> RunRecord:
    """A process that ends while a payment has taken effect and not come back."""
    shop.doors.append(asyncio.Event())
    shop.entered.append(asyncio.Event())
    async with shop.open() as runtime:
        run = run or await runtime.start(shop.machine, Bill())
        await shop.entered[-1].wait()
    shop.doors.clear()
    return run


def test_a_call_in_doubt_is_shown_with_all_that_is_known(tmp_path: Path) -> None:
    async def story() -> None:
        shop = ungated(tmp_path)
        run = await die_inside(shop)
        await shop.clock.advance(timedelta(minutes=1))
        async with shop.open() as runtime:
            review = await only_review(runtime, run)
            assert (review.kind, review.tool, review.arguments) == ("doubt", "pay", {"amount": 100, "to": "ann"})
            assert review.events == ("happened", "did_not_happen", "give_up")
            assert review.show["key"] == shop.paid[0][1]
            assert (review.show["attempt"], review.show["began"]) == (1, "2026-01-01T00:00:00+00:00")
            assert len(shop.paid) == 1

    play(story)


def test_what_happened_becomes_the_result_of_the_call(tmp_path: Path) -> None:
    async def story() -> None:
        shop = ungated(tmp_path)
        run = await die_inside(shop)
        async with shop.open() as runtime:
            await only_review(runtime, run)
            with pytest.raises(InvalidPayload, match="no result of tool pay"):
                await runtime.decide(run.id, Happened(12), by="ann")
            with pytest.raises(IllegalEvent, match="takes happened or did_not_happen or give_up, not approve"):
                await runtime.decide(run.id, Approve(), by="ann")
            await runtime.decide(run.id, Happened("paid, says the bank"), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid, says the bank"]
            assert len(shop.paid) == 1
            (call,) = await runtime.calls(run.id)
            assert (call.ok, call.result, call.attempts) == (True, "paid, says the bank", 1)

    play(story)


@pytest.mark.slow
def test_what_did_not_happen_is_run_again_with_the_same_key(tmp_path: Path) -> None:
    async def story() -> None:
        shop = ungated(tmp_path)
        run = await die_inside(shop)
        async with shop.open() as runtime:
            await only_review(runtime, run)
            await runtime.decide(run.id, DidNotHappen(note="the bank knows nothing"), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid 100 to ann"]
            assert len(shop.paid) == 2
            assert len({key for _, key in shop.paid}) == 1
            (call,) = await runtime.calls(run.id)
            assert call.attempts == 2
            assert [attempt.attempt for attempt in await runtime.attempts(run.id)] == [1, 2]

    play(story)


@pytest.mark.slow
def test_a_second_attempt_in_doubt_is_another_question(tmp_path: Path) -> None:
    async def story() -> None:
        shop = ungated(tmp_path)
        run = await die_inside(shop)
        async with shop.open() as runtime:
            first = await only_review(runtime, run)
        async with shop.open(take="none") as aside:
            await aside.decide(run.id, DidNotHappen(), by="ann")
        await die_inside(shop, run)
        async with shop.open() as runtime:
            second = await only_review(runtime, run)
            assert (second.show["attempt"], second.call and second.call[2]) == (2, 1)
            assert len(shop.paid) == 2
            with pytest.raises(AlreadyDecided):
                await runtime.decide(run.id, DidNotHappen(), by="ann", review=first.id)
            await runtime.decide(run.id, Happened("paid at last"), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid at last"]
            assert len(shop.paid) == 2

    play(story)


@pytest.mark.slow
@pytest.mark.parametrize("answered", [True, False])
def test_a_call_nobody_can_tell_about_stays_in_doubt(tmp_path: Path, answered: bool) -> None:
    async def story() -> None:
        shop = ungated(tmp_path, handler=insist)
        run = await die_inside(shop)
        async with shop.open() as runtime:
            await only_review(runtime, run)
            if answered:
                await runtime.decide(run.id, GiveUp("the bank is closed"), by="ann")
            else:
                await shop.later(runtime, timedelta(days=2))
            await finished(runtime, run)
            last = (await runtime.history(run.id))[-1]
            assert (last.event, last.payload["kind"]) == ("call_failed", "in_doubt")
            why = "ann gave up on it: the bank is closed" if answered else "nobody could say in time"
            assert why in last.payload["message"]
            assert len(shop.paid) == 1

    play(story)


def test_a_call_that_did_not_answer_in_time_may_have_happened(tmp_path: Path) -> None:
    async def story() -> None:
        shop = ungated(tmp_path)
        shop.doors.append(asyncio.Event())
        shop.entered.append(asyncio.Event())
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await shop.entered[-1].wait()
            await shop.clock.advance(shop.pay.timeout)
            review = await only_review(runtime, run)
            assert (review.kind, review.show["attempt"]) == ("doubt", 1)
            assert (review.show["began"], review.show["key"]) == ("2026-01-01T00:00:00+00:00", shop.paid[0][1])
            await runtime.decide(run.id, Happened("paid, only slowly"), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid, only slowly"]
            assert len(shop.paid) == 1

    play(story)


async def approved_then_dead(shop: Shop, decision: Any) -> tuple[RunRecord, ReviewRecord]:
    """Asked, decided, begun, and cut off."""
    async with shop.open() as runtime:
        run = await runtime.start(shop.machine, Bill())
        await only_review(runtime, run)
    async with shop.open(take="none") as aside:
        await aside.decide(run.id, decision, by="ann")
    assert shop.paid == []
    await die_inside(shop, run)
    async with shop.open() as runtime:
        return run, await only_review(runtime, run)


@pytest.mark.slow
def test_an_approved_call_that_died_is_in_doubt_and_not_approved_again(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        run, review = await approved_then_dead(shop, Approve())
        assert (review.kind, review.call and review.call[2]) == ("doubt", 1)
        assert len(shop.paid) == 1
        async with shop.open() as runtime:
            await runtime.decide(run.id, DidNotHappen(), by="bob")
            assert (await finished(runtime, run)).receipts == ["paid 100 to ann"]
            assert len(shop.paid) == 2
            assert [item.decision for item in await runtime.reviews(run.id)] == ["approve", "did_not_happen"]

    play(story)


@pytest.mark.slow
def test_a_modified_call_that_died_is_in_doubt_as_it_was_modified(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        run, review = await approved_then_dead(shop, Modify({"amount": 7, "to": "bob"}, approve=True))
        assert (review.kind, review.arguments) == ("doubt", {"amount": 7, "to": "bob"})
        assert shop.paid == [(7, review.show["key"])]
        async with shop.open() as runtime:
            await runtime.decide(run.id, Happened("paid 7"), by="bob")
            assert (await finished(runtime, run)).receipts == ["paid 7"]
            (call,) = await runtime.calls(run.id)
            assert call.request["changed"]["arguments"] == {"amount": 7, "to": "bob"}

    play(story)
