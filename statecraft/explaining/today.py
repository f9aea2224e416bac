"""What the code at hand adds to the record: what its guards answer today."""

from __future__ import annotations

import json
from collections.abc import Mapping

from statecraft.engine.history import REWRITTEN
from statecraft.errors import StatecraftError
from statecraft.explaining.facts import AskedGuard
from statecraft.machine.definition import Definition
from statecraft.records import Json, TransitionRecord


def asked(move: TransitionRecord, data: Mapping[str, Json], definition: Definition | None) -> tuple[AskedGuard, ...]:
    """The guards that were asked for a move from this data, with what the definition at hand answers."""
    today = _answers(move, data, definition) if definition is not None and move.guards else {}
    return tuple(AskedGuard(name, answer, today.get((name, index))) for index, (name, answer) in enumerate(move.guards))


def _answers(move: TransitionRecord, data: Mapping[str, Json], definition: Definition) -> dict[tuple[str, int], bool]:
    """By name and place; empty if the definition cannot read what was recorded."""
    if move.event in REWRITTEN or move.source not in definition.states or move.event not in definition.events:
        return {}
    try:
        event = definition.event(move.event, json.dumps(dict(move.payload)))
        before = definition.data_type.model_validate_json(json.dumps(dict(data)))
    except (StatecraftError, ValueError):
        return {}
    decided = definition.decide(move.source, event, before)
    return {(name, index): answer for index, (name, answer) in enumerate(decided.guards)}
