"""A run step by step, for the page that replays it: each move with what it took, what it said, and how the data changed.

The data are folded from the journal by the stored spec alone: payload fields replace the data fields of the same name, or
are appended where the spec says so. No code of the machine is needed. What came before a migration was another definition's:
its fields are those that the run was started with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statecraft.diagram.graph import Spec, parsed
from statecraft.diagram.marks import Drawing
from statecraft.diagram.way import REWRITES, Passage, Stay, guard_of, row_of, spent
from statecraft.machine.event import SYSTEM_EVENTS, event_name
from statecraft.records import CallRecord, Json, TransitionRecord

SYSTEM = frozenset(map(event_name, SYSTEM_EVENTS))
"""Events whose payload does not merge."""
MOST = 2_000
"""Characters of a value that the page holds."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field of the data that a move changed."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Step:
    """One move, as the page tells it."""

    number: int
    row: str
    """Id of the row in the picture; empty for the start."""
    source: str
    event: str
    target: str
    at: str
    took: str
    """What the visit that it ended took, in words."""
    guards: tuple[str, ...]
    """Guards asked, with their answers."""
    actor: str
    payload: str
    calls: tuple[str, ...]
    """Calls of the visit that it ended."""
    changes: tuple[Change, ...]


def story(spec: Spec, drawn: Drawing, history: Sequence[TransitionRecord], calls: Sequence[CallRecord] = ()) -> tuple[Step, ...]:
    """A run's moves in order, the start included. `drawn` is the run as `of_run` draws it."""
    rules = _Rules.of(parsed(spec))
    data: Mapping[str, Json] = {}
    steps: list[Step] = []
    for before, move in zip([None, *history[:-1]], history, strict=True):
        after = rules.fold(data, move)
        visit = [call for call in calls if before is not None and call.seq == before.seq]
        given = after if before else {name: value for name, value in after.items() if value not in (None, "", [], {})}
        steps.append(_step(drawn, before, move, visit, _changes(data, given)))
        data = after
    return tuple(steps)


# --- parts --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rules:
    """How payloads merge."""

    fields: frozenset[str]
    append: frozenset[str]

    @staticmethod
    def of(spec: Mapping[str, Any]) -> _Rules:
        fields = (spec.get("data") or {}).get("properties") or {}
        return _Rules(frozenset(fields), frozenset(spec.get("append") or ()))

    def fold(self, data: Mapping[str, Json], move: TransitionRecord) -> Mapping[str, Json]:
        if not move.source:
            return dict(move.payload)
        if move.event in REWRITES:
            whole = move.payload.get("data")
            return data if whole is None else dict(whole)
        if move.event in SYSTEM:
            return data
        merged = {name: value for name, value in move.payload.items() if name in self.fields or name in data}
        for name in self.append & merged.keys():
            if isinstance(merged[name], list) and isinstance(data.get(name, []), list):
                merged[name] = [*data.get(name, []), *merged[name]]
        return {**data, **merged}


def _step(
    drawn: Drawing,
    before: TransitionRecord | None,
    move: TransitionRecord,
    visit: Sequence[CallRecord],
    changes: tuple[Change, ...],
) -> Step:
    stay = Stay(
        calls=move.calls,
        tokens=move.usage.total,
        time=move.at - (before or move).at,
        cost=sum(call.cost or 0 for call in visit),
    )
    return Step(
        number=move.seq,
        row=_row(drawn, move),
        source=move.source,
        event=move.event,
        target=move.target,
        at=f"{move.at:%Y-%m-%d %H:%M:%S} UTC",
        took=" · ".join(spent(stay)),
        guards=tuple(f"{name}: {'yes' if held else 'no'}" for name, held in move.guards),
        actor=move.actor or "",
        payload="" if before is None else said(dict(move.payload)),
        calls=tuple(f"{call.kind} {call.name}{'' if call.ok else ' (failed)'}" for call in visit),
        changes=changes,
    )


def _row(drawn: Drawing, move: TransitionRecord) -> str:
    if not move.source:
        return ""
    found = row_of(drawn.graph, Passage(move.seq, move.source, move.event, move.target, guard_of(move.guards)))
    if found is None:  # What the run has and the definition has not is drawn behind the rows.
        whole = (move.source, move.event, move.target)
        found = next((edge for edge in drawn.graph.edges if (edge.source, edge.event, edge.target) == whole), None)
    return f"e_{found.index}" if found else ""


def _changes(before: Mapping[str, Json], after: Mapping[str, Json]) -> tuple[Change, ...]:
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return tuple(_change(name, before.get(name), after.get(name)) for name in names)


def _change(name: str, before: Json, after: Json) -> Change:
    if isinstance(before, list) and isinstance(after, list) and before and after[: len(before)] == before:
        return Change(name, f"{len(before)} items", f"+ {said(after[len(before) :])}")
    return Change(name, "" if before is None else said(before), "" if after is None else said(after))


def said(value: Json) -> str:
    """A value as people read it: a text as it is, anything else as JSON; cut if it is too long for a page."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    return text if len(text) <= MOST else f"{text[:MOST]}… ({len(text):,} characters)"
