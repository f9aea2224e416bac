"""The clock that stands still keeps the promises of `asyncio.timeout`."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from statecraft.clock import Clock, SystemClock
from statecraft.testing import ManualClock


async def endless() -> None:
    await asyncio.get_running_loop().create_future()


def test_a_time_of_nothing_is_over_at_once_on_both_clocks() -> None:
    async def go(clock: Clock) -> None:
        limit = clock.timeout(0)
        with pytest.raises(TimeoutError):
            async with limit:
                await endless()
        assert limit.expired()

    asyncio.run(go(SystemClock()))
    asyncio.run(asyncio.wait_for(go(ManualClock()), 10))


def test_a_cancellation_that_the_block_caught_leaves_no_trace_in_the_task() -> None:
    async def go() -> None:
        clock = ManualClock()

        async def block() -> int:
            async with clock.timeout(5):
                with contextlib.suppress(asyncio.CancelledError):
                    await endless()
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        running = asyncio.ensure_future(block())
        await clock.someone_sleeps()
        await clock.advance(timedelta(seconds=5))
        assert await running == 0

    asyncio.run(go())


def test_the_outer_of_two_times_is_not_taken_for_the_inner() -> None:
    async def go() -> None:
        clock = ManualClock()
        inner, outer = clock.timeout(10), clock.timeout(5)

        async def block() -> None:
            async with outer, inner:
                await endless()

        running = asyncio.ensure_future(block())
        await clock.someone_sleeps()
        await clock.advance(timedelta(seconds=5))
        with pytest.raises(TimeoutError):
            await running
        assert (outer.expired(), inner.expired()) == (True, False)

    asyncio.run(go())


def test_a_block_that_ends_in_the_instant_of_its_timeout_is_not_cancelled_afterwards() -> None:
    async def go() -> None:
        clock, ready = ManualClock(), asyncio.Event()

        async def block() -> str:
            async with clock.timeout(5):
                await ready.wait()
            await asyncio.sleep(0)
            return "went on"

        running = asyncio.ensure_future(block())
        await clock.someone_sleeps()
        ready.set()
        await clock.advance(timedelta(seconds=5))
        assert await running == "went on"

    asyncio.run(go())


def test_a_cancellation_from_outside_is_not_a_timeout() -> None:
    async def go() -> None:
        clock = ManualClock()

        async def block() -> None:
            async with clock.timeout(5):
                await endless()

        running = asyncio.ensure_future(block())
        await clock.someone_sleeps()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(go())
