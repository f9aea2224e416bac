"""The definition as canonical JSON, and the hash that says whether two definitions move runs the same way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from statecraft.machine.data import appended
from statecraft.machine.event import SYSTEM_EVENTS, Event, event_name
from statecraft.machine.table import Declaration, DeclaredState, is_operators
from statecraft.records import Json

_FORMAT: Final = 1
"""Raised when the meaning of a specification changes, so that old and new ones never look equal."""
_PROSE: Final = frozenset({"title", "description", "examples"})
_NAMED: Final = frozenset({"properties", "$defs", "patternProperties"})


def specification(declaration: Declaration) -> dict[str, Json]:
    """All of a definition but its code: states, rows, bounds, and the schemas of its data and its own events.

    System events belong to the library, so their schemas are left out. Raises pydantic's error if a type has no schema.
    """
    start = next(state.name for state in declaration.states if state.start)
    budget = declaration.budget
    return {
        "name": declaration.name,
        "version": declaration.version,
        "start": start,
        "max_steps": declaration.max_steps,
        "deadline_s": None if declaration.deadline is None else declaration.deadline.total_seconds(),
        "budget": None if budget is None else budget.described(),
        "states": [_state(state) for state in declaration.states],
        "rows": [
            {
                "source": row.source,
                "event": event_name(row.event),
                "target": row.target,
                "guard": row.guard_name,
                **({"by": "operator"} if is_operators(row.event) else {}),
            }
            for row in declaration.rows
        ],
        "data": declaration.data.model_json_schema(),
        "append": list(appended(declaration.data)),
        "events": {
            event_name(event): event.model_json_schema() for event in declaration.own_events if event not in SYSTEM_EVENTS
        },
        **({"wider": wider} if (wider := _wider(declaration)) else {}),
    }


def canonical(value: Json) -> str:
    """The one way to write a JSON value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(spec: Mapping[str, Json], edges: Sequence[tuple[str, str, str]]) -> str:
    """Hex SHA-256 of a specification and the moves that follow from it.

    Texts for people (docstrings, titles, descriptions) do not count: rewording one must not strand the runs in flight.
    """
    counted = {
        **{key: value for key, value in spec.items() if key != "append" or value},
        "format": _FORMAT,
        "edges": [list(edge) for edge in edges],
        "states": [{key: value for key, value in state.items() if key != "doc"} for state in spec["states"]],
        "data": without_prose(spec["data"]),
        "events": {name: without_prose(schema) for name, schema in spec["events"].items()},
    }
    counted.pop("wider", None)  # It only explains: the edges say what follows from it.
    return hashlib.sha256(canonical(counted).encode()).hexdigest()


def _wider(declaration: Declaration) -> dict[str, Json]:
    """The wider classes by which rows take the machine's own events, most specific first."""
    named = {row.event for row in declaration.rows}
    found: dict[str, Json] = {}
    for event in declaration.own_events:
        wider = [event_name(cls) for cls in event.__mro__[1:] if issubclass(cls, Event) and cls in named]
        if wider and event not in SYSTEM_EVENTS:
            found[event_name(event)] = wider
    return found


def _state(state: DeclaredState) -> dict[str, Json]:
    found: dict[str, Json] = {
        "name": state.name,
        "kind": state.kind,
        "ok": state.ok,
        "max_visits": state.max_visits,
        "timeout_s": None if state.timeout is None else state.timeout.total_seconds(),
        "events": [event_name(event) for event in state.events],
        "tools": [tool.name for tool in state.tools],
        **({"children": [machine.name for machine in state.children]} if state.children else {}),
        "doc": state.doc,
    }
    if (cap := state.per_visit) is not None:  # Only where it is given, so that the fingerprints of older machines stay.
        found["per_visit"] = {unit: limit for unit, limit in cap.described().items() if unit in cap.limits}
    return found if state.budget is None else {**found, "budget": state.budget.described()}


def without_prose(schema: Any) -> Json:
    """A JSON schema without its texts. Keys under `properties` and `$defs` are names and stay, whatever they are."""
    if isinstance(schema, list):
        return [without_prose(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Json] = {}
    for key, value in schema.items():
        if key in _NAMED:
            kept[key] = {name: without_prose(item) for name, item in value.items()}
        elif key in {"default", "const", "enum"}:
            kept[key] = value
        elif key not in _PROSE:
            kept[key] = without_prose(value)
    return kept
