"""Runs in hand: brought into memory, advanced, given up. Who takes them from the database is `worker.Worker`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import cast

from statecraft import trace
from statecraft.calls.call import canonical
from statecraft.calls.classify import said
from statecraft.calls.lease import Leases
from statecraft.calls.visit import Visit
from statecraft.clock import micros
from statecraft.engine.held import Held, hold
from statecraft.engine.outcome import Moved, Outcome, Parked
from statecraft.engine.settings import Settings
from statecraft.engine.step import Engine
from statecraft.errors import Fenced, RunHeld, StoreError, StoreFull, StoreUnavailable, VersionMismatch
from statecraft.machine.definition import Definition
from statecraft.records import RunRecord, Status
from statecraft.schedules.firing import Firing
from statecraft.store import port
from statecraft.worker.changes import ANY, Changes
from statecraft.worker.counts import Counts, NotOurs
from statecraft.worker.hosting import Hosting
from statecraft.worker.waits import either

_PATIENCE = 3
"""Failures of a loop in a row that are no passing trouble any more."""


class Hands(Changes):
    """The runs that this process holds."""

    def __init__(self, engine: Engine, owner: str, definitions: Mapping[int, Definition], leases: Leases) -> None:
        super().__init__()
        self.engine = engine
        self.owner = owner
        self.definitions = definitions
        """Machine number to definition; grows as machines are registered."""
        self.failures: dict[bytes, BaseException] = {}
        """Why the last execution of a run in this process stopped, when it was not the run's own doing."""
        self.schedules: Firing | None = None
        """Fires schedules, if that is this worker's business."""
        self.tally = Counter[str]()
        """What became of runs here: `claimed`, `ended`, `parked`, `handed back`, `lost`."""
        self.draining = False
        """Whether no more runs are taken, and those in hand are handed back."""
        self._store, self._clock, self._leases = engine.store, engine.clock, leases
        self._settings: Settings = engine.services.settings
        self.hosting = Hosting(engine.store, engine.clock, definitions, micros(self._settings.poll))
        self.counts = Counts(engine.store, engine.clock, self._settings, owner)
        self._driving: dict[bytes, tuple[Held, asyncio.Task[None]]] = {}
        self._taking: set[bytes] = set()
        """Runs on their way into `_driving`: they take room already, and nobody else here may take them."""
        self._own: set[bytes] = set()
        """Runs to look after when only own ones are taken; empty otherwise."""
        self._poked = asyncio.Event()
        self._wanting = False
        """Whether runs may be due that there was no room for."""
        self._idling = False
        """Whether somebody waits for `_idle`."""
        self._returning: set[asyncio.Task[None]] = set()
        """Runs on their way out of our hands."""
        leases.quiet = self._hand_back_in_call
        self._troubles: dict[str, tuple[int, Exception]] = {}
        """By loop: how often it failed in a row, and why the last time."""
        self._doubtful_until = 0
        """Until then, who lost a run may have lost it to a store that was away, as it was for us."""

    # --- taking runs -------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many more runs may be held."""
        if self.draining:
            return 0
        return self._settings.concurrency - len(self._driving) - len(self._taking)

    @property
    def lease_until(self) -> int:
        """When a lease given now ends."""
        return self._clock.now() + micros(self._settings.lease)

    @contextlib.contextmanager
    def room_for(self, run_id: bytes) -> Iterator[None]:
        """Keep room for a run while it is on its way into our hands."""
        self._taking.add(run_id)
        try:
            yield
        finally:
            self._taking.discard(run_id)

    def drive(self, held: Held, claimed_at: int) -> None:
        """Advance a claimed run in the background until it parks, ends or is lost. Its lease counts from `claimed_at`."""
        self._keep(held.run_id)
        if isinstance(self.failures.pop(held.run_id, None), StoreError) or claimed_at < self._doubtful_until:
            held.attempts = 0  # It was the store that stopped it the last time, here or elsewhere, and no fault of the run.
        if held.run_id in self._driving:
            self.abandon(held.run_id, "it was claimed again")
        self._leases.renewed(held.run_id, claimed_at)
        task = asyncio.create_task(self._drive(held), name=f"statecraft run {held.id}")
        self._driving[held.run_id] = (held, task)
        # Not at the end of the coroutine: a task that is cancelled before it began never comes there.
        task.add_done_callback(lambda _: self._let_go(held))

    def _let_go(self, held: Held) -> None:
        found = self._driving.get(held.run_id)
        if found is not None and found[0] is held:
            del self._driving[held.run_id]
            self._leases.forget(held.run_id)
        if self._wanting or (self._idling and not self._driving):
            self.poke()
        self.signal(held.run_id)

    async def claim(self, run_id: bytes, *, epoch: int | None = None) -> bool:
        """Claim one run and advance it. False if it is in hand already. Raises what `port.Claim` raises."""
        self._keep(run_id)
        while not self._has(run_id):
            claim = port.Claim(run_id, self.owner, self._clock.now(), self.lease_until, epoch)
            try:
                run = cast(RunRecord, await self._store.submit(claim))
            except RunHeld:
                held = await self._store.run(run_id)
                if held.owner not in (self.owner, None) or epoch == held.epoch:
                    raise
                # Ours. Either the poller was faster, or an execution was stopped by the store and nobody advances it.
                epoch = held.epoch
            else:
                with self.room_for(run_id):
                    await self._take(run, claim.now)
                return True
        return False

    def _has(self, run_id: bytes) -> bool:
        found = self._driving.get(run_id)
        return run_id in self._taking or (found is not None and found[0].visit.over is None)

    def look_after(self, run_id: bytes) -> None:
        """Take this run as soon as it is due and there is room."""
        self._keep(run_id)
        self._poked.set()

    def _keep(self, run_id: bytes) -> None:
        if self._settings.take == "own":
            self._own.add(run_id)

    def poke(self) -> None:
        """Look for due runs now."""
        self._poked.set()

    async def _take(self, run: RunRecord, claimed_at: int) -> None:
        """Bring a claimed run into memory and advance it."""
        run_id = bytes.fromhex(run.id)
        self.tally["claimed"] += 1
        self.counts.took(run)
        trace.emit("run.claimed", {"run_id": run.id, "state": run.state, "epoch": run.epoch})
        try:
            loaded = await self._store.load(run_id)
            if (loaded.run.epoch, loaded.run.owner) != (run.epoch, self.owner):
                trace.emit("run.lost", {"run_id": run.id, "state": run.state, "epoch": run.epoch})
                return  # Taken over or ended since the claim. Its epoch of now is not ours to write under.
            definition, loaded = await self.hosting.take_up(loaded)
            held = hold(definition, loaded, Visit(self._store, self._clock, run_id, loaded.run.seq, run.epoch))
        except StoreError:
            raise
        except VersionMismatch as error:
            await self._unreadable(run, error, str(error), "a migration that takes it up, or the code that started it")
        except Exception as error:  # noqa: BLE001 - what cannot be read back must not be claimed over and over
            reason = f"the history of {run.id} cannot be read back by this code: {said(error)}"
            await self._unreadable(run, error, reason, "the code that wrote it, or a migration")
        else:
            if not self.draining:  # Else it goes back with the rest.
                self.drive(held, claimed_at)

    async def _unreadable(self, run: RunRecord, error: Exception, reason: str, needs: str) -> None:
        head = port.Head(Status.DEAD, reason=reason[:1000])
        facts = {"reason": reason[:1000], "state": run.state, "seq": run.seq, "needs": needs}
        run_id = bytes.fromhex(run.id)
        kind = "VersionMismatch" if isinstance(error, VersionMismatch) else "Unreadable"
        death = port.Death(run.state, kind, None, canonical(facts))
        await self._store.submit(port.Park(run_id, run.seq, run.epoch, self._clock.now(), head, death=death))
        trace.emit("run.dead", {"run_id": run.id, "state": run.state, "reason": reason})
        self.signal(run_id)

    async def _drive(self, held: Held) -> None:
        try:
            outcome = await self._advance(held)
            if outcome is None:
                await self._return(held)
            elif isinstance(outcome, Parked):
                self.tally["parked"] += 1
                self.poke()
            else:
                self.tally["ended"] += 1
                self._own.discard(held.run_id)
                await self.ended(held.run_id, is_child=held.parent is not None)
        except Fenced as error:
            self.tally["lost"] += 1
            self.counts.refused(error)
            trace.emit("run.lost", {"run_id": held.id, "state": held.state, "epoch": held.epoch})
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the run; its lease ends, and it is claimed again
            self.failures[held.run_id] = error
            self._doubt(error)
            trace.emit("store.failed", {"run_id": held.id, "what": "step", "error": repr(error)}, level=logging.WARNING)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failures[held.run_id] = error
            raise

    async def _advance(self, held: Held) -> Outcome | None:
        """Step until the run stands still; None if it must be handed back. What a step would raise again at every claim
        ends the run."""
        try:
            if self.engine.poisoned(held):
                return await self.engine.give_up_poison(held)
            outcome = self.counts.went(await self.engine.step(held))
            while isinstance(outcome, Moved):
                if self.draining:
                    return None
                outcome = self.counts.went(await self.engine.step(held))
        except (Fenced, StoreUnavailable, StoreFull):
            raise
        except Exception as error:  # noqa: BLE001 - no exception leaves a run in limbo
            return await self.engine.give_up(held, error)
        return outcome

    def abandon(self, run_id: bytes, why: str) -> None:
        """Stop advancing a run that is no longer ours; nothing is written."""
        found = self._driving.get(run_id)
        if found is not None:
            self._lose(run_id, why)
            found[1].cancel()
        self.signal(run_id)

    def forget(self, run_id: bytes) -> None:
        """Look after a run no more: it has ended."""
        self._own.discard(run_id)
        self.failures.pop(run_id, None)
        self.abandon(run_id, "it was cancelled")

    async def ended(self, run_id: bytes, *, is_child: bool = True) -> None:
        """A run has ended: its parent may go on at once, and what ended with it is not advanced here any more.

        All of that is in the store already; here it only becomes prompt, so a store that fails just now is no matter.
        """
        if is_child:
            self.poke()
        # Whose ancestor ended has a parent that has ended: its own end, or the end of one above, ended that too.
        children = [(held.run_id, held.parent) for held, _ in self._driving.values() if held.parent and held.run_id != run_id]
        with contextlib.suppress(StoreError):
            for parent in {parent for _, parent in children}:
                if parent == run_id.hex() or (await self._store.run(bytes.fromhex(parent))).status.closed:
                    for child in (child for child, above in children if above == parent):
                        self.forget(child)

    def _lose(self, run_id: bytes, why: str) -> None:
        """Let the handler make no further call, even if it catches its cancellation."""
        held, _ = self._driving[run_id]
        held.visit.end(NotOurs(f"run {held.id} is not advanced here any more: {why}"))

    async def until(self, changed: asyncio.Event) -> None:
        """Return when the event is set, or after the polling interval, since a run may change elsewhere too."""
        await either(self._clock, changed, self._settings.poll.total_seconds())

    # --- handing back ------------------------------------------------------------------------------------------------

    def _hand_back_in_call(self, run_id: bytes) -> None:
        """Hand back a run whose handler is about to make a call, and makes no other."""
        held, task = self._driving.get(run_id, (None, None))
        if held is None or task is None or held.visit.over is not None:
            return
        self._lose(run_id, "this worker drains")
        task.cancel()
        returning = asyncio.create_task(self._return(held))
        self._returning.add(returning)
        returning.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._returning.discard(task)
        self.signal(ANY)

    async def _return(self, held: Held) -> None:
        """Make one run ready for others. It keeps its turn."""
        now = self._clock.now()
        ready = port.Park(held.run_id, held.seq, held.epoch, now, port.Head(Status.READY, due_at=now))
        with contextlib.suppress(StoreError):  # Somebody has it already, or will when its lease ends.
            await self._store.submit(ready)
            self.tally["handed back"] += 1
            trace.emit("run.parked", {"run_id": held.id, "state": held.state, "why": "handed back"})

    # --- trouble -----------------------------------------------------------------------------------------------------

    def trouble(self, run_id: bytes) -> BaseException | None:
        """Why a run does not go on here: what stopped it, or a store that fails the loops again and again."""
        if self._has(run_id):
            return None
        return self.failures.get(run_id) or next((error for times, error in self._troubles.values() if times >= _PATIENCE), None)

    def _trouble(self, what: str, error: Exception) -> None:
        """The store may be away for a moment, which ends nothing; but it is said each time, and remembered."""
        self._troubles[what] = (self._troubles.get(what, (0, error))[0] + 1, error)
        self._doubt(error)
        trace.emit("store.failed", {"what": what, "error": repr(error)}, level=logging.WARNING)

    def _doubt(self, error: Exception) -> None:
        """A store that is away is away for the whole fleet. Whoever held a run then has let go of it without a word, which
        would look like poison; all of those leases have ended, and been looked at, two leases from now."""
        if isinstance(error, StoreError):
            self._doubtful_until = self._clock.now() + 2 * micros(self._settings.lease)
