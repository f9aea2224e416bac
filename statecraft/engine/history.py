"""A run as it was after any of its steps: folded from the history, as far as the code at hand can read it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statecraft.machine.data import Data
from statecraft.machine.definition import Definition
from statecraft.machine.event import REWRITES, Forked, Migrated, event_name
from statecraft.records import CallRecord, Json, RunRecord, TransitionRecord, Usage

FORKED, MIGRATED = event_name(Forked), event_name(Migrated)
REWRITTEN = frozenset(map(event_name, REWRITES))
"""Events of moves that put other data in place; neither begins a visit."""


@dataclass(frozen=True, slots=True)
class Past:
    """A run as it was right after one of its steps."""

    run_id: str
    step: int
    state: str
    """Where it stood."""
    move: TransitionRecord
    """The move that led there."""
    data: Data | None
    """The folded data; None if the code at hand cannot fold it, which `problem` tells."""
    raw: Json
    """The data as JSON. Where it cannot be folded: `data`, the last whole data that was written, and `since`, the moves
    after it with their payloads."""
    problem: str
    """Why the data is not, or perhaps not, what the run had; empty if it is."""
    visits: Mapping[str, int]
    """How often each state had been entered, this time included."""
    calls: int
    """Calls of the visits that had ended."""
    usage: Usage
    """Their tokens."""
    cost: int
    """What they cost as far as prices are known, in billionths of a dollar."""


def begun(moves: Sequence[TransitionRecord]) -> tuple[int, Json]:
    """(index, data as JSON) of the last of these moves that put the whole data in place: the start is one."""
    for index in range(len(moves) - 1, 0, -1):
        if moves[index].event in REWRITTEN and moves[index].payload.get("data") is not None:
            return index, moves[index].payload["data"]
    return 0, dict(moves[0].payload)


def folded(definition: Definition, moves: Sequence[TransitionRecord]) -> Data:
    """The data after these moves, which begin with the start. Raises what `Definition.event` and `Definition.fold` raise,
    and pydantic's `ValidationError` for data that is not of the type any more."""
    index, whole = begun(moves)
    data: Data = definition.data_type.model_validate_json(json.dumps(whole))
    for move in moves[index + 1 :]:
        data = definition.fold(data, definition.event(move.event, json.dumps(dict(move.payload))))
    return data


def unfolded(moves: Sequence[TransitionRecord]) -> dict[str, Json]:
    """What there is to read where nothing can be folded."""
    index, whole = begun(moves)
    since = [{"step": move.seq, "event": move.event, "payload": dict(move.payload)} for move in moves[index + 1 :]]
    return {"data": whole, "since": since}


def fingerprint_at(run: RunRecord, history: Sequence[TransitionRecord], step: int) -> str:
    """The definition under which the run stood after a step: a later migration says which one it came from."""
    later = (move for move in history[step + 1 :] if move.event == MIGRATED)
    migrated = next(later, None)
    return run.fingerprint if migrated is None else str(migrated.payload.get("fingerprint") or run.fingerprint)


def visits_of(moves: Sequence[TransitionRecord]) -> dict[str, int]:
    """How often each state was entered. A migration says how that counts in its definition; neither it nor a fork enters one."""
    visits: dict[str, int] = {}
    for move in moves:
        if move.event == MIGRATED and move.payload.get("visits"):
            visits = {str(state): int(times) for state, times in move.payload["visits"].items()}
        elif move.event not in REWRITTEN:
            visits[move.target] = visits.get(move.target, 0) + 1
    return visits


def spent(calls: Sequence[CallRecord], before: int) -> tuple[int, Usage, int]:
    """(calls, tokens, cost) of the visits before one."""
    made = [call for call in calls if call.seq < before]
    return len(made), sum((call.usage for call in made), Usage()), sum(call.cost or 0 for call in made)


def past(definition: Definition | None, why_not: str, moves: Sequence[TransitionRecord], calls: Sequence[CallRecord]) -> Past:
    """The run after the last of these moves. `definition` is the code to fold with, None if there is none; `why_not` says
    what speaks against it."""
    data, problem = None, why_not
    if definition is not None:
        try:
            data = folded(definition, moves)
        except Exception as error:  # noqa: BLE001 - what another definition wrote may fail in any way
            said = " ".join(str(error).split())
            problem = f"{why_not or 'its rows do not fit this code'}: {type(error).__name__}: {said}"
    last = moves[-1]
    made, usage, cost = spent(calls, last.seq)
    return Past(
        run_id=last.run_id,
        step=last.seq,
        state=last.target,
        move=last,
        data=data,
        raw=unfolded(moves) if data is None else data.model_dump(mode="json"),
        problem=problem,
        visits=visits_of(moves),
        calls=made,
        usage=usage,
        cost=cost,
    )
