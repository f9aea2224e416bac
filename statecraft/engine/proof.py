"""Working a run out again from its payloads: where each move led, what its guards answered, the data it ended with. Pure.

For runs whose hashes hold: what differs here was written wrong, or by other code under the same fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from statecraft.engine.history import MIGRATED, begun
from statecraft.engine.jsonable import stored
from statecraft.engine.step import OF_THE_RUN
from statecraft.machine.data import Data
from statecraft.machine.definition import START_EVENT, Definition, Move
from statecraft.machine.event import Rewritten, event_name
from statecraft.records import RunRecord, TransitionRecord
from statecraft.store import port

_BOUNDS = frozenset(event_name(event) for event in OF_THE_RUN)


def prove(definition: Definition, run: RunRecord, history: Sequence[TransitionRecord], loaded: port.Loaded) -> list[str]:
    """What the definition that wrote the run works out otherwise, the first row that differs first."""
    since = max((move.seq for move in history if move.event == MIGRATED), default=0)
    return [*_moves(definition, history, since, loaded.snapshot), *_head(definition, run, history, since)]


def _moves(
    definition: Definition, history: Sequence[TransitionRecord], since: int, snapshot: tuple[int, str] | None
) -> Iterator[str]:
    """Every move that this definition made: what came before a migration is another one's."""
    index, whole = begun(history[: since + 1])
    try:
        data: Data = definition.data_type.model_validate_json(json.dumps(whole))
    except ValueError as error:
        yield f"transition {index}: its data is no {definition.data_type.__name__}: {_line(error)}"
        return
    if since == 0 and (history[0].event, history[0].target) != (START_EVENT, definition.start):
        yield f"transition 0: begins in {history[0].target}, but {definition.name} starts in {definition.start}"
    for move in history[since:]:
        if move.seq > since:
            try:
                event = definition.event(move.event, json.dumps(dict(move.payload)))
                if not isinstance(event, Rewritten):
                    yield from _decided(move, definition.decide(move.source, event, data))
                data = definition.fold(data, event)
            except Exception as error:  # noqa: BLE001 - a validator may raise anything
                yield f"transition {move.seq}: its payload does not fold: {type(error).__name__}: {_line(error)}"
                return
        if snapshot is not None and snapshot[0] == move.seq and json.loads(snapshot[1]) != json.loads(stored(data)):
            yield f"snapshot of step {move.seq}: differs from the data that the payloads fold to"


def _decided(move: TransitionRecord, decided: object) -> Iterator[str]:
    where = f"transition {move.seq}"
    if not isinstance(decided, Move):
        yield f"{where}: {move.event} leads nowhere from {move.source}, but it is recorded to {move.target}"
    elif decided.target != move.target:
        yield f"{where}: {move.event} leads to {decided.target}, but it is recorded to {move.target}"
    elif decided.guards != move.guards:
        yield f"{where}: its guards answer {_said(decided.guards)}, but {_said(move.guards)} is recorded"


def _said(guards: Sequence[tuple[str, bool]]) -> str:
    return ", ".join(f"{name} {'yes' if answer else 'no'}" for name, answer in guards) or "nothing"


def _head(definition: Definition, run: RunRecord, history: Sequence[TransitionRecord], since: int) -> Iterator[str]:
    """Whether the run gives less than was asked for; from a migration on, since names may have changed before."""
    led = [move for move in history if move.event in _BOUNDS]
    less = any(_less(definition, move) for move in led if move.seq >= since)
    if less and not run.degraded:
        yield f"head: is not degraded, but step {led[0].seq} was made by {led[0].event}"
    if run.degraded and not led:
        yield "head: is degraded, but no bound of the whole run led it anywhere"


def _less(definition: Definition, move: TransitionRecord) -> bool:
    target = definition.states[move.target]
    return target.ok or target.kind != "final"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
