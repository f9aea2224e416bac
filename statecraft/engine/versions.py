"""What differs between two definitions of one machine, in words."""

from __future__ import annotations

import json

from statecraft.records import Json


def difference(old: str, new: str) -> str:
    """The differences of two definitions given as canonical JSON, as one line; empty if they are equal."""
    before, after = json.loads(old), json.loads(new)
    found: list[str] = []
    found += _names("state", [s["name"] for s in before["states"]], [s["name"] for s in after["states"]])
    found += _names("row", [_row(r) for r in before["rows"]], [_row(r) for r in after["rows"]])
    kept = {s["name"]: s for s in before["states"]}
    found += [f"state {s['name']} changed" for s in after["states"] if s["name"] in kept and kept[s["name"]] != s]
    found += [
        f"{key} changed"
        for key in sorted(before.keys() | after.keys())
        if key not in {"states", "rows"} and before.get(key) != after.get(key)
    ]
    return "; ".join(found)


def _row(row: Json) -> str:
    guard = f"[{row['guard']}]" if row["guard"] else ""
    return f"{row['source'] or 'anywhere'}.{row['event']}{guard} -> {row['target']}"


def _names(what: str, old: list[str], new: list[str]) -> list[str]:
    gone = [f"{what} {name} is gone" for name in old if name not in new]
    return gone + [f"{what} {name} is new" for name in new if name not in old]
