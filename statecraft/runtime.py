"""The one object a user builds: it holds the store, the machines, the model and the runs in hand. No globals."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from statecraft import trace
from statecraft.alerts.courier import Courier
from statecraft.calls.lease import Leases
from statecraft.calls.visit import Visit
from statecraft.clock import Clock, SystemClock, micros
from statecraft.decisions import Decision
from statecraft.engine import decide as decisions
from statecraft.engine import owner, verdict
from statecraft.engine.assembly import call_stack
from statecraft.engine.begin import beginning, check_key, check_place, first, head_until, machine_spec
from statecraft.engine.children import machines_of
from statecraft.engine.fit import kept
from statecraft.engine.held import fresh
from statecraft.engine.live import Hub, announcing
from statecraft.engine.nursery import Nursery
from statecraft.engine.services import Services
from statecraft.engine.settings import Settings
from statecraft.engine.step import Engine
from statecraft.errors import (
    ConfigError,
    InvalidPayload,
    KeyConflict,
    RunClosed,
    RunHeld,
    WaitTimeout,
)
from statecraft.explaining.look import Explaining
from statecraft.ids import Ids, RandomIds
from statecraft.llm.port import LLM
from statecraft.looking import raw_id, settled
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition
from statecraft.machine.event import Event
from statecraft.records import (
    RunFilter,
    RunRecord,
    Status,
)
from statecraft.redriving import Redriving
from statecraft.replaying import Replaying
from statecraft.schedules.face import Scheduling
from statecraft.schedules.firing import Firing, Known
from statecraft.store import chain, open_store, port
from statecraft.store.outbox import Enable, Redeliver
from statecraft.worker.worker import Worker

D = TypeVar("D", bound=Data)

DEFAULT_URL = "sqlite:///statecraft.db"
"""The database used when neither an argument nor STATECRAFT_URL names one."""


class Runtime(Scheduling, Redriving, Explaining, Replaying):
    """Starts, resumes, replays and lists runs, and advances those it holds.

    `url` names the database (default: STATECRAFT_URL, else `sqlite:///statecraft.db`); `machines` are the definitions
    it may run; `llm` answers `run.llm`: one model for all machines, or one for each by the machine's name. Opening brings a
    database of an older schema up, unless `migrate` is off. Clock, ids and store may be passed in, for tests. Use it as an
    async context manager; two runtimes share nothing.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        machines: Sequence[Machine[Any]] = (),
        llm: LLM | Mapping[str, LLM] | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        store: port.Store | None = None,
        migrate: bool = True,
    ) -> None:
        self.url = url or os.environ.get("STATECRAFT_URL") or DEFAULT_URL
        self.settings = settings or Settings()
        self.llm = llm
        self._clock: Clock = clock or SystemClock()
        self._ids: Ids = ids or RandomIds()
        self._store = store or open_store(self.url, clock=self._clock, migrate=migrate)
        self._definitions = _by_name(machines)
        self._numbers: dict[str, int] = {}
        self._live = Hub()
        leases = Leases(self._clock, micros(self.settings.lease))
        calls = announcing(call_stack(self.settings, self._ids, self._store, leases), self._live)
        nursery = Nursery(self._store, self._clock, self._ids, self._register, self._look_after, self._forget)
        self._services = Services(calls, self._ids, llm, self.settings, nursery, self._live)
        self._engine = Engine(self._store, self._clock, self._services)
        self._running: dict[int, Definition] = {}
        self._worker = Worker(self._engine, owner.this_process(self._ids.trace_id()[:8]), self._running, leases)
        told = (self.settings.channels, self.settings.alerts, self.settings.poll.total_seconds())
        self._courier = Courier(self._store, self._clock, self._ids.uniform, *told)
        if self.settings.take == "all":
            known = Known(self._store, self._clock, self._ids, self._at_hand, self._register, self.settings.share_of)
            self._worker.schedules = Firing(known, self.settings.poll)

    # --- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._store.open()
        try:
            for definition in self._definitions.values():
                await self._register(definition)
            await self._courier.start()
            self._worker.start()
            if self.settings.take == "all":
                await self._rescue()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        await self._close()

    async def _close(self) -> None:
        try:
            await self._worker.stop()
        finally:
            try:
                await self._courier.stop()
            finally:
                await self._store.close()
            llms = self.llm.values() if isinstance(self.llm, Mapping) else (self.llm,)
            for llm in {id(each): each for each in llms if each is not None}.values():
                await llm.close()

    async def _register(self, definition: Definition) -> int:
        known = self._numbers.get(definition.fingerprint)
        if known is None:
            known = await self._store.register(machine_spec(definition))
            self._numbers[definition.fingerprint] = known
            self._running[known] = definition
            for machine in machines_of(definition):
                await self._register(machine.definition)
        return known

    def _at_hand(self) -> dict[str, Definition]:
        return {**{definition.name: definition for definition in self._running.values()}, **self._definitions}

    def _look_at_schedules(self) -> None:
        if self._worker.schedules is not None:
            self._worker.schedules.look_again()
            self._worker.poke()

    def _look_after(self, run_id: bytes) -> None:
        if self.settings.take != "none":
            self._worker.look_after(run_id)

    def _forget(self, run_id: bytes) -> None:
        self._worker.forget(run_id)

    async def _rescue(self) -> None:
        """Take over the runs of our machines whose holder was a process of this machine that is gone."""
        for run in await self._store.runs(RunFilter(status=Status.RUNNING, limit=10_000)):
            if self._worker.hosting.taker(run) is not None and self._worker.free > 0:
                await self._take_over(run)

    async def _take_over(self, run: RunRecord) -> None:
        if run.owner and owner.gone(run.owner):
            with contextlib.suppress(RunHeld, RunClosed):  # Another process was faster.
                await self._worker.claim(raw_id(run.id), epoch=run.epoch)

    # --- acting ------------------------------------------------------------------------------------------------------

    async def start(
        self,
        machine: Machine[D],
        data: D,
        *,
        key: str | None = None,
        tenant: str | None = None,
        detach: bool = False,
        queue: str = "default",
        priority: int = 0,
        at: datetime | None = None,
        delay: timedelta | None = None,
    ) -> RunRecord:
        """Record a new run and advance it in the background; `detach` only records it, for whoever looks for due runs.

        With a `key`, starting again answers the run that owns it. `tenant` names on whose behalf it runs, and so whose
        budgets (`Settings.tenants`) and share of the queue (`Settings.shares`) it draws on. In its `queue`, a higher
        `priority` goes first. With `at` or `delay` it waits until then; its deadline and other bounds of time count from
        there, or from when somebody resumes it before. Raises `InvalidPayload` if `data` is not of the machine's data
        type, `KeyConflict` if the key's run has another machine or input, `ConfigError` for an empty tenant or queue,
        for a name that no database keeps, for `at` without a time zone, or for a key that begins with `schedule:` or `child:`.
        """
        definition = machine.definition
        now = self._clock.now()
        begins = beginning(now, at, delay)
        check_place(tenant, queue, priority, key)
        check_key(key)
        if type(data) is not definition.data_type:
            raise InvalidPayload(f"{definition.name} is started with {definition.data_type.__name__}, not {type(data).__name__}")
        payload = kept(data)
        number = await self._register(definition)
        drive = not detach and self.settings.take != "none"
        hold = drive and begins <= now and self._may_hold(definition, queue)
        begun = port.Start(
            first(definition, number, self._ids.run_id(now), now, payload, int(hold), chain.origin(key, tenant)),
            port.Head(Status.RUNNING, self._worker.owner, self._worker.lease_until) if hold else head_until(now, begins),
            key,
            None if definition.deadline is None else begins + micros(definition.deadline),
            self._ids.trace_id(),
            tenant,
            queue=queue,
            priority=priority,
            share=self.settings.share_of(tenant),
        )
        record = await self._write(definition, begun, hold)
        if record.id != begun.transition.run_id.hex():
            return await self._existing(raw_id(record.id), definition, payload, str(key), drive)
        if drive and not hold:
            self._worker.look_after(begun.transition.run_id)
        return record

    async def _write(self, definition: Definition, begun: port.Start, hold: bool) -> RunRecord:
        """Write a start down, and advance it here if we hold it; the run it is, or the one that owns its key."""
        row = begun.transition
        with self._worker.room_for(row.run_id) if hold else contextlib.nullcontext():
            run_id = cast(bytes, await self._store.submit(begun))
            if run_id != row.run_id:
                return await self._store.run(run_id)
            trace.emit("run.started", {"run_id": run_id.hex(), "machine_name": definition.name})
            try:
                return await self._store.run(run_id)
            finally:  # Last of all, so that whoever follows the run right away is there before its first call.
                if hold:
                    visit = Visit(self._store, self._clock, row.run_id, 0, row.epoch)
                    self._worker.drive(fresh(definition, begun, visit), row.at)

    @property
    def owner(self) -> str:
        """The name under which this runtime holds runs."""
        return self._worker.owner

    async def announced(self) -> None:
        """Return when the database has this worker's first sign of life. Raises `StoreError` if it cannot be written, as by a
        role that only reads."""
        await self._worker.counts.announced()

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of runs here so far: `claimed`, `ended`, `parked`, `handed back`, `lost`."""
        return self._worker.tally

    def _may_hold(self, definition: Definition, queue: str) -> bool:
        """Whether a run that is started here is advanced here at once, past everything that waits."""
        ours = self.settings.take == "own" or queue in self.settings.queues
        return ours and self._worker.free > 0 and definition.name not in self.settings.machine_limits

    async def _existing(self, run_id: bytes, definition: Definition, payload: str, key: str, drive: bool) -> RunRecord:
        loaded = await self._store.load(run_id)
        if loaded.run.machine != definition.name or loaded.input != payload:
            raise KeyConflict(
                f"key {key!r} belongs to run {loaded.run.id} of {loaded.run.machine}, started with another input; use another key"
            )
        if not drive or loaded.run.status.closed:
            return loaded.run
        await self._take_over(loaded.run)
        self._worker.look_after(run_id)
        return await self._store.run(run_id)

    async def wait(self, run_id: str, *, timeout: timedelta | None = None) -> RunRecord:
        """Return when the run has ended or waits for a person.

        Raises `WaitTimeout` after `timeout` (the run goes on), and whatever stopped it in this process if that was
        not its own doing, such as `StoreFull`.
        """
        raw = raw_id(run_id)
        limit = self._clock.timeout(None if timeout is None else timeout.total_seconds())
        try:
            async with limit:
                while True:
                    changed = self._worker.changing(raw)
                    run = await self._store.run(raw)
                    if settled(run, self._clock.now()):
                        return run
                    if (failure := self._worker.trouble(raw)) is not None:
                        raise failure
                    await self._worker.until(changed)
        except TimeoutError:
            if not limit.expired():
                raise
            raise WaitTimeout(f"run {run_id} did not settle in {timeout}; it goes on") from None

    async def send(self, run_id: str, event: Event, *, by: str) -> RunRecord:
        """Decide the open review of a run with one of its events, in the name of `by`, and let it go on in the background.

        Raises `RunClosed`, `NotWaiting`, `IllegalEvent`, `InvalidPayload`, `AlreadyDecided` or `VersionMismatch`; nothing
        was written then.
        """
        raw = raw_id(run_id)
        definition = await self._definition_of(await self._store.run(raw))
        status = await decisions.decide(self._store, self._clock, definition, raw, event, by, self._bring)
        if status is Status.READY and self.settings.take != "none":
            self._worker.look_after(raw)
        if status.closed:
            await self._worker.ended(raw)
        self._worker.signal(raw)
        return await self._store.run(raw)

    async def decide(self, run_id: str, decision: Decision, *, by: str, review: str | None = None) -> RunRecord:
        """Decide a question about one call of a run, in the name of `by`, and let the run go on in the background.

        `review` is the id of the `ReviewRecord`, or the beginning of it; it may be left out while exactly one question
        about a call is open. Raises `NotFound`, `RunClosed`, `NotWaiting`, `IllegalEvent` (the question takes other
        decisions), `InvalidPayload` (arguments or result do not fit the tool), `AlreadyDecided`, `DecisionLate`,
        `Superseded` or `VersionMismatch`; nothing was written then.
        """
        raw = raw_id(run_id)
        definition = await self._definition_of(await self._store.run(raw))
        await verdict.record(self._store, self._clock, definition, raw, decision, by, review, self._bring)
        if self.settings.take != "none":
            self._worker.look_after(raw)
        self._worker.signal(raw)
        return await self._store.run(raw)

    async def resume(self, run_id: str, *, force: bool = False) -> RunRecord:
        """Continue a run from its last durable point.

        Takes over a lease that has expired or whose process on this machine is gone; `force` takes over any (the old
        holder is fenced). A run that waits for a person stays as it is. Raises `RunClosed`, `RunHeld`, `VersionMismatch`.
        """
        run = await self._store.run(raw_id(run_id))
        if run.status.closed:
            raise RunClosed(f"run {run.id} is {run.status} in {run.state}; there is nothing to resume")
        await self._definition_of(run)
        if settled(run, self._clock.now()):
            return run
        takeover = run.owner is not None and (force or owner.gone(run.owner))
        await self._worker.claim(raw_id(run.id), epoch=run.epoch if takeover else None)
        return await self._store.run(raw_id(run_id))

    async def cancel(self, run_id: str, *, by: str, reason: str) -> RunRecord:
        """End a run by request. Its holder's next write is refused, wherever it is. Raises `RunClosed`, `NotFound`."""
        raw = raw_id(run_id)
        await self._store.submit(port.Cancel(raw, self._clock.now(), by, reason))
        self._worker.forget(raw)
        await self._worker.ended(raw)
        trace.emit("run.cancelled", {"run_id": run_id, "by": by})
        return await self._store.run(raw)

    async def drain(self, grace: timedelta = timedelta(seconds=10)) -> None:
        """Take no more runs, let calls under way finish within `grace`, and hand back what is in hand for others.

        No new call begins, and each run is handed back at its next point in the journal; what is left after `grace` is
        cut off. The runtime then only looks and records, until it is closed.
        """
        await self._worker.drain(grace)

    async def idle(self) -> None:
        """Return when this runtime holds no run and nothing that it may take is due. What waits for people or for a later
        time stays as it is."""
        await self._worker.idle()

    async def redeliver(self, alert: str) -> int:
        """Deliver an alert again, by its id, to every channel it was for. Answers how many those are. Raises `NotFound`."""
        return cast(int, await self._store.submit(Redeliver(raw_id(alert), self._clock.now())))

    async def enable(self, channel: str) -> None:
        """Tell a channel again that was disabled because its receiver answered 410; nothing if it was not."""
        await self._store.submit(Enable(channel, self._clock.now()))


def _by_name(machines: Sequence[Machine[Any]]) -> dict[str, Definition]:
    """The definitions by name, with those of all machines that they run as children."""
    found: dict[str, Definition] = {}
    waiting = [machine.definition for machine in machines]
    while waiting:
        definition = waiting.pop(0)
        other = found.get(definition.name)
        if other is None:
            found[definition.name] = definition
            waiting += [machine.definition for machine in machines_of(definition)]
        elif other.fingerprint != definition.fingerprint:
            raise ConfigError(
                f"two different machines are called {definition.name!r}; one runtime takes one definition of a name"
            )
    return found
