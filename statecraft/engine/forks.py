"""Making a fork: the step looked at, the changes checked, and the one write that does it put together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statecraft.calls.classify import said
from statecraft.clock import Clock, micros
from statecraft.engine.begin import check_key, check_name
from statecraft.engine.fit import kept
from statecraft.engine.held import SNAPSHOT_FLOOR
from statecraft.engine.history import begun, folded
from statecraft.engine.jsonable import stored
from statecraft.engine.step import OF_THE_RUN, SNAPSHOT_FACTOR
from statecraft.errors import InvalidPayload, KeyConflict, NotFound, RunClosed
from statecraft.ids import Ids
from statecraft.machine.data import Data
from statecraft.machine.definition import Definition
from statecraft.machine.event import Forked, event_name
from statecraft.records import Json, RunRecord, TransitionRecord
from statecraft.store import port

_BOUNDS = frozenset(event_name(event) for event in OF_THE_RUN)

Changes = Data | Mapping[str, Json] | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of a fork."""

    at: int
    data: Changes = None
    """The whole data, or the fields that change; None: nothing changes."""
    key: str | None = None
    by: str = ""
    note: str = ""


def check(run: RunRecord, history: Sequence[TransitionRecord], at: int) -> None:
    """Whether the run has that step. Raises `NotFound`."""
    if not history or history[0].seq != 0:
        raise NotFound(f"the history of run {run.id} was pruned; there is nothing left to fork")
    if not 0 <= at < len(history):
        raise NotFound(f"run {run.id} has steps 0 to {len(history) - 1}, not {at}")


def prepare(
    clock: Clock, ids: Ids, definition: Definition, history: Sequence[TransitionRecord], wish: Wish, share: float
) -> port.Fork:
    """The write that makes the fork. Raises `RunClosed` (the step is an end), `InvalidPayload` (the data does not fit) or
    `ConfigError` (a bad key)."""
    check_key(wish.key)
    check_name("key", wish.key)
    moves = history[: wish.at + 1]
    last, now = moves[-1], clock.now()
    state = definition.states[last.target]
    if state.kind == "final":
        raise RunClosed(
            f"run {last.run_id} had ended in {last.target} at step {wish.at}, and nothing follows an end; "
            f"fork it at an earlier step (0 to {wish.at - 1})"
        )
    data = None if wish.data is None else _changed(definition, moves, wish.data)
    payload = None if data is None else _payload(last, data, wish)
    return port.Fork(
        source=bytes.fromhex(last.run_id),
        step=wish.at,
        run_id=ids.run_id(now),
        at=now,
        by=wish.by,
        note=wish.note,
        key=wish.key,
        deadline_at=None if definition.deadline is None else now + micros(definition.deadline),
        trace_id=ids.trace_id(),
        max_steps=definition.max_steps,
        degraded=any(move.event in _BOUNDS for move in moves),
        data=payload,
        snapshot=_snapshot(definition, moves, data),
        share=share,
    )


def _payload(last: TransitionRecord, data: Data, wish: Wish) -> str:
    return stored(Forked(data=json.loads(kept(data)), run=last.run_id, step=last.seq, by=wish.by, note=wish.note))


def _changed(definition: Definition, moves: Sequence[TransitionRecord], data: Data | Mapping[str, Json]) -> Data:
    """The data that the fork begins with."""
    kind = definition.data_type
    if isinstance(data, Data):
        if type(data) is not kind:
            raise InvalidPayload(f"a run of {definition.name} has {kind.__name__} data, not {type(data).__name__}")
        return data
    before: dict[str, Any] = json.loads(stored(folded(definition, moves)))
    try:
        found: Data = kind.model_validate_json(json.dumps({**before, **_jsonable(data)}))
    except (ValueError, TypeError) as error:
        raise InvalidPayload(f"the changed data is no {kind.__name__}: {said(error)}") from error
    return found


def _jsonable(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values of fields, which may be models."""
    return {name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for name, value in changes.items()}


def _snapshot(definition: Definition, moves: Sequence[TransitionRecord], data: Data | None) -> str | None:
    """The data the fork begins with, if that is worth a snapshot: it cannot be folded from the start by this definition, or
    folding it costs more."""
    index, _ = begun(moves)
    size = sum(len(json.dumps(dict(move.payload))) for move in moves[index + 1 :])
    if data is None and index == 0 and size < SNAPSHOT_FLOOR:
        return None
    text = stored(folded(definition, moves) if data is None else data)
    return text if index > 0 or size >= SNAPSHOT_FACTOR * len(text) else None


def same(fork: RunRecord, history: Sequence[TransitionRecord], write: port.Fork) -> None:
    """Whether the run that owns the key is the fork that was wanted. Raises `KeyConflict`."""
    payload = None if write.data is None else json.loads(write.data)
    mine = (fork.forked_from, fork.forked_step) == (write.source.hex(), write.step)
    move = history[write.step + 1] if mine and len(history) > write.step + 1 else None
    made = None if move is None or move.event != event_name(Forked) else move.payload.get("data")
    if not mine or made != (None if payload is None else payload["data"]):
        raise KeyConflict(
            f"key {write.key!r} belongs to run {fork.id}, which is not this fork of run {write.source.hex()}: use another"
        )
