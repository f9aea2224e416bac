"""The heartbeat: one renewal for all runs in hand, and the end of those whose lease could not be renewed in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from statecraft.calls.lease import ABANDON, Leases
from statecraft.clock import Clock
from statecraft.worker.waits import either

_EVERY = 3
"""A lease is renewed so many times before it would end."""
_LOOKS = 12
"""How often the clock is looked at within one lease."""
_TRIES = 2
"""For so many looks renewing is tried, after a pause in which it could not be."""


class Renewal:
    """Renews every third of the lease, and at once when an attempt waits for it. A renewal that hangs or fails does not
    keep it from giving runs up whose lease is about to end. After a pause of the whole process (it was stopped, the
    machine slept, something blocked the event loop) it tries to renew first: perhaps nobody has taken the runs."""

    def __init__(
        self,
        clock: Clock,
        leases: Leases,
        lease: int,
        renew: Callable[[], Awaitable[None]],
        abandon: Callable[[bytes, str], None],
    ) -> None:
        """`lease` in microseconds; `renew` raises nothing but its cancellation."""
        self._clock, self._leases, self._lease = clock, leases, lease
        self._renew, self._abandon = renew, abandon
        self._asked = asyncio.Event()
        self._look = lease // _LOOKS
        """Microseconds between two looks."""
        self._looked_at = self._patient_until = 0
        self._under_way: asyncio.Future[None] | None = None
        self.good_at = clock.now()
        """When the last renewal that succeeded was sent."""

    def hurry(self) -> None:
        """Renew now, unless a renewal is under way."""
        self._asked.set()

    async def for_ever(self) -> None:
        """Look, renew, give up."""
        try:
            while True:
                self._looked_at = self._clock.now()
                await either(self._clock, self._asked, self._look / 1_000_000)
                asked = self._asked.is_set()
                self._asked.clear()
                now = self._clock.now()
                self._give_up(now)
                due = asked or now - self.good_at >= self._lease // _EVERY
                if due and not self.under_way:
                    self._under_way = asyncio.ensure_future(self._renew())
        finally:
            if self._under_way is not None:
                self._under_way.cancel()

    @property
    def under_way(self) -> bool:
        """Whether a renewal has been sent and not been answered."""
        return self._under_way is not None and not self._under_way.done()

    def _give_up(self, now: int) -> None:
        """Give up the runs whose leases are about to end, unless renewing them could not be tried."""
        if now - self._looked_at > 2 * self._look:
            self._patient_until = now + _TRIES * self._look
        if now >= self._patient_until:
            for run_id in self._leases.overdue(now):
                self._abandon(run_id, f"its lease was not renewed for {ABANDON:.0%} of its time")
