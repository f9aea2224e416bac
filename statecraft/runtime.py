"""The one object a user builds: it holds the store, the machines, the model and the runs in hand. No globals."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from statecraft import trace
from statecraft.calls import stack
from statecraft.calls.visit import Visit
from statecraft.clock import Clock, SystemClock, micros, stamp
from statecraft.engine import decide as decisions
from statecraft.engine import owner
from statecraft.engine.fit import kept
from statecraft.engine.held import fresh
from statecraft.engine.services import Services
from statecraft.engine.settings import Settings
from statecraft.engine.step import Engine, first, machine_spec
from statecraft.engine.versions import difference
from statecraft.errors import (
    ConfigError,
    InvalidPayload,
    KeyConflict,
    NotFound,
    RunClosed,
    RunHeld,
    VersionMismatch,
    WaitTimeout,
)
from statecraft.ids import Ids, RandomIds
from statecraft.llm.port import LLM
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition
from statecraft.machine.event import Event
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    FeedEntry,
    ReviewRecord,
    RunFilter,
    RunRecord,
    Status,
    TransitionRecord,
    Waiting,
)
from statecraft.replay import Replay, replay
from statecraft.store import open_store, port
from statecraft.worker.worker import ANY, Worker

D = TypeVar("D", bound=Data)

DEFAULT_URL = "sqlite:///statecraft.db"
"""The database used when neither an argument nor STATECRAFT_URL names one."""


def settled(run: RunRecord) -> bool:
    """Whether a run has ended or waits for a person, so that waiting for it longer is pointless."""
    return run.status.closed or (run.status is Status.WAITING and run.waiting_for is Waiting.REVIEW)


class Runtime:
    """Starts, resumes, replays and lists runs, and advances those it holds.

    `url` names the database (default: STATECRAFT_URL, else `sqlite:///statecraft.db`); `machines` are the definitions
    it may run; `llm` answers `run.llm`. Clock, ids and store may be passed in, for tests. Use it as an async context
    manager; two runtimes share nothing.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        machines: Sequence[Machine[Any]] = (),
        llm: LLM | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        store: port.Store | None = None,
    ) -> None:
        self.url = url or os.environ.get("STATECRAFT_URL") or DEFAULT_URL
        self.settings = settings or Settings()
        self.llm = llm
        self._clock: Clock = clock or SystemClock()
        self._ids: Ids = ids or RandomIds()
        self._store = store or open_store(self.url)
        self._definitions = _by_name(machines)
        self._numbers: dict[str, int] = {}
        call_stack = stack.build(self.settings.retry, self._ids.uniform)
        self._services = Services(call_stack, self._ids, llm, self.settings)
        self._engine = Engine(self._store, self._clock, self._services)
        self._running: dict[int, Definition] = {}
        self._worker = Worker(self._engine, owner.this_process(self._ids.trace_id()[:8]), self._running)

    # --- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._store.open()
        try:
            for definition in self._definitions.values():
                await self._register(definition)
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
            await self._store.close()
            if self.llm is not None:
                await self.llm.close()

    async def _register(self, definition: Definition) -> int:
        known = self._numbers.get(definition.fingerprint)
        if known is None:
            known = await self._store.register(machine_spec(definition))
            self._numbers[definition.fingerprint] = known
            self._running[known] = definition
        return known

    async def _rescue(self) -> None:
        """Take over the runs of our machines whose holder was a process of this machine that is gone."""
        for run in await self._store.runs(RunFilter(status=Status.RUNNING, limit=10_000)):
            if run.fingerprint in self._numbers and self._worker.free > 0:
                await self._take_over(run)

    async def _take_over(self, run: RunRecord) -> None:
        if run.owner and owner.gone(run.owner):
            with contextlib.suppress(RunHeld, RunClosed):  # Another process was faster.
                await self._worker.claim(_raw(run.id), epoch=run.epoch)

    # --- acting ------------------------------------------------------------------------------------------------------

    async def start(self, machine: Machine[D], data: D, *, key: str | None = None, detach: bool = False) -> RunRecord:
        """Record a new run and advance it in the background; `detach` only records it, for whoever looks for due runs.

        With a `key`, starting again answers the run that owns it. Raises `InvalidPayload` if `data` is not of the
        machine's data type, `KeyConflict` if the key's run has another machine or input.
        """
        definition = machine.definition
        if type(data) is not definition.data_type:
            raise InvalidPayload(f"{definition.name} is started with {definition.data_type.__name__}, not {type(data).__name__}")
        payload = kept(data)
        number = await self._register(definition)
        now = self._clock.now()
        drive = not detach and self.settings.take != "none"
        hold = drive and self._worker.free > 0
        row = first(definition, number, self._ids.run_id(now), now, payload, int(hold))
        head = (
            port.Head(Status.RUNNING, self._worker.owner, self._worker.lease_until)
            if hold
            else port.Head(Status.READY, due_at=now)
        )
        deadline = None if definition.deadline is None else now + micros(definition.deadline)
        begun = port.Start(row, head, key, deadline, self._ids.trace_id())
        with self._worker.room_for(row.run_id) if hold else contextlib.nullcontext():
            run_id = cast(bytes, await self._store.submit(begun))
            if run_id != row.run_id:
                return await self._existing(run_id, definition, payload, str(key), drive)
            if hold:
                self._worker.drive(fresh(definition, begun, Visit(self._store, self._clock, row.run_id, 0, row.epoch)))
        trace.emit("run.started", {"run_id": run_id.hex(), "machine_name": definition.name})
        if drive and not hold:
            self._worker.look_after(run_id)
        return await self._store.run(run_id)

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
        raw = _raw(run_id)
        limit = self._clock.timeout(None if timeout is None else timeout.total_seconds())
        try:
            async with limit:
                while True:
                    changed = self._worker.changing(raw)
                    run = await self._store.run(raw)
                    if settled(run):
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
        raw = _raw(run_id)
        definition = await self._definition_of(await self._store.run(raw))
        status = await decisions.decide(self._store, self._clock, definition, raw, event, by)
        if status is Status.READY and self.settings.take != "none":
            self._worker.look_after(raw)
        self._worker.signal(raw)
        return await self._store.run(raw)

    async def resume(self, run_id: str, *, force: bool = False) -> RunRecord:
        """Continue a run from its last durable point.

        Takes over a lease that has expired or whose process on this machine is gone; `force` takes over any (the old
        holder is fenced). A run that waits for a person stays as it is. Raises `RunClosed`, `RunHeld`, `VersionMismatch`.
        """
        run = await self._store.run(_raw(run_id))
        if run.status.closed:
            raise RunClosed(f"run {run.id} is {run.status} in {run.state}; there is nothing to resume")
        await self._definition_of(run)
        expired = run.due_at is not None and self._clock.now() >= stamp(run.due_at)
        if settled(run) and not expired:
            return run
        takeover = run.owner is not None and (force or owner.gone(run.owner))
        await self._worker.claim(_raw(run.id), epoch=run.epoch if takeover else None)
        return await self._store.run(_raw(run_id))

    async def cancel(self, run_id: str, *, by: str, reason: str) -> RunRecord:
        """End a run by request. Its holder's next write is refused, wherever it is. Raises `RunClosed`, `NotFound`."""
        raw = _raw(run_id)
        await self._store.submit(port.Cancel(raw, self._clock.now(), by, reason))
        self._worker.forget(raw)
        trace.emit("run.cancelled", {"run_id": run_id, "by": by})
        return await self._store.run(raw)

    async def replay(self, run_id: str, machine: Machine[Any] | None = None) -> Replay:
        """Run the handlers again against the record; nothing leaves the process. See `statecraft.replay`."""
        run = await self._store.run(_raw(run_id))
        definition = machine.definition if machine is not None else self._named(run.machine)
        return await replay(self._store, self._clock, definition, self._services, _raw(run_id))

    # --- looking -----------------------------------------------------------------------------------------------------

    async def get(self, run_id: str) -> RunRecord:
        """The run's head. Raises `NotFound`."""
        return await self._store.run(_raw(run_id))

    async def find(self, text: str) -> RunRecord:
        """The run whose id begins with `text`, or the newest one for `@last`. Raises `NotFound` if none or several do."""
        found = await self._store.find(text)
        if len(found) == 1:
            return await self.get(found[0])
        if not found:
            raise NotFound(f"no run {text!r} in {self.url}; list them with `statecraft runs`")
        raise NotFound(f"{text!r} fits several runs: {', '.join(found)}; give more digits")

    async def runs(self, which: RunFilter | None = None) -> list[RunRecord]:
        """Runs, newest first."""
        return await self._store.runs(which or RunFilter())

    async def history(self, run_id: str) -> list[TransitionRecord]:
        """The run's journal of moves, the start included."""
        return await self._store.history(_raw(run_id))

    async def calls(self, run_id: str, seq: int | None = None) -> list[CallRecord]:
        """Finished calls of the run, or of one visit."""
        return await self._store.calls(_raw(run_id), seq)

    async def attempts(self, run_id: str, seq: int | None = None) -> list[AttemptRecord]:
        """Failed attempts and intents of the run's calls."""
        return await self._store.attempts(_raw(run_id), seq)

    async def reviews(self, run_id: str | None = None, *, open_only: bool = False) -> list[ReviewRecord]:
        """Questions to people, of one run or of all."""
        return await self._store.reviews(None if run_id is None else _raw(run_id), open_only=open_only)

    async def data(self, run_id: str, *, at: int | None = None) -> Data:
        """The run's data after transition `at` (default: the last one), by folding its history."""
        raw = _raw(run_id)
        definition = await self._definition_of(await self._store.run(raw))
        history = await self._store.history(raw)
        if at is not None and not 0 <= at < len(history):
            raise NotFound(f"run {run_id} has steps 0 to {len(history) - 1}, not {at}")
        data: Data = definition.data_type.model_validate_json(json.dumps(dict(history[0].payload)))
        for move in history[1 : None if at is None else at + 1]:
            data = definition.fold(data, definition.event(move.event, json.dumps(dict(move.payload))))
        return data

    async def diagnosis(self, run_id: str) -> str | None:
        """Why the run is dead and what it would need, as JSON; None if it is not."""
        return await self._store.diagnosis(_raw(run_id))

    async def verify(self, run_id: str) -> list[str]:
        """What is wrong with the stored history; empty if the chain of hashes holds."""
        return await self._store.verify(_raw(run_id))

    async def spec(self, run_id: str) -> str:
        """The definition that started the run, as canonical JSON."""
        return (await self._store.spec((await self._store.run(_raw(run_id))).fingerprint)).spec

    def definition(self, name: str) -> Definition:
        """The definition of a machine this runtime was given. Raises `NotFound`."""
        return self._named(name)

    async def feed(self, run_id: str | None = None, *, after: int = 0, limit: int = 500) -> list[FeedEntry]:
        """Up to `limit` entries of the feed behind position `after`, in order, as they are now."""
        return await self._store.feed(after, None if run_id is None else _raw(run_id), limit)

    async def follow(self, run_id: str | None = None, *, after: int = 0) -> AsyncIterator[FeedEntry]:
        """Entries of the feed in order, as they become true; `after` resumes behind a position.

        For one run it ends when the run has ended or waits for a person; for all runs it never ends.
        """
        raw = None if run_id is None else _raw(run_id)
        while True:
            changed = self._worker.changing(raw or ANY)
            # Looked at before the feed is read: what made it settled is then in the feed already.
            over = raw is not None and settled(await self._store.run(raw))
            entries = await self._store.feed(after, raw)
            for entry in entries:
                after = entry.pos
                yield entry
            if over and not entries:
                return
            if not entries:
                await self._worker.until(changed)

    # --- machines ----------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Definition:
        found = self._definitions.get(name) or next((d for d in self._running.values() if d.name == name), None)
        if found is None:
            known = ", ".join(self._definitions) or "none"
            raise NotFound(f"this runtime has no machine {name!r} (it has: {known}); pass it in machines=[...]")
        return found

    async def _definition_of(self, run: RunRecord) -> Definition:
        number = self._numbers.get(run.fingerprint)
        if number is not None:
            return self._running[number]
        ours = self._named(run.machine)
        theirs = await self._store.spec(run.fingerprint)
        raise VersionMismatch(
            f"run {run.id} was started by {run.machine} version {run.version}, which differs from the one at hand "
            f"(version {ours.version}): {difference(theirs.spec, ours.spec)}. Run it with the code that started it"
        )


def _by_name(machines: Sequence[Machine[Any]]) -> dict[str, Definition]:
    found: dict[str, Definition] = {}
    for machine in machines:
        definition = machine.definition
        other = found.setdefault(definition.name, definition)
        if other.fingerprint != definition.fingerprint:
            raise ConfigError(
                f"two different machines are called {definition.name!r}; one runtime takes one definition of a name"
            )
    return found


def _raw(run_id: str) -> bytes:
    try:
        raw = bytes.fromhex(run_id)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise NotFound(f"{run_id!r} is not a run id (32 hex digits); `find` takes prefixes and @last")
    return raw
