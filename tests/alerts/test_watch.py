"""Questions that wait are reminded of, queues that stand still and workers that are gone are told, each once by a fleet."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from statecraft.alerts.catalogue import alert_of
from statecraft.alerts.watch import Watch
from statecraft.channel import Alert, AlertPolicy, ReminderPolicy
from statecraft.clock import micros
from statecraft.errors import ConfigError
from statecraft.records import Status
from statecraft.store import fleet
from statecraft.store.outbox import Subscribe
from statecraft.store.port import Head
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock
from statecraft.testing.clock import START
from tests.alerts.rig import EVERY, errands, outbox, told
from tests.store.rig import Story, begun, question

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


async def asks(store: SqlStore, clock: ManualClock, expires: timedelta | None = None) -> Story:
    """A run that asks a person now."""
    run = await begun(store)
    await store.submit(run.move("asked"))
    run.at = clock.now()
    await store.submit(run.ask_person(expires_at=None if expires is None else clock.now() + micros(expires)))
    return run


async def watched(watches: list[Watch], clock: ManualClock, during: timedelta, step: timedelta = 10 * MINUTE) -> None:
    """Let processes look for some time, all at once."""
    until = clock.now() + micros(during)
    while clock.now() < until:
        await clock.advance(step)
        await asyncio.gather(*(each.once() for each in watches))


async def news(store: SqlStore, kind: str) -> list[Alert]:
    """What was told of a kind since this was last asked."""
    return [alert_of(each) for each in await errands(store, 10**17) if each.kind == kind and each.attempt == 1]


@pytest.mark.slow
def test_an_open_question_is_reminded_of_after_an_hour_a_day_and_daily(database: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(database) as store:
            await store.submit(Subscribe("ops", EVERY, clock.now()))
            watches = [Watch(store, clock, AlertPolicy()) for _ in range(2)]
            run = await asks(store, clock)
            at = []
            for _ in range(7 * 24):
                await watched(watches, clock, HOUR, HOUR)
                at += [(each.at - START).total_seconds() / 3600 for each in await news(store, "review.reminder")]
            assert [round(each) for each in at] == [1, 24, 48, 72, 96, 120, 144, 168]
            await store.submit(run.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
            await watched(watches, clock, 2 * DAY, HOUR)
            assert await news(store, "review.reminder") == []

    asyncio.run(story())


@pytest.mark.slow
def test_questions_that_are_due_together_are_one_reminder(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(url) as store:
            await store.submit(Subscribe("ops", EVERY, clock.now()))
            for _ in range(30):
                await asks(store, clock)
            await watched([Watch(store, clock, AlertPolicy())], clock, HOUR)
            (reminder,) = await news(store, "review.reminder")
            assert reminder.data["count"] == 30
            assert len(reminder.data["reviews"]) == 20
            assert reminder.text == "30 reviews open for a decision, the first since 2026-01-01T00:00:00Z"
            assert reminder.hint == "statecraft review"

    asyncio.run(story())


def test_a_fleet_that_slept_reminds_once_of_what_it_missed(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(url) as store:
            await store.submit(Subscribe("ops", EVERY, clock.now()))
            await asks(store, clock)
            watch = Watch(store, clock, AlertPolicy())
            await watched([watch], clock, 3 * DAY, 3 * DAY)
            assert len(await news(store, "review.reminder")) == 1
            await watched([watch], clock, 23 * HOUR, HOUR)
            assert await news(store, "review.reminder") == []
            await watched([watch], clock, HOUR, HOUR)
            assert len(await news(store, "review.reminder")) == 1

    asyncio.run(story())


@pytest.mark.slow
def test_a_gate_that_says_when_to_remind_is_heeded(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(url) as store:
            now = clock.now()
            await store.submit(Subscribe("ops", EVERY, now))
            run = await begun(store)
            remind_at, expires_at = now + micros(4 * HOUR), now + micros(10 * HOUR)
            asked = replace(question(), requested_at=now, remind_at=remind_at, expires_at=expires_at)
            await store.submit(run.ask_about(asked, due_at=remind_at))
            watch = Watch(store, clock, AlertPolicy())
            await watched([watch], clock, 3 * HOUR)
            assert await news(store, "review.reminder") == []
            await watched([watch], clock, HOUR)
            assert len(await news(store, "review.reminder")) == 1
            await watched([watch], clock, 4 * HOUR + 50 * MINUTE)
            assert await told(store) == ["review.reminder", "review.requested"]
            await watched([watch], clock, HOUR)
            (ending,) = await news(store, "review.expiring")
            assert ending.data["run"] == run.run_id.hex()
            assert ending.text.endswith("asks until 2026-01-01T10:00:00Z only: Send it?")
            await watched([watch], clock, 3 * DAY, HOUR)
            assert await told(store) == ["review.expiring", "review.reminder", "review.requested"]

    asyncio.run(story())


@pytest.mark.slow
def test_reminders_may_be_switched_off(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(url) as store:
            await store.submit(Subscribe("ops", EVERY, clock.now()))
            await asks(store, clock, expires=2 * DAY)
            await watched([Watch(store, clock, AlertPolicy(reminders=None, expiring=1.0))], clock, 3 * DAY, HOUR)
            assert await told(store) == ["review.requested"]

    asyncio.run(story())


def beats(url: str, owner: str, at: int, *, lease: int = 30_000_000, stopped: int | None = None) -> None:
    """A worker's row, as of a beat."""
    engine = sa.create_engine(url)
    row = {"owner": owner, "started_at": 1, "beat_at": at, "stopped_at": stopped, "lease": lease, "concurrency": 1}
    counts = {"held": 2, "moves": 0, "fenced": 0, "recovered": 0, "queues": "[]", "machines": "[]"}
    with engine.begin() as sql:
        sql.execute(sa.delete(fleet.workers).where(fleet.workers.c.owner == owner))
        sql.execute(sa.insert(fleet.workers), [{**row, **counts}])
    engine.dispose()


@pytest.mark.slow
def test_a_queue_that_stands_still_while_workers_beat_is_told_once_an_hour(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(url) as store:
            watches = [Watch(store, clock, AlertPolicy()) for _ in range(2)]
            await begun(store, Head(Status.READY, due_at=clock.now()))
            await begun(store, Head(Status.READY, due_at=clock.now()))
            await watched(watches, clock, HOUR)
            assert await told(store) == []  # Nobody beats: nobody is meant to work.
            beats(url, "w", clock.now() + micros(DAY))
            await watched(watches, clock, 2 * HOUR)
            found = await news(store, "queue.stalled")
            assert len(found) == 3
            assert found[0].text == "2 runs overdue in queue default, the first since 2026-01-01T00:00:00Z"
            beats(url, "w", clock.now() + micros(DAY))

    asyncio.run(story())


def test_a_short_wait_is_no_stall(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(url) as store:
            beats(url, "w", clock.now() + micros(DAY))
            await begun(store, Head(Status.READY, due_at=clock.now()))
            await watched([Watch(store, clock, AlertPolicy())], clock, 4 * MINUTE, MINUTE)
            assert await told(store) == []

    asyncio.run(story())


@pytest.mark.slow
def test_a_worker_that_no_longer_beats_is_told_once_and_one_that_stopped_is_not(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(url) as store:
            now = clock.now()
            beats(url, "gone", now)
            beats(url, "stopped", now, stopped=now)
            watches = [Watch(store, clock, AlertPolicy()) for _ in range(2)]
            await watched(watches, clock, timedelta(seconds=85), timedelta(seconds=5))
            assert await told(store) == []
            await watched(watches, clock, HOUR, MINUTE)
            (lost,) = await news(store, "worker.lost")
            assert lost.text == "worker gone was last heard of at 2026-01-01T00:00:00Z, holding 2"

    asyncio.run(story())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ReminderPolicy(after=(2 * HOUR, HOUR)),
        lambda: ReminderPolicy(then_every=timedelta(0)),
        lambda: AlertPolicy(budgets=(1.5,)),
        lambda: AlertPolicy(expiring=0.0),
        lambda: AlertPolicy(stalled_after=timedelta(0)),
        lambda: AlertPolicy(lost_after=0.5),
        lambda: AlertPolicy(look_every=timedelta(0)),
    ],
)
def test_a_policy_that_cannot_be_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        wrong()  # type: ignore[operator]
