"""What people are told: events kept with the change that they tell of, and deliveries that somebody carries."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from statecraft.clock import instant
from statecraft.errors import NotFound
from statecraft.records import Status
from statecraft.store.outbox import Carried, Enable, Errand, Fetch, Hurry, Missed, Redeliver, Subscribe, Tell, event_id
from statecraft.store.port import Head, Store
from statecraft.testing.conformance.stories import begun, child_of, question, waiting_for_review
from statecraft.testing.conformance.suite import Suite, behaviour

NEWS = Tell(event_id("worker.lost", "w1", 1), "worker.lost", 2_000, '{"owner":"w1"}')


async def fetched(store: Store, now: int, channel: str = "ops", *, until: int = 10**6, limit: int = 10) -> list[Errand]:
    """The deliveries that somebody who carries for the channel takes now."""
    answer = await store.submit(Fetch(channel, now, until, limit))
    assert isinstance(answer, list)
    return answer


class Errands(Suite):
    """Channels, events and deliveries."""

    @behaviour
    async def test_a_channel_is_told_the_kinds_it_wants_from_then_on(self, store: Store) -> None:
        early = await begun(store)
        await store.submit(early.move("gave_up", head=Head(Status.FAILED)))
        await store.submit(Subscribe("ops", ("run.failed", "run.dead_lettered"), 1))
        await store.submit(Subscribe("team", ("review.requested",), 1))
        failed, died = await begun(store), await begun(store)
        await store.submit(failed.move("gave_up", head=Head(Status.FAILED)))
        await store.submit(died.die("no way"))
        asking = await waiting_for_review(store)
        ops = await fetched(store, 5_000)
        assert {(errand.kind, errand.data["run"]) for errand in ops} == {
            ("run.failed", failed.run_id.hex()),
            ("run.dead_lettered", died.run_id.hex()),
        }
        (errand,) = await fetched(store, 5_000, "team")
        assert (errand.kind, errand.attempt, errand.at) == ("review.requested", 1, asking.at)
        assert {"machine": "paper", "state": "review", "step": 1, "question": "Publish?"}.items() <= errand.data.items()

    @behaviour
    async def test_the_end_of_a_child_is_told_to_its_parent_alone(self, store: Store) -> None:
        await store.submit(Subscribe("ops", ("run.failed", "run.completed"), 1))
        parent = await begun(store)
        child = await child_of(store, parent)
        await store.submit(child.move("gave_up", head=Head(Status.FAILED)))
        assert await fetched(store, 5_000) == []

    @behaviour
    async def test_a_question_about_a_call_and_its_decision_are_told(self, store: Store) -> None:
        await store.submit(Subscribe("ops", ("review.requested", "review.decided"), 1))
        run = await begun(store)
        await store.submit(run.ask_about(question()))
        await store.submit(run.decide(question()))
        asked, decided = await fetched(store, 5_000)
        assert (asked.kind, asked.data["about"], asked.data["tool"]) == ("review.requested", "gate", "send")
        assert (decided.kind, decided.data["decision"], decided.data["by"]) == ("review.decided", "approve", "ann")

    @behaviour
    async def test_an_event_that_is_told_again_is_the_same_event(self, store: Store) -> None:
        await store.submit(Subscribe("ops", ("worker.lost",), 1))
        await asyncio.gather(*(store.submit(NEWS) for _ in range(3)))
        await store.submit(replace(NEWS, at=9_000))
        (errand,) = await fetched(store, 9_999)
        assert (errand.event, errand.at, errand.data) == (NEWS.event, 2_000, {"owner": "w1"})

    @behaviour
    async def test_a_delivery_is_one_carriers_until_its_time_is_over(self, store: Store) -> None:
        await store.submit(Subscribe("ops", ("worker.lost",), 1))
        await store.submit(NEWS)
        assert await store.next_delivery("ops") == 2_000
        (first,) = await fetched(store, 3_000, until=4_000)
        assert await fetched(store, 3_999) == []
        assert await store.next_delivery("ops") == 4_000
        (second,) = await fetched(store, 4_000, until=5_000)
        assert (first.attempt, second.attempt) == (1, 2)
        await store.submit(Missed("ops", NEWS.event, 1, 3_500, "too late"))
        assert await fetched(store, 4_500) == []
        await store.submit(Carried("ops", NEWS.event, 2, 4_600))
        assert await store.next_delivery("ops") is None
        (told,) = await store.deliveries()
        assert (told.id, told.channel, told.kind, told.attempts) == (NEWS.event.hex(), "ops", "worker.lost", 2)
        assert (told.delivered_at, told.due_at) == (instant(4_600), None)

    @behaviour
    async def test_a_failed_attempt_comes_again_and_one_given_up_stays_listed(self, store: Store) -> None:
        await store.submit(Subscribe("ops", ("worker.lost",), 1))
        await store.submit(NEWS)
        await fetched(store, 3_000)
        await store.submit(Missed("ops", NEWS.event, 1, 7_000, "503"))
        assert await store.next_delivery("ops") == 7_000
        await store.submit(Hurry("ops", 6_000))
        assert [errand.attempt for errand in await fetched(store, 6_000)] == [2]
        await store.submit(Missed("ops", NEWS.event, 2, None, "410"))
        (told,) = await store.deliveries(failed=True)
        assert (told.error, told.due_at, told.delivered_at) == ("410", None, None)
        assert await store.deliveries(event=NEWS.event.hex()[:8]) == [told]
        assert await store.submit(Redeliver(NEWS.event, 8_000)) == 1
        assert [errand.attempt for errand in await fetched(store, 8_000)] == [3]
        with pytest.raises(NotFound):
            await store.submit(Redeliver(bytes(16), 8_000))

    @behaviour
    async def test_a_disabled_channel_is_told_nothing_and_keeps_what_it_was_told_before(self, store: Store) -> None:
        await store.submit(Subscribe("ops", ("worker.lost",), 1))
        await store.submit(NEWS)
        await store.submit(Enable("ops", 2_500, "it is gone"))
        await store.submit(replace(NEWS, event=event_id("worker.lost", "w2", 1), at=2_600))
        assert await fetched(store, 3_000) == []
        assert await store.next_delivery("ops") is None
        await store.submit(Enable("ops", 4_000))
        await store.submit(replace(NEWS, event=event_id("worker.lost", "w3", 1), at=4_500))
        events = [errand.event for errand in await fetched(store, 5_000)]
        assert events == [NEWS.event, event_id("worker.lost", "w3", 1)]
