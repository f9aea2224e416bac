"""Whether a property holds for every possible run: reachability on the machine times a monitor.

A monitor is one bit: has a milestone happened that still counts? First the table alone is searched, O(states + rows),
which takes each bound as never reached and always reached: if no path breaks the property, it holds. Else a path may be one
that the bounds forbid, so the visits of bounded states are counted along (states x visits), and what is found is real: the
engine takes exactly such paths, with guards that answer as they must. What has too many combinations of visits to count is
told as found in the table alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from statecraft.errors import Finding
from statecraft.machine.event import (
    BudgetWarning,
    DeadlinePassed,
    Event,
    LoopDetected,
    StepsExhausted,
    VisitsExhausted,
    event_name,
)
from statecraft.machine.paths import Edge, possible_edges, show
from statecraft.machine.properties import Property, said
from statecraft.machine.state import Target
from statecraft.machine.table import Declaration, Table, is_operators

MOST_POINTS: Final = 100_000
"""Combinations of a state, visits and moves that are looked at in the exact search: about a second."""
_ONCE: Final = (BudgetWarning, DeadlinePassed, StepsExhausted)
"""What happens at most once in a run. (The engine may say `BudgetExhausted` again for each call that is too large.)"""
_BEFORE_VISITS: Final = (DeadlinePassed, StepsExhausted, VisitsExhausted)
"""What the engine looks at, in this order, before it calls a handler: the rest cannot come in a visit too many."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A possible run that breaks a property."""

    broken: Property[Any]
    """What does not hold."""
    start: str
    """Where every run begins."""
    path: tuple[Edge, ...]
    """Its moves; none if the start itself breaks the property."""
    why: str
    """What is wrong with it, after the path."""
    again: tuple[Edge, ...] = ()
    """Moves at the end of `path` that can follow each other as long as the run is let."""
    certain: bool = True
    """False: bounds of visits were too many to count, and may forbid this path."""

    def __str__(self) -> str:
        doubt = "" if self.certain else f" (unless max_visits forbids it: more than {MOST_POINTS:,} combinations to try)"
        operators = {event_name(edge.event): None for edge in self.path if is_operators(edge.event)}
        by = f" ({', '.join(operators)}: sent by an operator)" if operators else ""
        return f"{show(self.path) if self.path else self.start}{by}: {self.why}{doubt}"


def counterexample(declaration: Declaration, table: Table, claim: Property[Any]) -> Counterexample | None:
    """A run that breaks the property, with as few moves as there can be; None if it holds.

    Every target must exist and there must be one start (see `check`).
    """
    search = _late if claim.kind == "eventually" else _early
    found = search(_Runs(declaration, table), claim)
    if found is None:
        return None
    try:
        return search(_Runs(declaration, table, counted=True), claim)
    except _TooMany:
        return Counterexample(claim, found.start, found.path, found.why, found.again, certain=False)


def check_properties(declaration: Declaration, table: Table) -> Iterator[Finding]:
    """SC130 for each property that does not hold, with a run that breaks it."""
    possible = {edge.event for edge in possible_edges(declaration, table)}
    for claim in declaration.properties:
        found = counterexample(declaration, table, claim)
        if found is not None:
            where = claim.states[0].name
            yield Finding("SC130", "error", where, f"{claim} does not hold. {found}", _fix(claim, found, possible))


def _fix(claim: Property[Any], found: Counterexample, possible: set[type[Event]]) -> str:
    if claim.kind == "eventually":
        return "lead the run there sooner, name the other states in which it may end, or allow more moves"
    absent = [step.__name__ for step in claim.milestones if not isinstance(step, Target) and not _happens(step, possible)]
    if absent:
        return f"{' and '.join(absent)} never happens in this machine: name an event of its rows"
    if found.path and is_operators(found.path[-1].event):
        event = found.path[-1].event.__name__
        return f"lead {event} elsewhere, or name it as a milestone too if an operator may do this"
    last = found.path[-1] if found.path else None
    row = f"the move {last.source} -({event_name(last.event)})-> {last.target}" if last else "the start"
    return f"lead {row} through {' or '.join(said(step) for step in claim.milestones)} first"


def _happens(event: type[Event], possible: set[type[Event]]) -> bool:
    return any(issubclass(each, event) for each in possible)


# --- the runs of a machine --------------------------------------------------------------------------------------------

Counts = tuple[int, ...]
"""Visits of each bounded state (two more than its bound at most), then 1 for each event that came and comes only once."""


class _TooMany(Exception):
    """More combinations than are worth the time."""


class _Runs:
    """Every move that can follow in a run, as seen from a state and the counts."""

    def __init__(self, declaration: Declaration, table: Table, *, counted: bool = False) -> None:
        self.declaration = declaration
        self.counted = counted
        """Whether visits are counted. If not, a bounded state can be entered and used up at any time."""
        self.start = next(state.name for state in declaration.states if state.start)
        self.onward: dict[str, list[Edge]] = {}
        edges = possible_edges(declaration, table)
        for edge in edges:
            self.onward.setdefault(edge.source, []).append(edge)
        bounded = [(s.name, s.max_visits) for s in declaration.states if counted and s.max_visits is not None]
        self.answers = {event for state in declaration.states for event in state.events}
        """What handlers may answer with, and so as often as they like, even if the engine raises it too."""
        raised = {edge.event for edge in edges} - self.answers
        single = [event for event in _ONCE if counted and event in raised]
        self.bounds = {name: (place, most) for place, (name, most) in enumerate(bounded)}
        """Place in the counts and `max_visits` of each bounded state."""
        self.once = {event: len(bounded) + place for place, event in enumerate(single)}

    def begin(self) -> Counts:
        """The counts of a run that stands in its start."""
        return self._entered(self.start, (0,) * (len(self.bounds) + len(self.once)))

    def moves(self, state: str, counts: Counts) -> Iterator[tuple[Edge, Counts]]:
        """The moves out of the state, with the counts after each."""
        place, most = self.bounds.get(state, (0, 0))
        used_up = state in self.bounds and counts[place] > most
        for edge in self.onward.get(state, ()):
            if edge.event is VisitsExhausted and self.counted and not used_up and VisitsExhausted not in self.answers:
                continue
            if edge.event is LoopDetected and used_up and counts[place] > most + 1:
                pass  # using the state up again and again may itself be noticed as a loop
            elif used_up and edge.event not in _BEFORE_VISITS and not is_operators(edge.event):
                continue  # the handler is not called in the visit too many
            after = counts
            if edge.event in self.once:
                if counts[self.once[edge.event]]:
                    continue
                after = _raised(counts, self.once[edge.event])
            yield edge, self._entered(edge.target, after)

    def stopped(self, state: str, counts: Counts, number: int) -> bool:
        """Whether `max_steps` ends the run here for good: no row takes it, or the moves granted after it are made as well."""
        most, rows = self.declaration.max_steps, self.onward.get(state, ())
        if number >= most + len(self.declaration.states):
            return True
        return number >= most and not self._told(counts) and not any(edge.event is StepsExhausted for edge in rows)

    def allowed(self, edge: Edge, counts: Counts, number: int) -> bool:
        """Whether the engine by itself may make the move after `number` others, as `max_steps` has it."""
        if is_operators(edge.event):
            return False
        reached = number >= self.declaration.max_steps
        if edge.event is StepsExhausted:
            return reached or StepsExhausted in self.answers
        # The deadline comes before the step limit, and that comes before all else.
        return not reached or not self.counted or self._told(counts) or edge.event is DeadlinePassed

    def _told(self, counts: Counts) -> bool:
        """Whether the run met `max_steps` already."""
        return StepsExhausted in self.once and bool(counts[self.once[StepsExhausted]])

    def _entered(self, state: str, counts: Counts) -> Counts:
        place, most = self.bounds.get(state, (0, -1))
        return counts if most < 0 or counts[place] > most + 1 else _raised(counts, place)


def _raised(counts: Counts, place: int) -> Counts:
    return (*counts[:place], counts[place] + 1, *counts[place + 1 :])


# --- never and always -------------------------------------------------------------------------------------------------

_Point = tuple[str, Counts, bool]
"""A state, the counts, and the monitor."""


def _early(runs: _Runs, claim: Property[Any]) -> Counterexample | None:
    """The shortest path on which one of the states is entered while the monitor says no."""
    states, since = {state.name for state in claim.states}, {state.name for state in claim.since}
    steps = {step.name for step in claim.milestones if isinstance(step, Target)}
    events = tuple(step for step in claim.milestones if not isinstance(step, Target))
    milestones = " or ".join(said(step) for step in claim.milestones)
    if runs.start in states:
        return Counterexample(claim, runs.start, (), f"a run begins in {runs.start}")
    first: _Point = runs.start, runs.begin(), runs.start in steps
    came: dict[_Point, tuple[_Point, Edge] | None] = {first: None}
    todo = deque([first])
    while todo:
        point = todo.popleft()
        state, counts, met = point
        for edge, after in runs.moves(state, counts):
            ready = met or issubclass(edge.event, events)
            if edge.target in states and not ready:
                path = (*_path(came, point), edge)
                why = f"enters {edge.target} without {milestones}{_undone(claim, runs.start, path)}"
                return Counterexample(claim, runs.start, path, why)
            following = edge.target, after, edge.target in steps or (ready and edge.target not in since)
            if following not in came:
                came[following] = point, edge
                todo.append(following)
        if runs.counted and len(came) > MOST_POINTS:
            raise _TooMany
    return None


def _undone(claim: Property[Any], start: str, path: tuple[Edge, ...]) -> str:
    """From when on there was no milestone, if that is not the start."""
    entered = (start, *(edge.target for edge in path[:-1]))
    since = [state.name for state in claim.since if state.name in entered]
    return f" since it entered {min(since, key=entered[::-1].index)}" if since else ""


def _path(came: Mapping[_Point, tuple[_Point, Edge] | None], point: _Point) -> Iterator[Edge]:
    trail: list[Edge] = []
    while (step := came[point]) is not None:
        point, edge = step
        trail.append(edge)
    return reversed(trail)


# --- eventually -------------------------------------------------------------------------------------------------------

_Layer = dict[tuple[str, Counts], "tuple[tuple[str, Counts], Edge] | None"]
"""What a run can be after so many moves without having entered one of the states, and from where it came."""


def _late(runs: _Runs, claim: Property[Any]) -> Counterexample | None:
    """A path that ends elsewhere, or is still under way after `within` moves, or is stopped by `max_steps`."""
    wanted = {state.name for state in claim.states}
    finals = {state.name for state in runs.declaration.states if state.final}
    names = " or ".join(state.name for state in claim.states)
    if runs.start in wanted:
        return None
    layers: list[_Layer] = [{(runs.start, runs.begin()): None}]
    most = runs.declaration.max_steps
    for number in range(claim.within):
        layer: _Layer = {}
        for state, counts in layers[-1]:
            if runs.stopped(state, counts, number):
                return _stuck(runs, claim, layers, (state, counts), f"max_steps={most} stops the run here, and it is dead")
            for edge, after in runs.moves(state, counts):
                if edge.target not in wanted and runs.allowed(edge, counts, number):
                    layer.setdefault((edge.target, after), ((state, counts), edge))
        layers.append(layer)
        for point in layer:
            if point[0] in finals:
                return _stuck(runs, claim, layers, point, f"ends without entering {names}", ends=True)
        if runs.counted and sum(map(len, layers)) > MOST_POINTS:
            raise _TooMany
    for point in layers[-1]:
        return _stuck(runs, claim, layers, point, f"{claim.within} moves without entering {names}")
    return None


def _stuck(
    runs: _Runs, claim: Property[Any], layers: list[_Layer], point: tuple[str, Counts], why: str, *, ends: bool = False
) -> Counterexample:
    """The way to a point of the last layer. If it goes round where only `max_steps` stops it, it is cut after one round."""
    points, trail = [point], list[Edge]()
    for layer in reversed(layers):
        step = layer[points[-1]]
        if step is not None:
            points.append(step[0])
            trail.append(step[1])
    points.reverse()
    trail.reverse()
    seen: dict[tuple[str, Counts], int] = {}
    for number, each in enumerate(points):
        if each in seen and not ends:
            why = f"goes round from {each[0]} again and again, until max_steps={runs.declaration.max_steps} stops it"
            return Counterexample(claim, runs.start, tuple(trail[:number]), why, tuple(trail[seen[each] : number]))
        seen[each] = number
    return Counterexample(claim, runs.start, tuple(trail), why)
