"""Schedules: put down once, moved on once for each instant, held and taken away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from statecraft.clock import instant
from statecraft.errors import NotFound
from statecraft.store.port import DropSchedule, Fired, PauseSchedule, PutSchedule, ResumeSchedule, Store
from statecraft.testing.conformance.suite import Suite, behaviour

DAILY = '{"anchor":0,"every":86400}'
HOURLY = '{"anchor":0,"every":3600}'
NIGHTLY = PutSchedule("nightly", "paper", DAILY, 5_000, '{"topic":"bees"}', "night", 3, "acme", "latest", "skip", 1_000)


class Calendar(Suite):
    """The life of a schedule."""

    @behaviour
    async def test_a_schedule_is_kept_as_it_was_put_down(self, store: Store) -> None:
        assert await store.submit(NIGHTLY) == "created"
        (kept,) = await store.schedules()
        assert (kept.name, kept.machine, kept.rule, kept.input) == (
            "nightly",
            "paper",
            {"anchor": 0, "every": 86400},
            {"topic": "bees"},
        )
        assert (kept.queue, kept.priority, kept.tenant, kept.missed, kept.overlap) == ("night", 3, "acme", "latest", "skip")
        assert (kept.next_at, kept.last_at, kept.paused_at, kept.created_at) == (instant(5_000), None, None, instant(1_000))
        assert await store.schedules("nightly") == [kept]
        assert await store.schedules("weekly") == []

    @behaviour
    async def test_put_down_again_it_keeps_its_next_instant_unless_its_rule_is_new(self, store: Store) -> None:
        await store.submit(NIGHTLY)
        assert await store.submit(replace(NIGHTLY, next_at=9_000, at=2_000)) == "unchanged"
        assert await store.submit(replace(NIGHTLY, next_at=9_000, priority=4, at=2_000)) == "replaced"
        (kept,) = await store.schedules()
        assert (kept.priority, kept.next_at, kept.created_at, kept.updated_at) == (
            4,
            instant(5_000),
            instant(1_000),
            instant(2_000),
        )
        assert await store.submit(replace(NIGHTLY, rule=HOURLY, next_at=9_000, at=3_000)) == "replaced"
        assert [each.next_at for each in await store.schedules()] == [instant(9_000)]

    @behaviour
    async def test_what_is_due_is_answered_longest_due_first_for_the_machines_asked_for(self, store: Store) -> None:
        for name, machine, next_at in (("a", "paper", 30), ("b", "paper", 20), ("c", "other", 10), ("d", "paper", 99)):
            await store.submit(replace(NIGHTLY, name=name, machine=machine, next_at=next_at))
        assert [each.name for each in await store.due_schedules(["paper"], 50)] == ["b", "a"]
        assert [each.name for each in await store.due_schedules(["other", "paper"], 50)] == ["c", "b", "a"]
        assert [each.name for each in await store.due_schedules(["paper"], 19)] == []
        assert await store.next_schedule(["paper"]) == 20
        assert await store.next_schedule(["other"]) == 10
        assert await store.next_schedule(["nobody's"]) is None
        assert [each.name for each in await store.schedules()] == ["a", "b", "c", "d"]

    @behaviour
    async def test_of_many_that_fire_one_instant_one_moves_it_on(self, store: Store) -> None:
        await store.submit(NIGHTLY)
        fired = Fired("nightly", DAILY, 5_000, 6_000, ran=True)
        answers = await asyncio.gather(*(store.submit(fired) for _ in range(5)))
        assert sorted(map(bool, answers)) == [False] * 4 + [True]
        (kept,) = await store.schedules()
        assert (kept.next_at, kept.last_at) == (instant(6_000), instant(5_000))
        assert await store.submit(replace(fired, at=6_000, next_at=7_000, ran=False)) is True
        assert [(each.next_at, each.last_at) for each in await store.schedules()] == [(instant(7_000), instant(5_000))]
        assert await store.submit(replace(fired, at=7_000, next_at=8_000, rule=HOURLY)) is False

    @behaviour
    async def test_a_paused_schedule_fires_nothing_until_it_is_resumed(self, store: Store) -> None:
        await store.submit(NIGHTLY)
        await store.submit(PauseSchedule("nightly", 2_000))
        await store.submit(PauseSchedule("nightly", 3_000))
        (held,) = await store.schedules()
        assert (held.next_at, held.paused_at) == (None, instant(2_000))
        assert await store.due_schedules(["paper"], 10**9) == []
        assert await store.submit(Fired("nightly", DAILY, 5_000, 6_000, ran=True)) is False
        assert await store.submit(replace(NIGHTLY, rule=HOURLY)) == "replaced"
        assert [each.next_at for each in await store.schedules()] == [None]
        assert await store.submit(ResumeSchedule("nightly", DAILY, 8_000, 4_000)) is False
        assert await store.submit(ResumeSchedule("nightly", HOURLY, 8_000, 4_000)) is True
        assert [(each.next_at, each.paused_at) for each in await store.schedules()] == [(instant(8_000), None)]

    @behaviour
    async def test_a_schedule_that_is_not_there_cannot_be_held_or_taken_away(self, store: Store) -> None:
        await store.submit(NIGHTLY)
        await store.submit(DropSchedule("nightly"))
        assert await store.schedules() == []
        for write in (DropSchedule("nightly"), PauseSchedule("nightly", 1), ResumeSchedule("nightly", DAILY, 1, 1)):
            with pytest.raises(NotFound):
                await store.submit(write)
        assert await store.submit(Fired("nightly", DAILY, 5_000, 6_000, ran=True)) is False
