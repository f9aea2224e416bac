"""What the record says without any code: which definition each move was made under, and the data after it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statecraft.engine.history import MIGRATED, REWRITTEN
from statecraft.machine.event import SYSTEM_EVENTS, event_name
from statecraft.records import Json, TransitionRecord
from statecraft.store.port import MachineSpec, Store

SYSTEM = {event_name(event): event for event in SYSTEM_EVENTS}


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A definition as the database keeps it."""

    spec: Mapping[str, Any]
    edges: frozenset[tuple[str, str, str]]

    def state(self, name: str) -> Mapping[str, Any]:
        """A state's description; empty if the definition has no such state."""
        found: Sequence[Mapping[str, Any]] = self.spec["states"]
        return next((state for state in found if state["name"] == name), {})

    @classmethod
    def of(cls, kept: MachineSpec) -> Stored:
        """From the row of the database."""
        return cls(json.loads(kept.spec), frozenset(kept.edges))


async def definitions(store: Store, fingerprint: str, history: Sequence[TransitionRecord]) -> list[Stored]:
    """For each visit of the run, by the move that entered it, the definition it was made under.

    A migration names the definition it comes from; what follows the last one is the run's own.
    """
    known = {fingerprint: Stored.of(await store.spec(fingerprint))}
    current, found = fingerprint, []
    for move in reversed(history):
        found.append(known[current])
        if move.event == MIGRATED:
            current = str(move.payload.get("fingerprint") or current)
            if current not in known:
                known[current] = Stored.of(await store.spec(current))
    return found[::-1]


def folded(history: Sequence[TransitionRecord], under: Sequence[Stored]) -> list[Mapping[str, Json]]:
    """The data after each move, merged by name: what validators of the data's own class would change is not known here."""
    data: Mapping[str, Json] = dict(history[0].payload)
    found: list[Mapping[str, Json]] = [data]
    for move, stored in zip(history[1:], under[1:], strict=True):
        data = _after(data, move, stored.spec)
        found.append(data)
    return found


def _after(data: Mapping[str, Json], move: TransitionRecord, spec: Mapping[str, Any]) -> Mapping[str, Json]:
    if move.event in REWRITTEN:
        whole = move.payload.get("data")
        return data if whole is None else whole
    if move.event in SYSTEM:
        return data
    fields, appended = spec["data"].get("properties", {}), spec.get("append", ())
    merged = {name: value for name, value in move.payload.items() if name in fields}
    if not merged:
        return data
    for name in merged.keys() & set(appended):
        merged[name] = [*(data.get(name) or ()), *(merged[name] or ())]
    return {**data, **merged}


def visit_numbers(history: Sequence[TransitionRecord]) -> list[int]:
    """For each move, the how many-th visit of its target it began. A rewrite goes on with the visit it is made in."""
    counts: dict[str, int] = {}
    found: list[int] = []
    for move in history:
        if move.event == MIGRATED and move.payload.get("visits"):
            counts = dict(move.payload["visits"])
        elif move.event in REWRITTEN:
            counts[move.target] = max(counts.get(move.source, 1), counts.get(move.target, 0))
        else:
            counts[move.target] = counts.get(move.target, 0) + 1
        found.append(counts.get(move.target, 1))
    return found
