"""A run in the hands of this process: what a worker keeps in memory between two commits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from statecraft.calls.visit import Recorded, Visit
from statecraft.clock import stamp
from statecraft.machine.data import Data
from statecraft.machine.definition import Definition
from statecraft.machine.event import Migrated, event_name
from statecraft.records import CallRecord, Draw, Usage
from statecraft.store import port

MIGRATED = event_name(Migrated)

SNAPSHOT_FLOOR = 64 * 1024
"""Bytes of payload that are always cheap enough to fold again."""


@dataclass(slots=True)
class Lap:
    """A move that later ones are compared with, to notice a run that goes round in circles (`engine.loop`)."""

    data: Any
    payload: str
    recorded: Mapping[tuple[bytes, int], Recorded]
    """The calls of its visit."""
    made: list[int]
    """When it and the same moves after it were made: the numbers of their visits."""


@dataclass(slots=True)
class Held:
    """A claimed run. Everything here can be rebuilt from the store; only the lease makes it ours."""

    definition: Definition
    machine: int
    run_id: bytes
    epoch: int
    seq: int
    state: str
    data: Any
    """The folded data: an instance of the definition's data type."""
    visits: dict[str, int]
    """Entries per state, the current one included."""
    events: set[str]
    """Names of the events that ever moved this run."""
    entered_at: int
    """When the visit began; a redrive begins it anew."""
    deadline_at: int | None
    hash: bytes
    usage: Usage
    """Tokens of the whole run up to the current visit."""
    visit: Visit
    payload_bytes: int
    """Payload written since the last snapshot."""
    trace_id: str = ""
    tenant: str | None = None
    parent: str | None = None
    """The run it is a child of, 32 hex digits."""
    draws: tuple[Draw, ...] = ()
    """Budgets of others (ancestors) that the run's calls draw on."""
    used: dict[str, int] = field(default_factory=dict)
    """What the run's own meters have been charged, as far as this process knows."""
    began_at: int = 0
    """When the run was started, or when it began if its start was delayed."""
    queue: str = "default"
    priority: int = 0
    warned: bool = False
    """Whether this process has told of a budget warning that has no row."""
    laps: dict[tuple[str, str], Lap] = field(default_factory=dict)
    """One per state and event."""
    attempts: int = 0
    """Claims since the run last got on, as of this one."""
    extra_steps: int = 0
    """Steps that redrives granted beyond the machine's bound."""
    snapshot_from: int = SNAPSHOT_FLOOR
    """How many payload bytes make it worth looking whether to write a snapshot."""

    @property
    def id(self) -> str:
        """The run's id as users see it."""
        return self.run_id.hex()


def fold(definition: Definition, loaded: port.Loaded) -> Data:
    """The run's data: the snapshot, or the input, and every event after it merged in."""
    _, text = loaded.snapshot if loaded.snapshot is not None else (0, loaded.input)
    return folded(definition, text, [(event, payload) for _, event, payload in loaded.tail])


def folded(definition: Definition, begun: str, moves: Sequence[tuple[str, str]]) -> Data:
    """The data after these (event, payload) that began as `begun`. Nothing before the last migration is looked at: it was
    made by another definition."""
    events = [event for event, _ in moves]
    if MIGRATED in events:
        last = len(events) - 1 - events[::-1].index(MIGRATED)
        begun, moves = json.dumps(json.loads(moves[last][1])["data"]), moves[last + 1 :]
    data: Data = definition.data_type.model_validate_json(begun)
    for event, payload in moves:
        data = definition.fold(data, definition.event(event, payload))
    return data


def _own_calls(visit: Visit, loaded: port.Loaded) -> tuple[Sequence[CallRecord], Sequence[bytes]]:
    """The calls of the run's last step, with their hashes. Those of the steps that a migration carried on are remembered,
    but no more: their own step counts what they used, and its hash covers them."""
    if loaded.first is None:
        return loaded.calls, loaded.call_hashes
    visit.carried = loaded.first
    earlier = sum(call.seq < visit.seq for call in loaded.calls)
    for call in loaded.calls[:earlier]:
        visit.remember(call)
    visit.usage = Usage()
    return loaded.calls[earlier:], loaded.call_hashes[earlier:]


def draws_of(text: str | None) -> tuple[Draw, ...]:
    """The draws written down with a run's start."""
    return () if text is None else tuple(Draw(meter, limits) for meter, limits in json.loads(text))


def fresh(definition: Definition, start: port.Start, visit: Visit) -> Held:
    """A run that was just started by us. `visit` is the empty journal of its first visit."""
    row = start.transition
    return Held(
        definition=definition,
        machine=row.machine,
        run_id=row.run_id,
        epoch=row.epoch,
        seq=row.seq,
        state=row.target,
        data=definition.data_type.model_validate_json(row.payload),
        visits={row.target: 1},
        events={row.event},
        entered_at=row.at,
        deadline_at=start.deadline_at,
        hash=row.hash,
        usage=Usage(),
        visit=visit,
        payload_bytes=0,
        trace_id=start.trace_id,
        tenant=start.tenant,
        parent=None if start.parent is None else start.parent.hex(),
        draws=draws_of(start.draws),
        began_at=row.at,
        queue=start.queue,
        priority=start.priority,
    )


def hold(definition: Definition, loaded: port.Loaded, visit: Visit) -> Held:
    """Take a claimed and loaded run into memory. `visit` is a fresh journal for its current visit."""
    run = loaded.run
    calls, hashes = _own_calls(visit, loaded)
    opened = Visit.reopened(visit, calls, hashes, loaded.attempts)
    opened.reviews.extend(loaded.reviews)
    opened.marks = loaded.marks
    before = Usage(loaded.usage.input_tokens - opened.usage.input_tokens, loaded.usage.output_tokens - opened.usage.output_tokens)
    return Held(
        definition=definition,
        machine=loaded.machine,
        run_id=bytes.fromhex(run.id),
        epoch=run.epoch,
        seq=run.seq,
        state=run.state,
        data=fold(definition, loaded),
        visits=dict(loaded.visits),
        events=set(loaded.events),
        entered_at=max(loaded.entered_at, opened.redriven_at, stamp(run.created_at)),  # Or when a delayed start began.
        deadline_at=None if run.deadline_at is None else stamp(run.deadline_at),
        hash=loaded.hash,
        usage=before,
        visit=opened,
        payload_bytes=loaded.payload_bytes,
        trace_id=run.trace_id,
        tenant=run.tenant,
        parent=run.parent,
        draws=draws_of(loaded.draws),
        used=dict(loaded.used),
        began_at=stamp(run.created_at),
        queue=run.queue,
        priority=run.priority,
        attempts=run.attempts,
        extra_steps=loaded.extra_steps,
    )
