"""What a picture shows, before any drawing language: states and rows of a machine, and a run's way through them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

from statecraft.money import billionths, shown
from statecraft.records import CallRecord, Json, RunRecord, Status, TransitionRecord


class HasSpec(Protocol):
    """Whatever knows its spec: a `Definition`, or a stored one."""

    @property
    def spec(self) -> str:
        """The definition as JSON text."""
        ...


Spec = HasSpec | str | Mapping[str, Json]
"""A closed definition, or its spec as JSON text or as parsed JSON: enough to draw a machine without its code."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A state, as drawn."""

    name: str
    kind: str
    """`work`, `review` or `final`."""
    ok: bool
    facts: tuple[str, ...]
    """Its bounds, in words: `≤ 3 visits`, `≤ 2 min`."""
    tools: tuple[str, ...]
    doc: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A row of the table, as drawn. Rows of `anywhere` have an empty source."""

    index: int
    """Place in the table, from 0; the picture names the row `e_<index>`."""
    source: str
    event: str
    target: str
    guard: str
    """The guard's name; `else` for a row taken when the guards of its siblings refuse; empty otherwise."""
    by: str = ""
    """`operator` for a row that only a redrive takes; empty otherwise."""

    @property
    def said(self) -> str:
        """The event as the picture names it."""
        return f"{self.event} (by {self.by})" if self.by else self.event


@dataclass(frozen=True, slots=True)
class Graph:
    """A machine, as drawn."""

    name: str
    version: str
    start: str
    shapes: tuple[Shape, ...]
    edges: tuple[Edge, ...]
    facts: tuple[str, ...]
    """The machine's own bounds, in words."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A move that a run made."""

    seq: int
    source: str
    event: str
    target: str
    guard: str
    """The guard that said yes; empty if none was needed."""


@dataclass(frozen=True, slots=True)
class Stay:
    """What a run did in one state, over all its visits."""

    visits: int = 0
    calls: int = 0
    tokens: int = 0
    time: timedelta = timedelta(0)
    """Time in ended visits; an open one is not counted."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A run, ready to be painted over its machine."""

    run_id: str
    status: Status
    state: str
    """Where the run stands."""
    reason: str
    """Why it died or was cancelled; empty otherwise."""
    path: tuple[Passage, ...]
    """The moves in order, without the start."""
    stays: Mapping[str, Stay] = field(default_factory=dict)


def graph(spec: Spec) -> Graph:
    """Read what is to be drawn from a definition or from its stored spec."""
    found = _parsed(spec)
    rows = [(row["source"], row["event"], row["target"], row.get("guard") or "", row.get("by") or "") for row in found["rows"]]
    guarded = {(source, event) for source, event, _, guard, _ in rows if guard}
    edges = tuple(
        Edge(index, source, event, target, guard or ("else" if (source, event) in guarded else ""), by)
        for index, (source, event, target, guard, by) in enumerate(rows)
    )
    return Graph(
        name=found["name"],
        version=str(found["version"]),
        start=found["start"],
        shapes=tuple(_shape(state) for state in found["states"]),
        edges=edges,
        facts=_machine_facts(found),
    )


def overlay(history: Sequence[TransitionRecord], calls: Sequence[CallRecord], run: RunRecord) -> Overlay:
    """A run's way through its machine: the moves in order, and what each state took.

    `calls` matter for the visit that is still open; ended visits carry their own sums.
    """
    stays: dict[str, Stay] = {}
    for entered, left in zip(history, [*history[1:], None], strict=True):
        before = stays.get(entered.target, Stay())
        if left is not None:
            spent, made, time = left.usage.total, left.calls, left.at - entered.at
        else:
            visit = [call for call in calls if call.seq == entered.seq]
            spent, made, time = sum(call.usage.total for call in visit), len(visit), timedelta(0)
        stays[entered.target] = Stay(before.visits + 1, before.calls + made, before.tokens + spent, before.time + time)
    path = tuple(Passage(move.seq, move.source, move.event, move.target, _guard(move)) for move in history if move.source)
    return Overlay(run.id, run.status, run.state, run.reason or "", path, stays)


def taken(drawn: Graph, ov: Overlay) -> dict[int, tuple[int, ...]]:
    """Which rows a run took: the row's index, and the moves' numbers in order."""
    found: dict[int, tuple[int, ...]] = {}
    for move in ov.path:
        row = _row(drawn, move)
        if row is not None:
            found[row.index] = (*found.get(row.index, ()), move.seq)
    return found


def spine(drawn: Graph) -> tuple[Edge, ...]:
    """The way a reader follows first: from the start, by the first row that leads somewhere new, to a good end."""
    ends = {shape.name for shape in drawn.shapes if shape.ok}
    out: dict[str, list[Edge]] = {}
    for edge in drawn.edges:
        out.setdefault(edge.source, []).append(edge)

    seen: set[str] = set()

    def walk(state: str) -> tuple[Edge, ...] | None:
        if state in ends:
            return ()
        seen.add(state)
        for edge in out.get(state, []):
            rest = None if edge.target in seen else walk(edge.target)
            if rest is not None:
                return (edge, *rest)
        return None

    return walk(drawn.start) or ()


def words_for(duration: timedelta) -> str:
    """A duration as people write it: `90 s`, `10 min`, `2 d`."""
    seconds = duration.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 or not seconds else f"{seconds * 1000:.3g} ms"


def _row(drawn: Graph, move: Passage) -> Edge | None:
    """The row that made a move. An event may have been taken by a row for its class's parent, such as `failure`."""
    rows = [edge for edge in drawn.edges if edge.source in (move.source, "") and edge.target == move.target]

    def distance(edge: Edge) -> tuple[bool, bool, bool]:
        declared = "" if edge.guard == "else" else edge.guard
        return (edge.event != move.event, declared != move.guard, edge.source == "")

    return min(rows, key=distance, default=None)


def _guard(move: TransitionRecord) -> str:
    """The last guard asked, if it said yes: that is the one whose row was taken."""
    return move.guards[-1][0] if move.guards and move.guards[-1][1] else ""


def _parsed(spec: Spec) -> Mapping[str, Json]:
    if isinstance(spec, Mapping):
        return spec
    parsed: Mapping[str, Json] = json.loads(spec if isinstance(spec, str) else spec.spec)
    return parsed


def _shape(state: Mapping[str, Json]) -> Shape:
    facts: list[str] = []
    if state.get("max_visits"):
        facts.append(f"≤ {state['max_visits']} visits" if state["max_visits"] > 1 else "one visit")
    if state.get("timeout_s"):
        facts.append(f"≤ {words_for(timedelta(seconds=state['timeout_s']))}")
    facts += _budget_facts(state.get("budget") or {})
    return Shape(
        name=state["name"],
        kind=state["kind"],
        ok=bool(state.get("ok")),
        facts=tuple(facts),
        tools=tuple(state.get("tools") or ()),
        doc=str(state.get("doc") or ""),
    )


def _machine_facts(found: Mapping[str, Json]) -> tuple[str, ...]:
    facts = [f"≤ {found['max_steps']} steps"] if found.get("max_steps") else []
    if found.get("deadline_s"):
        facts.append(f"≤ {words_for(timedelta(seconds=found['deadline_s']))}")
    budget = found.get("budget")
    return (*facts, *_budget_facts(budget if isinstance(budget, Mapping) else {"tokens": budget}))


def _budget_facts(budget: Mapping[str, Json]) -> tuple[str, ...]:
    facts = [f"≤ {budget['tokens']:,} tokens"] if budget.get("tokens") else []
    if budget.get("money"):
        facts.append(f"≤ {shown(billionths(Decimal(budget['money'])))}")
    if budget.get("calls"):
        facts.append(f"≤ {budget['calls']:,} calls")
    if budget.get("wall_s"):
        facts.append(f"≤ {words_for(timedelta(seconds=budget['wall_s']))}")
    return tuple(facts)
