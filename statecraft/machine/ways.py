"""The ways out of each state, as the engine takes them: by the handler's answer, by a bound that takes its place, once per
run or any number of times. Compiled from a definition for the search of the worst case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Final, Literal

from statecraft.clock import micros
from statecraft.machine.definition import Definition, StateSpec
from statecraft.machine.event import SYSTEM_EVENTS, event_name
from statecraft.machine.groups import groups

DEADLINE, BUDGET, WARNING, LOOP, STEPS = 1, 2, 4, 8, 16
EVERY = 31
"""All marks."""
_MARKS: Final = {
    "deadline_passed": DEADLINE,
    "budget_exhausted": BUDGET,
    "budget_warning": WARNING,
    "loop_detected": LOOP,
    "steps_exhausted": STEPS,
}
"""Events that change what the engine does afterwards, if they ever moved the run."""
_SYSTEM: Final = frozenset(event_name(event) for event in SYSTEM_EVENTS)
Moved = tuple[str, int]
"""Event and target."""


@dataclass(frozen=True, slots=True)
class Way:
    """One possible move out of a state."""

    event: str
    target: int
    once: int = 0
    """The mark that must not be set yet, of an event that the engine raises once per run; 0 without such."""
    marks: int = 0
    """The mark that it sets."""
    timed: bool = False
    """Whether the engine raises it only when the run's deadline has come."""


@dataclass(frozen=True)
class Ways:
    """A machine as the search sees it. States are numbers, in order of declaration."""

    definition: Definition
    states: tuple[StateSpec, ...]
    start: int
    visited: tuple[tuple[Way, ...], ...]
    """Out of a visit whose handler runs (or could have)."""
    spent: tuple[tuple[Way, ...], ...]
    """Out of a visit beyond `max_visits`: no handler runs."""
    stopped: tuple[tuple[Way, ...], ...]
    """Out of a visit after `max_steps`, while nothing has taken that: no handler runs."""
    relevant: int
    """The marks that make a difference."""

    @cached_property
    def group(self) -> list[int]:
        """The strongly connected component of each state, numbered so that moves lead to the same or a lower number."""
        return groups([[way.target for way in self.every(state)] for state in range(len(self.states))])

    @cached_property
    def cyclic(self) -> list[bool]:
        """Whether a run may come back to the state."""
        sizes = [self.group.count(each) for each in self.group]
        return [sizes[state] > 1 or any(way.target == state for way in self.every(state)) for state in range(len(self.states))]

    def every(self, state: int) -> Iterator[Way]:
        """All ways out of a state, whatever the visit is like."""
        yield from self.visited[state]
        yield from self.spent[state]
        yield from self.stopped[state]

    @property
    def deadline(self) -> float:
        """Microseconds after the start; infinite without one."""
        found = self.definition.deadline
        return inf if found is None else micros(found)

    @property
    def wall(self) -> float:
        """Microseconds after the start at which the budget's time is over; infinite without one."""
        budget = self.definition.budget
        found = None if budget is None else budget.wall_micros
        return inf if found is None else found

    def ends(self, marks: int, entered: float) -> float:
        """When a run must have moved on at the latest, with these marks set, from a visit that began at `entered` (both in
        microseconds after its start). A budget was perhaps exhausted by its time, but not before that had come."""
        wall = inf if marks & BUDGET and entered >= self.wall else self.wall
        return min(inf if marks & DEADLINE else self.deadline, wall)

    def bound(self, state: int) -> int | None:
        """How often the state may be entered, if that ever matters."""
        return self.states[state].max_visits if self.cyclic[state] else None


def compiled(definition: Definition, steps: Literal["ignored", "counted", "any time"] = "ignored") -> Ways:
    """The ways of a definition. `steps` says how `max_steps` ends a run: not at all, when so many steps are made, or at any
    moment, once, which covers both and needs no counting."""
    states = tuple(definition.states.values())
    place = {state.name: number for number, state in enumerate(states)}
    moves: list[list[tuple[str, int]]] = [[] for _ in states]
    for source, event, target in definition.edges:
        if source:
            moves[place[source]].append((event, place[target]))
    visited = [_visited(states, number, _possible(definition, states[number], moves[number])) for number in range(len(states))]
    spent = [_spent(states, number, _possible(definition, states[number], moves[number])) for number in range(len(states))]
    stopped = [_stopped(states, _possible(definition, state, moves[number])) for number, state in enumerate(states)]
    if steps == "any time":
        once = [[replace(way, once=STEPS) for way in ways if way.marks == STEPS] for ways in stopped]
        visited = [[*ways, *more] for ways, more in zip(visited, once, strict=True)]
        spent = [[*ways, *(more if ways else ())] for ways, more in zip(spent, once, strict=True)]
    kinds = [visited, spent, stopped if steps == "counted" else [[] for _ in states]]
    always = STEPS if steps == "counted" else 0
    relevant = EVERY
    for _ in range(2):  # What is left out may be all that a mark was for.
        relevant = always | _relevant(definition, states, [way for kind in kinds for ways in kind for way in ways])
        kinds = [[list(_distinct(ways, relevant)) for ways in kind] for kind in kinds]
    visits, beyond, stops = (tuple(map(tuple, kind)) for kind in kinds)
    return Ways(definition, states, place[definition.start], visits, beyond, stops, relevant)


def _possible(definition: Definition, state: StateSpec, moves: Sequence[Moved]) -> list[Moved]:
    return [move for move in moves if possible(definition, state, move[0])]


def possible(definition: Definition, state: StateSpec, event: str) -> bool:
    """Whether the event can happen in the state, unless a person redrives the run: its handler declares it, or the engine
    may raise it there. As `machine.table.is_possible`, and closer where a closed definition tells more."""
    if event in state.events:
        return True
    if state.kind == "final" or event not in _SYSTEM:
        return False
    match event:
        case "state_timeout":
            return state.kind == "work" and state.timeout is not None
        case "review_expired":
            return state.timeout is not None if state.kind == "review" else bool(state.tools)
        case "deadline_passed":
            return definition.deadline is not None
        case "visits_exhausted":
            return state.max_visits is not None
        case "budget_warning":
            return definition.budget is not None or state.budget is not None
    return True


def _visited(states: Sequence[StateSpec], number: int, moves: Sequence[Moved]) -> list[Way]:
    state, found = states[number], list[Way]()
    for event, target in moves:
        mark = _MARKS.get(event, 0)
        if event in ("deadline_passed", "budget_warning") and event not in state.events and states[target].kind != "final":
            found.append(Way(event, target, mark, mark, timed=mark == DEADLINE))
        elif event not in ("visits_exhausted", "steps_exhausted") or event in state.events:
            found.append(Way(event, target, marks=mark))
    return found


def _spent(states: Sequence[StateSpec], number: int, moves: Sequence[Moved]) -> list[Way]:
    """The deadline comes before the bound; and the same move without a handler, again and again, is a loop in the end."""
    if states[number].max_visits is None:
        return []
    found = [Way(event, target) for event, target in moves if event == "visits_exhausted"]
    return [*found, *_once(states, moves, "deadline_passed"), *_once(states, moves, "loop_detected")]


def _stopped(states: Sequence[StateSpec], moves: Sequence[Moved]) -> list[Way]:
    """The deadline comes before the step limit."""
    found = [Way(event, target, marks=STEPS) for event, target in moves if event == "steps_exhausted"]
    return [*found, *_once(states, moves, "deadline_passed")]


def _once(states: Sequence[StateSpec], moves: Sequence[Moved], event: str) -> Iterator[Way]:
    """Ways of what the engine raises once per run; nothing comes after a final state, so there it need not be marked."""
    mark = _MARKS[event]
    for each, target in moves:
        if each == event:
            final = states[target].kind == "final"
            yield Way(event, target) if final else Way(event, target, mark, mark, timed=mark == DEADLINE)


def _relevant(definition: Definition, states: Sequence[StateSpec], ways: Sequence[Way]) -> int:
    """Marks of what comes once, and of what ends a bound of time."""
    relevant = 0
    for way in ways:
        relevant |= way.once
        if states[way.target].kind != "final":
            relevant |= way.marks & DEADLINE if definition.deadline is not None else 0
            timed = definition.budget is not None and definition.budget.wall is not None
            relevant |= way.marks & BUDGET if timed else 0
    return relevant


def _distinct(ways: Sequence[Way], relevant: int) -> Iterator[Way]:
    """One way of those that lead to the same. What comes once is left out where something that always may leads there."""
    free = {way.target for way in ways if not way.once and not way.marks & relevant}
    seen: set[tuple[int, int, int]] = set()
    for way in ways:
        marks = way.marks & relevant
        key = (way.target, way.once, marks)
        if key not in seen and not (way.once & ~(DEADLINE | STEPS) and way.target in free):
            seen.add(key)
            yield Way(way.event, way.target, way.once, marks, way.timed)
