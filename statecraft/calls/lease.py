"""No attempt at a model or a tool begins under a lease that may have ended, and none begins while a worker drains.

Who lost a lease finds out when the database refuses a write, which is too late for what was done to the world. So each
attempt looks at the clock just before it leaves: if the lease was last renewed longer ago than half its length, the
attempt waits for a renewal, or for the end of the run in this process. The clock is compared, no timer: a process that
was stopped and goes on an hour later finds every lease old, whichever of its tasks wakes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from statecraft.calls.call import Call, Next, Reply
from statecraft.clock import Clock

FRESH = 0.5
"""Attempts begin in this part of a lease, counted from its last renewal."""
ABANDON = 0.9
"""After this part of a lease without a renewal, its run is given up here: others may claim it soon."""


class Leases:
    """The leases of a worker's runs. Its members of the call stack ask it; the worker keeps it current."""

    def __init__(self, clock: Clock, lease: int) -> None:
        """`lease` in microseconds."""
        self._clock = clock
        self._lease = lease
        self._good: dict[bytes, int] = {}
        """By run, when the claim or the renewal was sent that its lease counts from."""
        self._flying: dict[bytes, set[tuple[bytes, int]]] = {}
        """By run, its calls that have left and whose outcome is not recorded yet."""
        self._changed = asyncio.Event()
        self.draining = False
        """Whether no attempt may begin any more."""
        self.hurry: Callable[[], None] = _nobody
        """Called when an attempt waits for a renewal."""
        self.quiet: Callable[[bytes], None] = _nobody
        """Called with a run that can be handed back now: the worker drains, and the run makes no call."""

    # --- the worker's side -------------------------------------------------------------------------------------------

    def renewed(self, run_id: bytes, at: int) -> None:
        """The lease of a run counts from `at`: it was claimed or renewed with what was sent then."""
        self._good[run_id] = max(at, self._good.get(run_id, at))
        self._wake()

    def forget(self, run_id: bytes) -> None:
        """The run is not in hand any more."""
        self._good.pop(run_id, None)

    def drain(self) -> None:
        """Let no attempt begin from now on. Those that wait for a renewal wait for good."""
        self.draining = True
        self._wake()

    def overdue(self, now: int) -> list[bytes]:
        """Runs whose lease was not renewed for so long that they must be given up."""
        return [run_id for run_id, at in self._good.items() if now - at >= ABANDON * self._lease]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # --- the members of the call stack -------------------------------------------------------------------------------

    async def follow(self, call: Call, following: Next) -> Reply:
        """Outermost: know when the outcome of a call is recorded."""
        try:
            return await following(call)
        finally:
            self._land(call)

    async def enter(self, call: Call, following: Next) -> Reply:
        """Stand before whatever an attempt leaves behind, such as the intent of a `once` call."""
        if not call.dependency:
            return await following(call)
        while self.draining or self._stale(call.visit.run_id):
            self._land(call)  # A further attempt of a call whose last one is recorded.
            await self._wait(call)
        self._flying.setdefault(call.visit.run_id, set()).add((call.digest, call.occurrence))
        return await following(call)

    async def leave(self, call: Call, following: Next) -> Reply:
        """Stand just before the attempt itself: writing an intent may have taken long."""
        while call.dependency and self._stale(call.visit.run_id):
            await self._wait(call)
        return await following(call)

    def _land(self, call: Call) -> None:
        flying = self._flying.get(call.visit.run_id)
        if flying is None:
            return
        flying.discard((call.digest, call.occurrence))
        if not flying:
            del self._flying[call.visit.run_id]
            if self.draining:
                self._wake()

    def _stale(self, run_id: bytes) -> bool:
        good = self._good.get(run_id)
        return good is not None and self._clock.now() - good > FRESH * self._lease

    async def _wait(self, call: Call) -> None:
        """Until something changes. Raises what ended the visit."""
        changed = self._changed
        if self.draining and call.visit.run_id not in self._flying:
            self.quiet(call.visit.run_id)
        elif not self.draining:
            self.hurry()
        await changed.wait()
        if call.visit.over is not None:
            raise call.visit.over


def _nobody(*_: object) -> None: ...
