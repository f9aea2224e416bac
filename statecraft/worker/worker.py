"""Runs in hand: claim what is due, advance it, renew its lease, let go of it.

One poller and one renewal for the whole process, whatever the number of runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from statecraft import trace
from statecraft.calls.call import canonical
from statecraft.calls.visit import Visit
from statecraft.clock import micros
from statecraft.engine.held import Held, hold
from statecraft.engine.outcome import Moved, Parked
from statecraft.engine.settings import Settings
from statecraft.engine.step import Engine
from statecraft.errors import Fenced, RunHeld, StoreError
from statecraft.machine.definition import Definition
from statecraft.records import RunRecord, Status
from statecraft.store import port


class Worker:
    """Advances runs under leases of `owner`. Started and stopped by the runtime."""

    def __init__(self, engine: Engine, owner: str, definitions: Mapping[int, Definition]) -> None:
        self.engine = engine
        self.owner = owner
        self.definitions = definitions
        """Machine number to definition; grows as machines are registered."""
        self.failures: dict[bytes, BaseException] = {}
        """Why the last execution of a run in this process stopped, when it was not the run's own doing."""
        self._store, self._clock = engine.store, engine.clock
        self._settings: Settings = engine.services.settings
        self._driving: dict[bytes, tuple[Held, asyncio.Task[None]]] = {}
        self._taking: set[bytes] = set()
        self._own: set[bytes] = set()
        self._changed: dict[bytes, asyncio.Event] = {}
        self._poked = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to renew leases and, unless told to take none, to look for due runs."""
        self._loops.append(asyncio.create_task(self._renew_for_ever(), name="statecraft renew"))
        if self._settings.take != "none":
            self._loops.append(asyncio.create_task(self._poll_for_ever(), name="statecraft poll"))

    async def stop(self) -> None:
        """Stop working and hand back what is held, so that others need not wait for the leases to end."""
        held = list(self._driving)
        tasks = [*self._loops, *(task for _, task in self._driving.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run_id in held:
            with contextlib.suppress(Exception):
                await self._hand_back(run_id)

    async def _hand_back(self, run_id: bytes) -> None:
        run = await self._store.run(run_id)
        if run.status is Status.RUNNING and run.owner == self.owner:
            now = self._clock.now()
            await self._store.submit(port.Park(run_id, run.seq, run.epoch, now, port.Head(Status.READY, due_at=now)))

    # --- taking runs -------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many more runs may be held."""
        return self._settings.concurrency - len(self._driving)

    @property
    def lease_until(self) -> int:
        """When a lease given now ends."""
        return self._clock.now() + micros(self._settings.lease)

    def drive(self, held: Held) -> None:
        """Advance a claimed run in the background until it parks, ends or is lost."""
        self._own.add(held.run_id)
        self.failures.pop(held.run_id, None)
        task = asyncio.create_task(self._drive(held), name=f"statecraft run {held.id}")
        self._driving[held.run_id] = (held, task)

    async def claim(self, run_id: bytes, *, epoch: int | None = None) -> bool:
        """Claim one run and advance it. False if it is in hand already. Raises what `port.Claim` raises."""
        self._own.add(run_id)
        if self._has(run_id):
            return False
        try:
            run = await self._store.submit(port.Claim(run_id, self.owner, self._clock.now(), self.lease_until, epoch))
        except RunHeld:
            held = await self._store.run(run_id)
            if held.owner != self.owner:
                raise
            if self._has(run_id):
                return False  # Our own poller was faster.
            # Ours, but nobody advances it: an earlier execution was stopped by the store.
            again = port.Claim(run_id, self.owner, self._clock.now(), self.lease_until, held.epoch)
            run = await self._store.submit(again)
        await self._take(cast(RunRecord, run))
        return True

    def _has(self, run_id: bytes) -> bool:
        return run_id in self._driving or run_id in self._taking

    def own(self, run_id: bytes) -> None:
        """Look after this run when it becomes due, even if only own runs are taken."""
        self._own.add(run_id)

    def poke(self) -> None:
        """Look for due runs now."""
        self._poked.set()

    async def _take(self, run: RunRecord) -> None:
        """Bring a claimed run into memory and advance it."""
        run_id = bytes.fromhex(run.id)
        trace.emit("run.claimed", {"run_id": run.id, "state": run.state, "epoch": run.epoch})
        self._taking.add(run_id)
        try:
            loaded = await self._store.load(run_id)
            visit = Visit(self._store, self._clock, run_id, run.seq, run.epoch)
            held = hold(self.definitions[loaded.machine], loaded, visit)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - what cannot be read back must not be claimed over and over
            await self._unreadable(run, error)
        else:
            self.drive(held)
        finally:
            self._taking.discard(run_id)

    async def _unreadable(self, run: RunRecord, error: Exception) -> None:
        reason = f"the history of {run.id} cannot be read back by this code: {error}"[:1000]
        head = port.Head(Status.DEAD, reason=reason)
        facts = {"reason": reason, "state": run.state, "seq": run.seq, "needs": "the code that wrote it, or a migration"}
        run_id = bytes.fromhex(run.id)
        await self._store.submit(port.Park(run_id, run.seq, run.epoch, self._clock.now(), head, diagnosis=canonical(facts)))
        trace.emit("run.dead", {"run_id": run.id, "state": run.state, "reason": reason})
        self.signal(run_id)

    async def _drive(self, held: Held) -> None:
        try:
            outcome = await self.engine.step(held)
            while isinstance(outcome, Moved):
                outcome = await self.engine.step(held)
            if isinstance(outcome, Parked):
                self.poke()
        except Fenced:
            trace.emit("run.lost", {"run_id": held.id, "state": held.state, "epoch": held.epoch})
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the run
            self.failures[held.run_id] = error
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failures[held.run_id] = error
            raise
        finally:
            self._driving.pop(held.run_id, None)
            self.signal(held.run_id)

    def abandon(self, run_id: bytes) -> None:
        """Stop advancing a run that is no longer ours; nothing is written."""
        found = self._driving.get(run_id)
        if found is not None:
            found[1].cancel()
        self.signal(run_id)

    # --- waiting for changes -----------------------------------------------------------------------------------------

    def signal(self, run_id: bytes) -> None:
        """Wake whoever waits for a change of the run in this process."""
        changed = self._changed.pop(run_id, None)
        if changed is not None:
            changed.set()

    def changing(self, run_id: bytes) -> asyncio.Event:
        """Set at the run's next change in this process. Ask for it before looking at the run, then `until` it."""
        return self._changed.setdefault(run_id, asyncio.Event())

    async def until(self, changed: asyncio.Event) -> None:
        """Return when the event is set, or after the polling interval, since a run may change elsewhere too."""
        await self._either(changed, self._settings.poll.total_seconds())

    async def _either(self, event: asyncio.Event, seconds: float) -> None:
        signals: list[Coroutine[Any, Any, object]] = [event.wait(), self._clock.sleep(seconds)]
        waits = [asyncio.ensure_future(signal) for signal in signals]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    # --- the two loops -----------------------------------------------------------------------------------------------

    async def _poll_for_ever(self) -> None:
        while True:
            self._poked.clear()
            pause = self._settings.poll.total_seconds()
            with contextlib.suppress(Exception):
                # A store that is away for a moment must not end the poller; the next round says so again if it matters.
                pause = await self._claim_due()
            await self._either(self._poked, pause)

    async def _claim_due(self) -> float:
        """Take what is due; answer how many seconds nothing will be."""
        only = frozenset(self._own) if self._settings.take == "own" else None
        machines, poll = tuple(self.definitions), self._settings.poll.total_seconds()
        if self.free <= 0 or not machines or (only is not None and not only):
            return poll
        now = self._clock.now()
        claim = port.ClaimDue(self.owner, now, self.lease_until, machines, min(self.free, 100), only)
        taken = cast(list[RunRecord], await self._store.submit(claim))
        for run in taken:
            await self._take(run)
        if taken:
            return 0.0
        due = await self._store.next_due(machines, only)
        return poll if due is None else min(poll, max(0.0, (due - self._clock.now()) / 1_000_000))

    async def _renew_for_ever(self) -> None:
        while True:
            await self._clock.sleep(self._settings.lease.total_seconds() / 3)
            with contextlib.suppress(Exception):
                await self._renew()

    async def _renew(self) -> None:
        pairs = tuple((run_id, held.epoch) for run_id, (held, _) in self._driving.items())
        if not pairs:
            return
        for run_id in cast(list[bytes], await self._store.submit(port.Renew(pairs, self.lease_until))):
            lost = self._driving.get(run_id)
            if lost is not None:
                trace.emit("run.lost", {"run_id": run_id.hex(), "state": lost[0].state, "epoch": lost[0].epoch})
                self.abandon(run_id)
