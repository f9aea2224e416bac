"""The worker of a runtime: claim what is due, renew the leases of what is in hand, let go of it.

One poller and one renewal for the whole process, whatever the number of runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import cast

from statecraft import trace
from statecraft.calls.lease import Leases
from statecraft.clock import micros
from statecraft.engine.step import Engine
from statecraft.errors import StoreError
from statecraft.machine.definition import Definition
from statecraft.records import RunRecord
from statecraft.store import port
from statecraft.worker.changes import ANY
from statecraft.worker.hands import Hands
from statecraft.worker.renewal import Renewal
from statecraft.worker.waits import either

__all__ = ["ANY", "Worker"]

_AT_ONCE = 100
"""Most runs claimed in one write."""
STUBBORN = 2.0
"""Seconds of the real clock in which a handler that was cancelled must end. Then nobody waits for it any more."""


class Worker(Hands):
    """Advances runs under leases of `owner`. Started and stopped by the runtime."""

    def __init__(self, engine: Engine, owner: str, definitions: Mapping[int, Definition], leases: Leases) -> None:
        super().__init__(engine, owner, definitions, leases)
        self._limits = tuple(self._settings.machine_limits.items())
        self._idle = asyncio.Event()
        """Set when nothing was in hand, and nothing due, at the last look."""
        self._renewal = Renewal(self._clock, leases, micros(self._settings.lease), self._try_to_renew, self._overdue)
        leases.hurry = self._renewal.hurry
        self._loops: list[asyncio.Task[None]] = []
        self.claiming = False
        """Whether runs may be on their way into our hands: their leases count from when they were asked for."""

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to renew leases and, unless told to take none, to look for due runs."""
        self._renewal.good_at = self._clock.now()
        self._loops.append(asyncio.create_task(self._renewal.for_ever(), name="statecraft renew"))
        if self._settings.take == "all":
            self.counts.tell(0, self.definitions.values())
        if self._settings.take != "none":
            self._loops.append(asyncio.create_task(self._poll_for_ever(), name="statecraft poll"))
            self._store.listen(self.poke)

    async def stop(self) -> None:
        """Stop working and hand back what is held, so that others need not wait for the leases to end."""
        tasks = [*self._loops, *(task for _, task in self._driving.values())]
        for run_id in list(self._driving):
            self._lose(run_id, "this runtime is closing")
        await self._cut_off(tasks)
        try:
            await self._hand_back()
            await self.counts.end(self.definitions.values())
        except StoreError as error:
            self._trouble("hand back", error)  # The leases end by themselves.

    async def _cut_off(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Cancel these and see them end. A handler that goes on all the same can write nothing more and makes no call."""
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STUBBORN)
        for held, task in list(self._driving.values()):
            if not task.done():
                self._let_go(held)
                told = {"run_id": held.id, "state": held.state, "why": "its handler goes on although it was cancelled"}
                trace.emit("run.stuck", told, level=logging.WARNING)

    async def _hand_back(self) -> None:
        """Make all runs that are ours ready for others, those that were just being claimed included: writes are applied
        in order, so every write that was cut off has its fate by then."""
        self.tally["handed back"] += cast(int, await self._store.submit(port.Release(self.owner, self._clock.now())))

    async def drain(self, grace: timedelta) -> None:
        """Take nothing more and let go of everything, then stop.

        Calls under way may finish within `grace`; no new one begins, and each run is handed back to others at its next
        point in the journal. What is still in hand after that is cut off, as by `stop`.
        """
        self.draining = True
        self._leases.drain()
        limit = self._clock.timeout(grace.total_seconds())
        try:
            async with limit:
                while self._driving or self._returning:
                    await self.changing(ANY).wait()
        except TimeoutError:
            if not limit.expired():
                raise
        await self.stop()

    # --- the two loops -----------------------------------------------------------------------------------------------

    async def _poll_for_ever(self) -> None:
        while True:
            self._poked.clear()
            pause = self._poll()
            try:
                soon = pause if self.schedules is None else await self.schedules.fire()
                pause = min(soon, await self._claim_due())
                self._troubles.pop("poll", None)
            except Exception as error:  # noqa: BLE001 - nothing may end the poller
                self._trouble("poll", error)
            await either(self._clock, self._poked, pause)

    def _poll(self) -> float:
        """Seconds to the next look. Drawn, so that workers that began together do not go on looking together."""
        return self._settings.poll.total_seconds() * (1 - self.engine.services.ids.uniform() / 2)

    async def _claim_due(self) -> float:
        """Take what is due; answer how many seconds nothing will be."""
        only = frozenset(self._own) if self._settings.take == "own" else None
        machines, poll, queues = await self.hosting.machines(), self._poll(), self._settings.queues
        # The end of a run of a limited machine makes room for another one.
        self._wanting = self.free <= 0 or bool(self._limits)
        if self.free <= 0 or not machines or (only is not None and not only):
            if not self._driving:
                self._idle.set()  # There is nothing that it may take.
            return poll
        now = self._clock.now()
        if self._driving and now - self._renewal.good_at >= micros(self._settings.lease) // 2:
            await self._renew()  # Something kept us from it; our own runs must not look as if nobody held them.
            now = self._clock.now()
        room = min(self.free, _AT_ONCE)
        claim = port.ClaimDue(self.owner, now, self.lease_until, machines, room, only, queues, self._limits)
        self.claiming = True
        try:
            taken = cast(list[RunRecord], await self._store.submit(claim))
            with contextlib.ExitStack() as rooms:
                for run in taken:
                    rooms.enter_context(self.room_for(bytes.fromhex(run.id)))
                await self._take_all(taken, claim.now)
        finally:
            self.claiming = False
        if taken:
            return 0.0
        due = await self._store.next_due(machines, only, queues, self._limits)
        if not self._driving and (due is None or due > self._clock.now()):
            self._idle.set()
        return poll if due is None else min(poll, max(0.0, (due - self._clock.now()) / 1_000_000))

    async def idle(self) -> None:
        """Return when nothing is in hand here and nothing is due that may be taken."""
        while self.draining or self._settings.take == "none":  # Nobody looks for what is due.
            if not self._driving:
                return
            await self.changing(ANY).wait()
        self._idling = True
        self._idle.clear()
        self.poke()
        await self._idle.wait()

    async def _take_all(self, taken: Sequence[RunRecord], claimed_at: int) -> None:
        """Bring all of them into memory at once, so that the store reads them in one go."""
        ends = await asyncio.gather(*(self._take(run, claimed_at) for run in taken), return_exceptions=True)
        for run, error in zip(taken, ends, strict=True):
            if isinstance(error, StoreError):  # The others may be well; this one's lease ends, and it is claimed again.
                self.failures[bytes.fromhex(run.id)] = error
                self._trouble("take", error)
            elif error is not None:
                raise error
            else:
                self._troubles.pop("take", None)

    async def _try_to_renew(self) -> None:
        try:
            await self._renew()
            self._troubles.pop("renew", None)
        except Exception as error:  # noqa: BLE001 - nothing may end the renewal
            self._trouble("renew", error)

    def _overdue(self, run_id: bytes, why: str) -> None:
        """Give a run up whose lease is about to end: others may claim it."""
        held = self._driving[run_id][0] if run_id in self._driving else None
        self._leases.forget(run_id)
        if held is not None:
            self.tally["lost"] += 1
            trace.emit("run.lost", {"run_id": held.id, "state": held.state, "epoch": held.epoch, "reason": why})
            self.abandon(run_id, why)

    async def _renew(self) -> None:
        now = self._clock.now()
        # A handler may go on after its run was given up here: that run is for others, and its lease must end.
        epochs = {run_id: held.epoch for run_id, (held, _) in self._driving.items() if held.visit.over is None}
        self.counts.tell(len(self._driving), self.definitions.values())
        if epochs:
            renew = port.Renew(tuple(epochs.items()), now + micros(self._settings.lease))
            lost = cast(list[bytes], await self._store.submit(renew))
            for run_id in epochs.keys() - lost:
                if run_id in self._driving and self._driving[run_id][0].epoch == epochs[run_id]:
                    self._leases.renewed(run_id, now)
            for run_id in lost:
                held = self._driving[run_id][0] if run_id in self._driving else None
                if held is not None and held.epoch == epochs[run_id]:  # Not claimed again by ourselves meanwhile.
                    trace.emit("run.lost", {"run_id": held.id, "state": held.state, "epoch": held.epoch})
                    self.abandon(run_id, "its lease was lost")
        self._renewal.good_at = max(now, self._renewal.good_at)
