"""What a picture shows, before any drawing language: the states and rows of a machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

from statecraft.money import billionths, shown
from statecraft.records import Json


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


def graph(spec: Spec) -> Graph:
    """Read what is to be drawn from a definition or from its stored spec."""
    found = parsed(spec)
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


def count(number: int, what: str) -> str:
    """`1 call`, `1,200 calls`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def parsed(spec: Spec) -> Mapping[str, Json]:
    """The spec as parsed JSON."""
    if isinstance(spec, Mapping):
        return spec
    found: Mapping[str, Json] = json.loads(spec if isinstance(spec, str) else spec.spec)
    return found


def _shape(state: Mapping[str, Json]) -> Shape:
    facts: list[str] = []
    if state.get("max_visits"):
        facts.append(f"≤ {state['max_visits']} visits" if state["max_visits"] > 1 else "one visit")
    if state.get("timeout_s"):
        facts.append(f"≤ {words_for(timedelta(seconds=state['timeout_s']))}")
    facts += _budget_facts(state.get("budget") or {})
    facts += [f"{fact} a visit" for fact in _budget_facts(state.get("per_visit") or {})]
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
    if budget.get("calls") is not None:
        facts.append(f"≤ {count(budget['calls'], 'call')}" if budget["calls"] else "no calls")
    if budget.get("wall_s"):
        facts.append(f"≤ {words_for(timedelta(seconds=budget['wall_s']))}")
    return tuple(facts)
