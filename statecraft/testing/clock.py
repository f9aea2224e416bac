"""A clock that moves only when told to: three days of waiting in a millisecond."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from types import TracebackType

from statecraft.clock import Timeout, micros, stamp

START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Implements `statecraft.clock.Clock`. Sleepers wake when `advance` passes their time."""

    def __init__(self, start: datetime = START) -> None:
        self._now = stamp(start)
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._asleep = asyncio.Event()

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._now / 1_000_000

    @property
    def sleepers(self) -> int:
        """How many sleeps and timeouts are pending."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def someone_sleeps(self) -> None:
        """Return when at least one sleep or timeout is pending."""
        while not self.sleepers:
            self._asleep.clear()
            await self._asleep.wait()

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        await self.alarm(self._now + int(seconds * 1_000_000))

    def alarm(self, when: int) -> asyncio.Future[None]:
        """A future that `advance` completes when it passes the instant `when`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        self._asleep.set()
        heapq.heappush(self._sleepers, (when, self._count, future))
        return future

    async def advance(self, delta: timedelta) -> None:
        """Move time on, waking every sleeper whose time has come, in order, and letting it run before the next."""
        until = self._now + micros(delta)
        while self._sleepers and self._sleepers[0][0] <= until:
            when, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, when)
            if not future.done():
                future.set_result(None)
                await asyncio.sleep(0)
        self._now = max(self._now, until)  # Somebody else may have moved it on meanwhile.
        await asyncio.sleep(0)

    async def leap(self, delta: timedelta) -> None:
        """Move time on at once, as for a process that was stopped meanwhile: sleepers whose time has come wake after all of it,
        each once, in order. `advance` lets them run on the way, which takes long over days of polling."""
        self._now += micros(delta)
        due: list[tuple[int, int, asyncio.Future[None]]] = []
        while self._sleepers and self._sleepers[0][0] <= self._now:
            due.append(heapq.heappop(self._sleepers))
        for _, _, future in due:
            if not future.done():
                future.set_result(None)
        await asyncio.sleep(0)

    def timeout(self, seconds: float | None) -> Timeout:
        return _ManualTimeout(self, seconds)


_LEAP = 86_400.0
"""Seconds of sleep that pass at once. Who sleeps longer waits for something else."""


class LeapingClock(ManualClock):
    """A manual clock on which whoever sleeps for less than a day does not have to wait: time moves on by itself."""

    async def sleep(self, seconds: float) -> None:
        if not 0 < seconds <= _LEAP:
            await super().sleep(seconds)
            return
        due = self.now() + int(seconds * 1_000_000)
        await asyncio.sleep(0)
        if due > self.now():
            await self.advance(timedelta(microseconds=due - self.now()))


class _ManualTimeout:
    """What `asyncio.timeout` does, on a manual clock."""

    def __init__(self, clock: ManualClock, seconds: float | None) -> None:
        self._clock, self._seconds = clock, seconds
        self._alarm: asyncio.Future[None] | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        """How many cancellations were under way when the block was entered; those are not ours to take back."""
        self._expired = False

    def expired(self) -> bool:
        return self._expired

    async def __aenter__(self) -> Timeout:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        if self._seconds is not None:
            self._alarm = self._clock.alarm(self._clock.now() + int(self._seconds * 1_000_000))
            self._alarm.add_done_callback(self._ring)
            if self._seconds <= 0:
                self._alarm.set_result(None)
        return self

    def _ring(self, alarm: asyncio.Future[None]) -> None:
        if not alarm.cancelled() and self._task is not None:
            self._expired = True
            self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        task, self._task = self._task, None  # An alarm that rings in this very moment must not cancel what comes after.
        if self._alarm is not None:
            self._alarm.cancel()
        if self._expired and task is not None:
            ours = task.uncancel() <= self._cancelling
            if ours and kind is asyncio.CancelledError:
                raise TimeoutError from error
