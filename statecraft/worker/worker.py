"""Runs in hand: claim what is due, advance it, renew its lease, let go of it.

One poller and one renewal for the whole process, whatever the number of runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, cast
from weakref import WeakValueDictionary

from statecraft import trace
from statecraft.calls.call import canonical
from statecraft.calls.classify import said
from statecraft.calls.visit import Visit
from statecraft.clock import micros
from statecraft.engine.held import Held, hold
from statecraft.engine.outcome import Moved, Outcome, Parked
from statecraft.engine.settings import Settings
from statecraft.engine.step import Engine
from statecraft.errors import Fenced, RunHeld, StoreError, StoreFull, StoreUnavailable
from statecraft.machine.definition import Definition
from statecraft.records import RunFilter, RunRecord, Status
from statecraft.schedules.firing import Firing
from statecraft.store import port
from statecraft.worker.counts import Counts, NotOurs

_AT_ONCE = 100
"""Most runs claimed in one write."""

_PATIENCE = 3
"""Failures of a loop in a row that are no passing trouble any more."""

_ALL = 1_000_000

ANY = b""
"""In the place of a run's id: whichever run changes."""


class Worker:
    """Advances runs under leases of `owner`. Started and stopped by the runtime."""

    def __init__(self, engine: Engine, owner: str, definitions: Mapping[int, Definition]) -> None:
        self.engine = engine
        self.owner = owner
        self.definitions = definitions
        """Machine number to definition; grows as machines are registered."""
        self.failures: dict[bytes, BaseException] = {}
        """Why the last execution of a run in this process stopped, when it was not the run's own doing."""
        self.schedules: Firing | None = None
        """Fires schedules, if that is this worker's business."""
        self._store, self._clock = engine.store, engine.clock
        self._settings: Settings = engine.services.settings
        self._driving: dict[bytes, tuple[Held, asyncio.Task[None]]] = {}
        self._taking: set[bytes] = set()
        """Runs on their way into `_driving`: they take room already, and nobody else here may take them."""
        self._own: set[bytes] = set()
        """Runs to look after when only own ones are taken; empty otherwise."""
        self._changed: WeakValueDictionary[bytes, asyncio.Event] = WeakValueDictionary()
        """Lives as long as somebody waits."""
        self._poked = asyncio.Event()
        self._wanting = False
        """Whether runs may be due that there was no room for."""
        self._renewed_at = 0
        self.counts = Counts(engine.store, engine.clock, self._settings, owner)
        self._loops: list[asyncio.Task[None]] = []
        self._troubles: dict[str, tuple[int, Exception]] = {}
        """By loop: how often it failed in a row, and why the last time."""

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to renew leases and, unless told to take none, to look for due runs."""
        self._renewed_at = self._clock.now()
        self._loops.append(asyncio.create_task(self._renew_for_ever(), name="statecraft renew"))
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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._hand_back()
            await self.counts.end(self.definitions.values())
        except StoreError as error:
            self._trouble("hand back", error)  # The leases end by themselves.

    async def _hand_back(self) -> None:
        """Make all runs that are ours ready for others, those that were just being claimed included."""
        # Writes are applied in order: with an answer to this one, the fate of every write that was cut off is known.
        await self._store.submit(port.Renew((), self.lease_until))
        held = await self._store.runs(RunFilter(status=Status.RUNNING, limit=_ALL))
        await asyncio.gather(*(self._make_ready(run) for run in held if run.owner == self.owner))

    async def _make_ready(self, run: RunRecord) -> None:
        now = self._clock.now()
        ready = port.Park(bytes.fromhex(run.id), run.seq, run.epoch, now, port.Head(Status.READY, due_at=now))
        with contextlib.suppress(Fenced):  # Somebody took it over or ended it meanwhile.
            await self._store.submit(ready)

    # --- taking runs -------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many more runs may be held."""
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

    def drive(self, held: Held) -> None:
        """Advance a claimed run in the background until it parks, ends or is lost."""
        self._keep(held.run_id)
        if isinstance(self.failures.pop(held.run_id, None), StoreError):
            held.attempts = 0  # It was the store that stopped it the last time, and no fault of the run.
        if held.run_id in self._driving:
            self.abandon(held.run_id, "it was claimed again")
        task = asyncio.create_task(self._drive(held), name=f"statecraft run {held.id}")
        self._driving[held.run_id] = (held, task)
        # Not at the end of the coroutine: a task that is cancelled before it began never comes there.
        task.add_done_callback(lambda _: self._let_go(held))

    def _let_go(self, held: Held) -> None:
        found = self._driving.get(held.run_id)
        if found is not None and found[0] is held:
            del self._driving[held.run_id]
        if self._wanting:
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
                    await self._take(run)
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

    async def _take(self, run: RunRecord) -> None:
        """Bring a claimed run into memory and advance it."""
        run_id = bytes.fromhex(run.id)
        self.counts.took(run)
        trace.emit("run.claimed", {"run_id": run.id, "state": run.state, "epoch": run.epoch})
        try:
            loaded = await self._store.load(run_id)
            if (loaded.run.epoch, loaded.run.owner) != (run.epoch, self.owner):
                trace.emit("run.lost", {"run_id": run.id, "state": run.state, "epoch": run.epoch})
                return  # Taken over or ended since the claim. Its epoch of now is not ours to write under.
            visit = Visit(self._store, self._clock, run_id, run.seq, run.epoch)
            held = hold(self.definitions[loaded.machine], loaded, visit)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - what cannot be read back must not be claimed over and over
            await self._unreadable(run, error)
        else:
            self.drive(held)

    async def _unreadable(self, run: RunRecord, error: Exception) -> None:
        reason = f"the history of {run.id} cannot be read back by this code: {said(error)}"[:1000]
        head = port.Head(Status.DEAD, reason=reason)
        facts = {"reason": reason, "state": run.state, "seq": run.seq, "needs": "the code that wrote it, or a migration"}
        run_id = bytes.fromhex(run.id)
        death = port.Death(run.state, "Unreadable", None, canonical(facts))
        await self._store.submit(port.Park(run_id, run.seq, run.epoch, self._clock.now(), head, death=death))
        trace.emit("run.dead", {"run_id": run.id, "state": run.state, "reason": reason})
        self.signal(run_id)

    async def _drive(self, held: Held) -> None:
        try:
            outcome = await self._advance(held)
            if isinstance(outcome, Parked):
                self.poke()
            else:
                self._own.discard(held.run_id)
                await self.ended(held.run_id, is_child=held.parent is not None)
        except Fenced as error:
            self.counts.refused(error)
            trace.emit("run.lost", {"run_id": held.id, "state": held.state, "epoch": held.epoch})
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the run; its lease ends, and it is claimed again
            self.failures[held.run_id] = error
            trace.emit("store.failed", {"run_id": held.id, "what": "step", "error": repr(error)}, level=logging.WARNING)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failures[held.run_id] = error
            raise

    async def _advance(self, held: Held) -> Outcome:
        """Step until the run stands still. What a step would raise again at every claim ends the run."""
        try:
            if self.engine.poisoned(held):
                return await self.engine.give_up_poison(held)
            outcome = self.counts.went(await self.engine.step(held))
            while isinstance(outcome, Moved):
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
        if all(held.parent is None or held.run_id == run_id for held, _ in self._driving.values()):
            return
        with contextlib.suppress(StoreError):
            for child in await self._store.runs(RunFilter(parent=run_id.hex(), limit=_ALL)):
                if child.status is Status.CANCELLED:
                    raw = bytes.fromhex(child.id)
                    self.forget(raw)
                    await self.ended(raw)

    def _lose(self, run_id: bytes, why: str) -> None:
        """Let the handler make no further call, even if it catches its cancellation."""
        held, _ = self._driving[run_id]
        held.visit.end(NotOurs(f"run {held.id} is not advanced here any more: {why}"))

    # --- waiting for changes -----------------------------------------------------------------------------------------

    def signal(self, run_id: bytes) -> None:
        """Wake whoever waits for a change of the run in this process."""
        for key in (run_id, ANY):
            changed = self._changed.pop(key, None)
            if changed is not None:
                changed.set()

    def changing(self, run_id: bytes) -> asyncio.Event:
        """Set at the next change of the run (or of `ANY`) in this process. Ask for it before looking at the run, then
        `until` it."""
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

    def trouble(self, run_id: bytes) -> BaseException | None:
        """Why a run does not go on here: what stopped it, or a store that fails the loops again and again."""
        if self._has(run_id):
            return None
        return self.failures.get(run_id) or next((error for times, error in self._troubles.values() if times >= _PATIENCE), None)

    def _trouble(self, what: str, error: Exception) -> None:
        """The store may be away for a moment, which ends nothing; but it is said each time, and remembered."""
        self._troubles[what] = (self._troubles.get(what, (0, error))[0] + 1, error)
        trace.emit("store.failed", {"what": what, "error": repr(error)}, level=logging.WARNING)

    async def _poll_for_ever(self) -> None:
        while True:
            self._poked.clear()
            pause = self._settings.poll.total_seconds()
            try:
                soon = pause if self.schedules is None else await self.schedules.fire()
                pause = min(soon, await self._claim_due())
                self._troubles.pop("poll", None)
            except Exception as error:  # noqa: BLE001 - nothing may end the poller
                self._trouble("poll", error)
            await self._either(self._poked, pause)

    async def _claim_due(self) -> float:
        """Take what is due; answer how many seconds nothing will be."""
        only = frozenset(self._own) if self._settings.take == "own" else None
        machines, poll = tuple(self.definitions), self._settings.poll.total_seconds()
        self._wanting = self.free <= 0
        if self._wanting or not machines or (only is not None and not only):
            return poll
        if self._driving and self._clock.now() - self._renewed_at >= micros(self._settings.lease):
            await self._renew()  # Something kept us from it; our own runs must not look as if nobody held them.
        claim = port.ClaimDue(self.owner, self._clock.now(), self.lease_until, machines, min(self.free, _AT_ONCE), only)
        taken = cast(list[RunRecord], await self._store.submit(claim))
        with contextlib.ExitStack() as rooms:
            for run in taken:
                rooms.enter_context(self.room_for(bytes.fromhex(run.id)))
            await self._take_all(taken)
        if taken:
            return 0.0
        due = await self._store.next_due(machines, only)
        return poll if due is None else min(poll, max(0.0, (due - self._clock.now()) / 1_000_000))

    async def _take_all(self, taken: Sequence[RunRecord]) -> None:
        for run in taken:
            try:
                await self._take(run)
            except StoreError as error:  # The others may be well; this one's lease ends, and it is claimed again.
                self.failures[bytes.fromhex(run.id)] = error
                self._trouble("take", error)
            else:
                self._troubles.pop("take", None)

    async def _renew_for_ever(self) -> None:
        while True:
            await self._clock.sleep(self._settings.lease.total_seconds() / 3)
            try:
                await self._renew()
                self._troubles.pop("renew", None)
            except Exception as error:  # noqa: BLE001 - nothing may end the renewal
                self._trouble("renew", error)

    async def _renew(self) -> None:
        now, epochs = self._clock.now(), {run_id: held.epoch for run_id, (held, _) in self._driving.items()}
        self.counts.tell(len(self._driving), self.definitions.values())
        if epochs:
            lost = await self._store.submit(port.Renew(tuple(epochs.items()), now + micros(self._settings.lease)))
            for run_id in cast(list[bytes], lost):
                held = self._driving[run_id][0] if run_id in self._driving else None
                if held is not None and held.epoch == epochs[run_id]:  # Not claimed again by ourselves meanwhile.
                    trace.emit("run.lost", {"run_id": held.id, "state": held.state, "epoch": held.epoch})
                    self.abandon(run_id, "its lease was lost")
        self._renewed_at = now
