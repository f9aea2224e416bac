"""A run of an older definition goes on under the one at hand: looked at as a whole, then written in one move.

The state is renamed and the data rewritten; the visit goes on. What would be lost on the way refuses the migration by name.
Read `prepare` first; the rest are its verbs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from statecraft import trace
from statecraft.calls.classify import said
from statecraft.clock import Clock
from statecraft.engine.jsonable import stored
from statecraft.engine.olddata import old_data
from statecraft.engine.versions import difference
from statecraft.errors import VersionMismatch
from statecraft.machine.data import Data, appended
from statecraft.machine.definition import Definition, StateSpec
from statecraft.machine.event import Migrated, event_name
from statecraft.machine.migration import Migration, route
from statecraft.records import Json, ReviewRecord, RunFilter, RunRecord, Usage
from statecraft.store import chain, port


@dataclass(frozen=True, slots=True)
class Migrating:
    """A migration that nothing speaks against."""

    write: port.Migrate
    loaded: port.Loaded
    """The run as it is once that is written."""


Bring = Callable[[port.Loaded], Awaitable[Migrating]]
"""What would put a run that nobody holds under the definition at hand. Raises `VersionMismatch`."""


def hosts(definition: Definition, fingerprint: str, version: str) -> bool:
    """Whether the definition takes up runs of that one: it is the same, or a migration leads from there."""
    return fingerprint == definition.fingerprint or route(definition.migrations, fingerprint, version) is not None


async def prepare(
    store: port.Store, clock: Clock, definition: Definition, number: int, loaded: port.Loaded, *, held: bool
) -> Migrating:
    """What would put the run under `definition`, which the store knows by `number`. Nothing is written.

    Raises `VersionMismatch`, which says what is in the way.
    """
    run = loaded.run
    old = await store.spec(run.fingerprint)
    spec: dict[str, Json] = json.loads(old.spec)
    taken = route(definition.migrations, run.fingerprint, run.version)
    if taken is None:
        raise mismatch(run, old.spec, definition)
    data = old_data(spec, loaded, appended(definition.data_type))
    led = _Led(run, taken, data)
    target, visits = led.state(run.state), led.counts(loaded.visits)
    new = _hosting(run, spec, definition, target)
    text = stored(_data(run, definition, led.upgraded()))
    events = await _asked(store, run, taken, new)
    _keeps_calls(run, loaded, definition, new)
    await _keeps_children(store, run, spec, definition, new)
    charges = _charges(loaded, definition, led)
    first = run.seq if loaded.first is None else loaded.first
    facts = Migrated(data=json.loads(text), fingerprint=run.fingerprint, visits=visits, first=first, entered_at=loaded.entered_at)
    link = _link(loaded, number, target, clock.now(), stored(facts))
    after = _after(loaded, definition, link, text, facts, charges)
    return Migrating(port.Migrate(link, text, held, events, charges), after)


async def write(store: port.Store, migrating: Migrating) -> None:
    """Make it durable, and report it. Raises `Fenced` if the run moved, or came into other hands, since it was prepared."""
    await store.submit(migrating.write)
    run, link = migrating.loaded.run, migrating.write.transition
    trace.emit("run.migrated", {"run_id": run.id, "machine_name": run.machine, "state": link.source, "target": link.target})


def mismatch(run: RunRecord, spec: str, definition: Definition) -> VersionMismatch:
    """Why a run of that stored definition cannot go on under the one at hand, which declares no migration for it."""
    differs = difference(spec, definition.spec) or "its rows lead elsewhere"
    return VersionMismatch(
        f"run {run.id} was started by {run.machine} version {run.version}, which differs from the one at hand "
        f"(version {definition.version}): {differs}. Run it with the code that started it, or declare "
        f"Migration(since={run.fingerprint[:12]!r}, ...)"
    )


class _Led:
    """What becomes of a run's states and data along its migrations. Raises `VersionMismatch` where their functions fail."""

    def __init__(self, run: RunRecord, taken: Sequence[Migration], data: dict[str, Any]) -> None:
        self._run, self._taken = run, taken
        self._datas: list[dict[str, Any]] = [data]
        self._known: dict[str, str] = {}
        for migration in taken:
            self._datas.append(self._upgrade(migration, self._datas[-1]))

    def upgraded(self) -> dict[str, Any]:
        """The data at the end, as JSON."""
        return self._datas[-1]

    def state(self, name: str) -> str:
        """The state that an old one has become in the end."""
        if name not in self._known:
            state = name
            for migration, data in zip(self._taken, self._datas, strict=False):
                state = self._lead(migration, state, data)
            self._known[name] = state
        return self._known[name]

    def counts(self, visits: Mapping[str, int]) -> dict[str, int]:
        """Visits by the new names: those of states that became one add up."""
        found: dict[str, int] = {}
        for name, count in visits.items():
            state = self.state(name)
            found[state] = found.get(state, 0) + count
        return found

    def _lead(self, migration: Migration, state: str, data: Mapping[str, Any]) -> str:
        try:
            target = migration.lead(state, data)
        except Exception as error:
            raise self._failed(migration, f"the choice for {state} raised {type(error).__name__}: {said(error)}") from error
        if target not in migration.targets(state):
            chosen = " or ".join(migration.targets(state))
            raise self._failed(migration, f"the choice for {state} answered {target!r}; its annotation says {chosen}")
        return target

    def _upgrade(self, migration: Migration, data: dict[str, Any]) -> dict[str, Any]:
        if migration.data is None:
            return data
        try:
            made = migration.data(copy.deepcopy(data))
            found = json.loads(stored(made)) if isinstance(made, Data) else json.loads(json.dumps(dict(made)))
        except Exception as error:
            name = getattr(migration.data, "__name__", "the function")
            raise self._failed(migration, f"{name} raised {type(error).__name__} on its data: {said(error)}") from error
        assert isinstance(found, dict)
        return found

    def _failed(self, migration: Migration, why: str) -> VersionMismatch:
        return VersionMismatch(f"run {self._run.id} in {self._run.state} cannot go on by {migration}: {why}")


def _hosting(run: RunRecord, spec: Mapping[str, Json], definition: Definition, target: str) -> StateSpec:
    """The state that the run goes on in. Raises `VersionMismatch` if it cannot stand there."""
    new, here = definition.states.get(target), f"run {run.id} in {run.state} cannot go on"
    if new is None:
        raise VersionMismatch(f"{here}: {definition.name} version {definition.version} has no state {target}")
    kind = next((str(state["kind"]) for state in spec["states"] if state["name"] == run.state), new.kind)
    if new.kind == "final" or new.kind != kind:
        raise VersionMismatch(f"{here}: {run.state} is a {kind} state, and {target} a {new.kind} state")
    return new


def _data(run: RunRecord, definition: Definition, data: Mapping[str, Any]) -> Data:
    try:
        found: Data = definition.data_type.model_validate_json(json.dumps(data))
    except ValueError as error:
        name = definition.data_type.__name__
        raise VersionMismatch(f"run {run.id} in {run.state} cannot go on: its data is no {name} now: {said(error)}") from error
    return found


async def _asked(store: port.Store, run: RunRecord, taken: Sequence[Migration], new: StateSpec) -> tuple[str, ...] | None:
    """The decisions that the open review takes from now on; None if there is none. Raises `VersionMismatch` if one that the
    person was offered is gone."""
    if new.kind != "review":
        return None
    reviews = await store.reviews(bytes.fromhex(run.id), open_only=True)
    review = next((each for each in reviews if each.kind == "state"), None)
    if review is None:
        return None
    for event in review.events:
        name = event
        for migration in taken:
            name = migration.events.get(name, name)
        if name not in new.events:
            became = event if name == event else f"{event}, now {name}"
            raise VersionMismatch(
                f"run {run.id} waits in {run.state} for a decision, and {new.name} does not take {became} any more; it takes "
                f"{' or '.join(new.events)}. Name what it became in Migration(events=...)"
            )
    return new.events


def _keeps_calls(run: RunRecord, loaded: port.Loaded, definition: Definition, new: StateSpec) -> None:
    """Raise `VersionMismatch` if a tool is gone whose call is asked about, approved or begun, and has no outcome."""
    done = {(call.digest, call.occurrence) for call in loaded.calls}
    began = [(each.name, (each.digest, each.occurrence)) for each in loaded.attempts if each.kind == "begun"]
    asked = [(each.tool, each.call[:2]) for each in loaded.reviews if each.call is not None and _pending(each)]
    for tool, call in (*began, *asked):
        if call not in done and tool not in new.tools:
            raise VersionMismatch(
                f"run {run.id} in {run.state} cannot go on: its call of {tool} was begun or asked about and has no outcome, and "
                f"{new.name} of version {definition.version} has no such tool"
            )


def _pending(review: ReviewRecord) -> bool:
    return review.decision not in {"reject", "give_up"}


async def _keeps_children(
    store: port.Store, run: RunRecord, spec: Mapping[str, Json], definition: Definition, new: StateSpec
) -> None:
    """Raise `VersionMismatch` if the run waits for a child run that its new state does not know."""
    if not any(state.get("children") or state.get("tools") for state in spec["states"] if state["name"] == run.state):
        return
    handler = definition.handlers[new.name]
    tools = (getattr(tool, "machine", None) for tool in handler.tools)
    known = {machine.name for machine in (*handler.children, *tools) if machine is not None}
    for child in await store.runs(RunFilter(parent=run.id, limit=1_000_000)):
        if not child.status.closed and child.machine not in known:
            raise VersionMismatch(
                f"run {run.id} in {run.state} cannot go on: its child run {child.id} of {child.machine} is under way, and "
                f"{new.name} of version {definition.version} runs no such machine"
            )


def _charges(loaded: port.Loaded, definition: Definition, led: _Led) -> tuple[port.Charge, ...]:
    """What states with a budget used under other names. Nothing is ever taken off a meter."""
    prefix = f"state:{loaded.run.id}:"
    due: dict[str, int] = {}
    for meter, used in loaded.used.items():
        if meter.startswith(prefix):
            state, _, unit = meter.removeprefix(prefix).rpartition(":")
            became = definition.states.get(led.state(state))
            if became is not None and became.budget is not None:
                name = f"{prefix}{became.name}:{unit}"
                due[name] = due.get(name, 0) + used
    more = {meter: used - loaded.used.get(meter, 0) for meter, used in due.items()}
    return tuple(port.Charge(meter, amount) for meter, amount in sorted(more.items()) if amount > 0)


def _link(loaded: port.Loaded, machine: int, target: str, now: int, payload: str) -> port.Transition:
    """The journal's row of it: it covers the calls of the visit so far, as the row of any move does."""
    run, event = loaded.run, event_name(Migrated)
    run_id, seq = bytes.fromhex(run.id), run.seq + 1
    hashes = [mark for call, mark in zip(loaded.calls, loaded.call_hashes, strict=True) if call.seq == run.seq]
    usage = sum((call.usage for call in loaded.calls if call.seq == run.seq), Usage())
    place = (machine, run.state, event, target, run.epoch, now)
    link = chain.link(loaded.hash, run_id, seq, *place, payload, "[]", None, hashes, loaded.marks)
    return port.Transition(
        run_id=run_id,
        seq=seq,
        machine=machine,
        source=run.state,
        event=event,
        target=target,
        epoch=run.epoch,
        at=now,
        payload=payload,
        guards="[]",
        actor=None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        calls=len(hashes),
        hash=link,
    )


def _after(
    loaded: port.Loaded,
    definition: Definition,
    link: port.Transition,
    text: str,
    facts: Migrated,
    charges: Sequence[port.Charge],
) -> port.Loaded:
    """What the store answers for the run once the migration is written."""
    used = dict(loaded.used)
    for each in charges:
        used[each.meter] = used.get(each.meter, 0) + each.amount
    run = replace(loaded.run, version=definition.version, fingerprint=definition.fingerprint, state=link.target, seq=link.seq)
    return replace(
        loaded,
        run=run,
        machine=link.machine,
        snapshot=(link.seq, text),
        tail=(),
        visits=dict(facts.visits),
        events=loaded.events | {link.event},
        hash=link.hash,
        marks=(),  # The move has covered them.
        payload_bytes=0,
        snapshot_at=link.seq,
        used=used,
        reviews=tuple(replace(review, state=link.target) for review in loaded.reviews),
        extra_steps=loaded.extra_steps + 1,
        first=facts.first,
    )
