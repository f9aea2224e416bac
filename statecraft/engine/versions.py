"""What differs between two definitions of one machine, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator

from statecraft.machine.fingerprint import without_prose
from statecraft.records import Json

_WHOLE = frozenset({"states", "rows", "data", "events"})
"""Parts that are compared piece by piece."""
_PROSE = frozenset({"doc"})


def difference(old: str, new: str) -> str:
    """The differences of two definitions given as canonical JSON, as one line; empty if they are equal. Texts for people do
    not count, as they do not in the fingerprint."""
    before, after = json.loads(old), json.loads(new)
    return "; ".join((*_states(before, after), *_rows(before, after), *_schemas(before, after), *_bounds(before, after)))


def _states(before: Json, after: Json) -> Iterator[str]:
    yield from _names("state", [s["name"] for s in before["states"]], [s["name"] for s in after["states"]])
    kept = {s["name"]: s for s in before["states"]}
    for state in after["states"]:
        was = kept.get(state["name"])
        if was is not None and (changed := _changed(was, state, _PROSE)):
            yield f"state {state['name']} changed ({', '.join(changed)})"


def _rows(before: Json, after: Json) -> Iterator[str]:
    old, new = [_row(row) for row in before["rows"]], [_row(row) for row in after["rows"]]
    named = list(_names("row", old, new))
    yield from named
    if not named and old != new:
        yield "rows are in another order"


def _row(row: Json) -> str:
    guard = f"[{row['guard']}]" if row["guard"] else ""
    return f"{row['source'] or 'anywhere'}.{row['event']}{guard} -> {row['target']}"


def _schemas(before: Json, after: Json) -> Iterator[str]:
    yield from _fields("data field", before["data"], after["data"])
    yield from _names("event", list(before["events"]), list(after["events"]))
    for name, schema in after["events"].items():
        if name in before["events"]:
            yield from _fields(f"event {name} field", before["events"][name], schema)


def _fields(what: str, old: Json, new: Json) -> Iterator[str]:
    """Fields that came, went or changed; where only what they refer to did, that something changed."""
    before, after = old.get("properties", {}), new.get("properties", {})
    found = list(_names(what, list(before), list(after)))
    required = set(old.get("required", ())) ^ set(new.get("required", ()))
    both = [name for name in after if name in before]
    changed = (name for name in both if without_prose(before[name]) != without_prose(after[name]) or name in required)
    found += (f"{what} {name} changed" for name in changed)
    yield from found
    if not found and without_prose(old) != without_prose(new):
        yield f"{what.removesuffix(' field')} changed"


def _bounds(before: Json, after: Json) -> Iterator[str]:
    yield from (f"{key} changed" for key in _changed(before, after, _WHOLE))


def _changed(before: Json, after: Json, left_out: frozenset[str]) -> list[str]:
    # What an older release of the library did not write down has no value.
    return [
        key for key in sorted({*before, *after}) if key not in left_out and (before.get(key) or None) != (after.get(key) or None)
    ]


def _names(what: str, old: list[str], new: list[str]) -> Iterator[str]:
    yield from (f"{what} {name} is gone" for name in old if name not in new)
    yield from (f"{what} {name} is new" for name in new if name not in old)
