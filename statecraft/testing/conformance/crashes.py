"""A store that opens its database again: what was answered is there, and what a crash cut off is there whole or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from statecraft.errors import (
    StoreUnavailable,
)
from statecraft.records import RunFilter
from statecraft.store.port import (
    Amount,
    Charge,
)
from statecraft.testing.conformance.meters import reserved_of
from statecraft.testing.conformance.stories import (
    PAPER,
    Story,
    begun,
    child_of,
    question,
    ready,
    waiting_for_review,
)
from statecraft.testing.conformance.suite import Suite, behaviour, due, heads, seen


class Crash(BaseException):
    """Stands for the end of the program that a store works in."""


class CrashAt:
    """A probe that raises `Crash` at every commit once it is armed."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.armed = False

    def __call__(self, point: str) -> None:
        if self.armed and point == self.point:
            raise Crash


at_either_side = pytest.mark.parametrize("point", ["before", "after"])
"""The crash comes just before the commit, so nothing was kept, or just after it, so everything was."""


class Crashes(Suite):
    """Closing, crashing, and opening again."""

    @behaviour
    async def test_what_was_answered_is_there_after_opening_again(self, place: Any) -> None:
        async with self.opened(place) as store:
            run = await waiting_for_review(store)
            before = await seen(store)
        async with self.opened(place) as store:
            assert await seen(store) == before
            assert await store.register(PAPER) == run.machine
            await store.submit(run.move("rejected", head=ready(), decision=True, actor="ann"))
            assert await store.verify(run.run_id) == []

    @behaviour
    async def test_closing_commits_what_was_submitted(self, place: Any) -> None:
        async with self.opened(place) as store:
            run = await begun(store)
            waiting = asyncio.ensure_future(store.submit(run.move("more")))
            await asyncio.wait([waiting], timeout=0)
        await waiting
        async with self.opened(place) as store:
            assert (await store.run(run.run_id)).seq == 1

    @at_either_side
    @behaviour
    async def test_a_crash_at_a_commit_fails_the_writers_and_everybody_after_them(self, place: Any, point: str) -> None:
        crash = CrashAt(point)
        async with self.opened(place, crash) as store:
            runs = [await begun(store) for _ in range(3)]
            crash.armed = True
            outcomes = await asyncio.gather(*(store.submit(run.move("more")) for run in runs), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
            crash.armed = False
            with pytest.raises(StoreUnavailable):
                await store.submit(runs[0].move("more"))
        async with self.opened(place) as store:
            assert [run.seq for run in await heads(store, *runs)] == [int(point == "after")] * 3
            await begun(store)

    @at_either_side
    @behaviour
    async def test_a_crash_around_the_end_of_a_parent_leaves_no_half(self, place: Any, point: str) -> None:
        crash = CrashAt(point)
        async with self.opened(place, crash) as store:
            top = await begun(store)
            middle = await child_of(store, top)
            low = await child_of(store, middle)
            crash.armed = True
            with pytest.raises(StoreUnavailable):
                await store.submit(top.die())
        async with self.opened(place) as store:
            assert [run.status.closed for run in await heads(store, top, middle, low)] == [point == "after"] * 3

    @at_either_side
    @behaviour
    async def test_a_crash_around_a_decision_leaves_no_half(self, place: Any, point: str) -> None:
        crash, kept = CrashAt(point), point == "after"
        async with self.opened(place, crash) as store:
            run = await begun(store)
            await store.submit(run.ask_about(question()))
            crash.armed = True
            with pytest.raises(StoreUnavailable):
                await store.submit(run.decide(question()))
        async with self.opened(place) as store:
            (review,) = await store.reviews()
            assert (review.decision is not None) == kept
            assert due(await store.run(run.run_id)) == (3_000 if kept else 9_000)
            assert [entry.kind for entry in await store.feed(0)].count("decided") == kept

    @at_either_side
    @behaviour
    async def test_a_crash_around_a_reservation_leaves_no_half(self, place: Any, point: str) -> None:
        crash = CrashAt(point)
        async with self.opened(place, crash) as store:
            run = await begun(store)
            crash.armed = True
            with pytest.raises(StoreUnavailable):
                await store.submit(run.reserve('"q"', Amount("m", 60, 100), Amount("n", 60, 100)))
        async with self.opened(place) as store:
            assert [await reserved_of(store, meter) for meter in "mn"] == [60 * (point == "after")] * 2

    @at_either_side
    @behaviour
    async def test_a_crash_around_a_charge_leaves_no_half(self, place: Any, point: str) -> None:
        crash, kept = CrashAt(point), point == "after"
        async with self.opened(place, crash) as store:
            run = await begun(store)
            await store.submit(run.reserve('"q"', Amount("m", 60, 100), Amount("n", 60, 100)))
            crash.armed = True
            with pytest.raises(StoreUnavailable):
                await store.submit(run.settle('"q"', Charge("m", 7), Charge("n", 7)))
        async with self.opened(place) as store:
            assert await store.used(["m", "n"]) == dict.fromkeys("mn", 7 * kept)
            assert [await reserved_of(store, meter) for meter in "mn"] == [60 * (not kept)] * 2

    @at_either_side
    @behaviour
    async def test_a_start_whose_answer_was_lost_is_found_by_its_key(self, place: Any, point: str) -> None:
        crash = CrashAt(point)
        async with self.opened(place, crash) as store:
            lost = Story(await store.register(PAPER))
            crash.armed = True
            with pytest.raises(StoreUnavailable):
                await store.submit(lost.start(key="order-1"))
        async with self.opened(place) as store:
            again = Story(lost.machine)
            assert await store.submit(again.start(key="order-1")) == (lost if point == "after" else again).run_id
            assert len(await store.runs(RunFilter())) == 1
