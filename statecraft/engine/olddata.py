"""The data of a run whose definition is gone: folded as JSON, by what the stored definition says about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from statecraft.machine.event import REWRITES, event_name
from statecraft.records import Json
from statecraft.store import port

_REWRITES = frozenset(event_name(event) for event in REWRITES)


def old_data(spec: Mapping[str, Json], loaded: port.Loaded, appended: Sequence[str]) -> dict[str, Any]:
    """The snapshot (or the input), and what every event after it merged in.

    `spec` is the definition as it was stored. Which fields append it says itself; for one that was stored by a release that
    did not write that down, `appended` counts: those of the definition at hand.
    """
    _, text = loaded.snapshot if loaded.snapshot is not None else (0, loaded.input)
    data: dict[str, Any] = json.loads(text)
    fields, grow = _fields(spec["data"]), set(spec.get("append", appended))
    for _, event, payload in loaded.tail:
        told: dict[str, Any] = json.loads(payload)
        if event in _REWRITES:
            data = dict(told["data"]) if told.get("data") is not None else data
        elif event in spec["events"]:  # Others are the engine's own, which merge nothing.
            shared = {name: value for name, value in told.items() if name in fields}
            data |= {name: [*data.get(name, ()), *value] if name in grow else value for name, value in shared.items()}
    return data


def _fields(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    """The fields of a schema, which a type that contains itself keeps among its definitions."""
    named = str(schema.get("$ref", "")).rpartition("/")[2]
    found: Mapping[str, Json] = (schema["$defs"][named] if named else schema).get("properties", {})
    return found
