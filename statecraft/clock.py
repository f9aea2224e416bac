"""Time, passed in. The only module that reads a clock or sleeps.

Instants are aware `datetime` values in UTC; in the database they are integer microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
"""The last instant that a `datetime` can say."""


class Timeout(Protocol):
    """What `Clock.timeout` gives: an async context manager, such as `asyncio.Timeout`."""

    def expired(self) -> bool:
        """Whether the time ran out while the block was running."""
        ...

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None, /
    ) -> object: ...


class Clock(Protocol):
    """The passage of time. Pass `statecraft.testing.ManualClock` to a runtime to hold it still."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def timeout(self, seconds: float | None) -> Timeout:
        """Cancel the enclosed block after `seconds` (`None`: never) and raise `TimeoutError` from it."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> Timeout:
        return asyncio.timeout(seconds)


def instant(micros: int) -> datetime:
    """The UTC datetime of a stored instant; the last one there is (in the year 9999) for those that are later."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:  # One row like that, of a sleep that never ends, must not keep people from looking at the others.
        return LAST


def stamp(at: datetime) -> int:
    """The stored form of a UTC datetime: `instant` backwards."""
    return (at - EPOCH) // timedelta(microseconds=1)


def micros(delta: timedelta) -> int:
    """A duration in whole microseconds."""
    return delta // timedelta(microseconds=1)


def seconds(n: float) -> timedelta:
    """`n` seconds."""
    return timedelta(seconds=n)


def minutes(n: float) -> timedelta:
    """`n` minutes."""
    return timedelta(minutes=n)


def hours(n: float) -> timedelta:
    """`n` hours."""
    return timedelta(hours=n)


def days(n: float) -> timedelta:
    """`n` days."""
    return timedelta(days=n)
