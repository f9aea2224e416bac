"""How far the server's clock is from ours, measured with the beginning of each transaction.

Several machines agree on when a lease ends only if they look at one clock. Differences that the network's delay may
explain, or that no lease notices, count as none, so that a fleet whose clocks are set never moves an instant.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from statecraft import trace
from statecraft.clock import Clock, SystemClock

UNNOTICED = 100_000
"""Microseconds."""


class Skew:
    """The difference in use. With a clock that is not the time of day there is none."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock if isinstance(clock, SystemClock) else None
        self.shift = 0
        """Microseconds from our clock to the server's."""

    @contextmanager
    def measured(self) -> Iterator[Callable[[int], None]]:
        """Time the block; give what the server's clock said in it."""
        said: list[int] = []
        before = 0 if self._clock is None else self._clock.now()
        yield said.append
        if self._clock is None or not said:
            return
        after = self._clock.now()
        found = said[0] - (before + after) // 2
        if abs(found - self.shift) > max(UNNOTICED, after - before):
            self.shift = found if abs(found) > UNNOTICED else 0
            trace.emit("store.clock", {"ahead_seconds": self.shift / 1_000_000}, level=logging.WARNING)
