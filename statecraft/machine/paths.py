"""The part of the checks that follows arrows: what can be reached, what can end, and what might go round for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from statecraft.errors import Finding
from statecraft.machine.event import (
    BudgetWarning,
    DeadlinePassed,
    Event,
    StepsExhausted,
    VisitsExhausted,
    event_name,
)
from statecraft.machine.table import Declaration, DeclaredState, Table, is_operators, is_possible, reachable_rows

_ONCE_PER_RUN: Final = (BudgetWarning, DeadlinePassed, StepsExhausted)
"""What the engine raises at most once in a run, so that it can keep no cycle going."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One possible move."""

    source: str
    event: type[Event]
    target: str


def check_paths(declaration: Declaration, table: Table) -> Iterator[Finding]:
    """Findings about reachability and cycles. Every target must exist and there must be one start."""
    states = {state.name: state for state in declaration.states}
    edges = possible_edges(declaration, table)
    start = next(state.name for state in declaration.states if state.start)
    live = _closure([start], edges, lambda edge: (edge.source, edge.target))
    yield from _unreachable(declaration, start, live)
    # A person may lead a run anywhere, but no run ends or goes round for ever by that alone.
    edges = [edge for edge in edges if not is_operators(edge.event)]
    yield from _ends(declaration, states, edges, live)
    yield from _bounded(states, table, edges, live)
    yield from _cycles(declaration, states, [edge for edge in edges if edge.source in live])


def possible_edges(declaration: Declaration, table: Table) -> list[Edge]:
    """Every move that can happen, in order of declaration, none twice."""
    states = {state.name: state for state in declaration.states}
    return list(
        dict.fromkeys(
            Edge(name, event, row.target)
            for (name, event), rows in table.items()
            if is_possible(declaration, states[name], event)
            for row in reachable_rows(rows)
        )
    )


def _closure(seeds: Iterable[str], edges: Sequence[Edge], ends: Callable[[Edge], tuple[str, str]]) -> set[str]:
    """All that can be reached from `seeds`, where `ends` says from where to where an edge is followed."""
    onward: dict[str, list[str]] = {}
    for edge in edges:
        here, there = ends(edge)
        onward.setdefault(here, []).append(there)
    seen = set(seeds)
    todo = deque(seen)
    while todo:
        for name in onward.get(todo.popleft(), ()):
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


def _unreachable(declaration: Declaration, start: str, live: set[str]) -> Iterator[Finding]:
    for state in declaration.states:
        if state.name not in live:
            message = f"no path leads from {start} to {state.name}"
            fix = f"add a row that leads to {state.name}, or remove the state"
            yield Finding("SC102", "error", state.name, message, fix)


def _ends(
    declaration: Declaration, states: Mapping[str, DeclaredState], edges: Sequence[Edge], live: set[str]
) -> Iterator[Finding]:
    def ending_in(names: Iterable[str]) -> set[str]:
        return _closure(names, edges, lambda edge: (edge.target, edge.source))

    leaving = {edge.source for edge in edges}
    ending = ending_in(name for name, state in states.items() if state.final)
    happy = [name for name, state in states.items() if state.ok]
    succeeding = ending_in(happy)
    if not happy:
        fix = "declare one: machine.final(..., ok=True)"
        yield Finding("SC104", "warning", declaration.name, "no final state is declared ok, so every run ends as failed", fix)
    for name, state in states.items():
        if name not in live or state.final or name not in leaving:
            continue
        if name not in ending:
            fix = f"add a row that leads from {name}, or from a state after it, to a final state"
            yield Finding("SC103", "error", name, f"{name} is a trap: no path leads from it to a final state", fix)
        elif happy and name not in succeeding:
            fix = f"lead from {name} to a state from which a run can succeed, or make it final"
            yield Finding("SC104", "warning", name, f"from {name} a run can no longer succeed, yet it goes on", fix)


def _bounded(states: Mapping[str, DeclaredState], table: Table, edges: Sequence[Edge], live: set[str]) -> Iterator[Finding]:
    for name, state in states.items():
        if state.max_visits is None or name not in live:
            continue
        after = _closure([edge.target for edge in edges if edge.source == name], edges, lambda edge: (edge.source, edge.target))
        if name not in after:
            fix = "remove max_visits, or add the row that leads back"
            yield Finding("SC121", "warning", name, f"{name} is never visited twice, so its max_visits never matters", fix)
        elif (name, VisitsExhausted) not in table:
            fix = f"add {name}.on(VisitsExhausted) >> ..., or machine.anywhere.on(Failure) >> ..."
            message = f"{name} may use up its {state.max_visits} visit(s), but no row takes visits_exhausted"
            yield Finding("SC122", "error", name, message, fix)


def _cycles(declaration: Declaration, states: Mapping[str, DeclaredState], edges: Sequence[Edge]) -> Iterator[Finding]:
    """A run that never ends must, from some point on, go round where every move is free for ever: through states
    without a bound, and through bounded ones only by the rows that take their exhaustion."""
    lasting = [edge for edge in edges if edge.event not in _ONCE_PER_RUN]
    bounded = {name for name, state in states.items() if state.max_visits is not None}
    spent = [edge for edge in lasting if edge.source in bounded and edge.event is VisitsExhausted]
    for cycle in _disjoint_cycles(spent):
        fix = "let one of these rows lead to a state outside the cycle"
        message = f"once the bounds are used up the run goes round without calling a handler: {show(cycle)}"
        yield Finding("SC120", "error", cycle[0].source, message, fix)
    free = [edge for edge in lasting if edge.source not in bounded] + spent
    for cycle in _disjoint_cycles(free):
        if all(edge in spent for edge in cycle):
            continue
        fix = "give one of its states max_visits and a row for VisitsExhausted that leaves the cycle"
        if all(states[edge.source].kind == "review" for edge in cycle):  # a review takes no max_visits
            fix = "lead through a state with max_visits and a row for VisitsExhausted that leaves the cycle"
        message = f"only max_steps={declaration.max_steps} stops the cycle {show(cycle)}"
        yield Finding("SC120", "warning", cycle[0].source, message, fix)


def show(cycle: Sequence[Edge]) -> str:
    """A path as text: `a -(event)-> b -(event)-> a`."""
    steps = "".join(f" -({event_name(edge.event)})-> {edge.target}" for edge in cycle)
    return f"{cycle[0].source}{steps}"


def _disjoint_cycles(edges: Sequence[Edge]) -> Iterator[list[Edge]]:
    """Cycles with no state in common, as many as it takes to leave none."""
    left = list(edges)
    while cycle := _find_cycle(left):
        yield cycle
        seen = {edge.source for edge in cycle}
        left = [edge for edge in left if edge.source not in seen]


def _find_cycle(edges: Sequence[Edge]) -> list[Edge]:
    """The first cycle met by a depth-first walk in order of declaration; empty if there is none."""
    onward: dict[str, list[Edge]] = {}
    for edge in edges:
        onward.setdefault(edge.source, []).append(edge)
    finished: set[str] = set()
    for root in onward:
        if root not in finished and (cycle := _walk(root, onward, finished)):
            return cycle
    return []


def _walk(root: str, onward: Mapping[str, Sequence[Edge]], finished: set[str]) -> list[Edge]:
    """Depth first from `root`, without recursion; adds the states from which no cycle can be met to `finished`."""
    names, trail = [root], list[Edge]()
    rest = [iter(onward.get(root, ()))]
    while rest:
        edge = next(rest[-1], None)
        if edge is None:
            finished.add(names.pop())
            rest.pop()
            trail = trail[:-1]
        elif edge.target in names:
            return [*trail, edge][names.index(edge.target) :]
        elif edge.target not in finished:
            names.append(edge.target)
            rest.append(iter(onward.get(edge.target, ())))
            trail.append(edge)
    return []
