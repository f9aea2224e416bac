"""Every situation a run may come into: a state, how often each bounded state around it was entered, what came already.

Bounds count inside a strongly connected component only, since a run that has left one never comes back. So situations
are told apart by the counts of their own component, and their number is a sum over the components, not a product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from statecraft.machine.caps import Metric, of_nth, telling
from statecraft.machine.ways import STEPS, Way, Ways

MOST = 20_000
"""Situations that are looked at, at most; beyond, bounds are computed that are not exact."""

Mode = Literal["visited", "spent", "stopped", "over", "final", "wide"]


class Place(NamedTuple):
    """A situation. Two runs in the same one have the same futures."""

    state: int
    mode: Mode
    counts: int = 0
    """How often the states of its component were entered, as one number."""
    marks: int = 0
    step: int = 0
    """Steps made, if they are counted."""


class TooMany(Exception):
    """There are more situations than `MOST`. `group` is the component that has most of them."""

    def __init__(self, group: int) -> None:
        super().__init__(group)
        self.group = group


@dataclass(frozen=True, slots=True)
class Move:
    """A way, and the situation it leads to."""

    way: Way
    to: int
    marks: int
    """The marks under which the visit ends, which say by when it must have."""


@dataclass(slots=True)
class Graph:
    """All situations, each after those that it leads to, so that the last one is the start."""

    ways: Ways
    counting: Counting
    places: list[Place] = field(default_factory=list[Place])
    moves: list[list[Move]] = field(default_factory=list[list[Move]])
    wide: frozenset[int] = frozenset()
    """Components whose situations were too many; each stands for all of them."""

    @property
    def exact(self) -> bool:
        """Whether every situation was looked at."""
        return not self.wide

    def weights(self, metric: Metric, visits: Sequence[float] | None = None, wide: Sequence[float] = ()) -> list[float]:
        """What the visit in each situation may use at most. `visits` says it by state, where how many there were before
        is not to count; `wide` has what a whole component may use, by its number."""
        found: list[float] = []
        for place, moves in zip(self.places, self.moves, strict=True):
            if place.mode == "wide":
                found.append(wide[self.ways.group[place.state]])
            elif metric == "steps":
                found.append(1 if moves else 0)
            elif place.mode != "visited":
                found.append(0)
            elif visits is not None:
                found.append(visits[place.state])
            else:
                found.append(of_nth(self.ways.states[place.state], metric, self.counting.visit(place)))
        return found


class Counting:
    """How the counts of a component make one number: a digit for each bounded state, and one for each with a budget."""

    def __init__(self, ways: Ways, *, off: bool = False) -> None:
        self._ways = ways
        self.off = off
        self._entered: list[tuple[int, int] | None] = []
        self._budgeted: list[tuple[int, int] | None] = []
        self._units: dict[int, int] = {}
        for state, spec in enumerate(ways.states):
            group, bound, told = ways.group[state], ways.bound(state), telling(spec) if ways.cyclic[state] else 0
            self._entered.append(self._digit(group, bound))
            self._budgeted.append(self._digit(group, told + 1 if told else None))

    def _digit(self, group: int, most: int | None) -> tuple[int, int] | None:
        """(what it counts by, its highest value)."""
        if most is None:
            return None
        by = self._units.get(group, 1)
        self._units[group] = by * (most + 1)
        return by, most

    def most(self, group: int) -> int:
        """How many situations there are in a component at most, marks aside."""
        return self._units.get(group, 1) * self._ways.group.count(group)

    def enter(self, state: int, counts: int, *, stopped: bool) -> tuple[bool, int]:
        """(whether it is within its bound, the counts then)."""
        digit = self._entered[state]
        if digit is not None and not self.off:
            by, most = digit
            if counts // by % (most + 1) == most:
                return False, counts
            counts += by
        digit = self._budgeted[state]
        if digit is not None and not stopped and not self.off:
            by, most = digit
            counts += by if counts // by % (most + 1) < most else 0
        return True, counts

    def visit(self, place: Place) -> int:
        """Which visit of its state this is, from 1, if that makes a difference; else 1."""
        digit = self._budgeted[place.state]
        if digit is None or self.off:
            return 1
        by, most = digit
        return place.counts // by % (most + 1)


class Explorer:
    """Finds all situations, depth first."""

    def __init__(self, ways: Ways, *, wide: frozenset[int] = frozenset(), counted: bool = False, coarse: bool = False) -> None:
        self.ways, self.wide, self.counted, self.coarse = ways, wide, counted, coarse
        self.counting = Counting(ways, off=coarse)
        definition = ways.definition
        self.max_steps, self.last = definition.max_steps, definition.max_steps + len(ways.states)

    def graph(self, most: int = MOST) -> Graph:
        """All situations. Raises `TooMany`."""
        found = Graph(self.ways, self.counting, wide=self.wide)
        number: dict[Place, int] = {}
        seen: dict[int, int] = {}
        start = next(self._entered(self.ways.start, -1, 0, 0, 0))
        stack = [(start, list(self.onward(start)))]
        trail = [0]
        while stack:
            place, onward = stack[-1]
            while trail[-1] < len(onward) and onward[trail[-1]][1] in number:
                trail[-1] += 1
            if trail[-1] < len(onward):
                there = onward[trail[-1]][1]
                stack.append((there, list(self.onward(there))))
                trail.append(0)
                continue
            number[place] = len(found.places)
            found.places.append(place)
            found.moves.append([Move(way, number[there], marks) for way, there, marks in onward])
            stack.pop()
            trail.pop()
            group = self.ways.group[place.state]
            seen[group] = seen.get(group, 0) + 1
            if len(found.places) > most:
                self._give_up(seen)
        return found

    def _give_up(self, seen: dict[int, int]) -> None:
        """Raises `TooMany`, unless every component that has more than one situation stands for all of them already."""
        larger = [group for group in seen if group not in self.wide and self.counting.most(group) > 1]
        if larger or self.counted:
            raise TooMany(max(larger or seen, key=seen.__getitem__))

    def onward(self, place: Place) -> Iterator[tuple[Way, Place, int]]:
        """(way, where it leads, the marks under which the visit ends) of each way out."""
        ways = self.ways
        if place.mode == "wide":
            yield from self._out_of(place)
            return
        kinds = {"visited": ways.visited, "spent": ways.spent, "stopped": ways.stopped}
        kind = kinds.get(place.mode)
        for way in () if kind is None else kind[place.state]:
            if not way.once & place.marks:
                marks = place.marks | way.marks
                for there in self._entered(way.target, place.state, place.counts, marks, place.step + 1):
                    yield way, there, place.marks

    def _entered(self, state: int, source: int, counts: int, marks: int, step: int) -> Iterator[Place]:
        """The situation after entering a state; both modes of a bounded one, if nothing is counted."""
        ways = self.ways
        group = ways.group[state]
        if ways.states[state].kind == "final":
            yield Place(state, "final")
            return
        if group in self.wide:
            yield Place(state, "wide", marks=marks)
            return
        if not self.counted:
            step = 0
        stopped = self.counted and step >= self.max_steps and not marks & STEPS
        if source < 0 or ways.group[source] != group:
            counts = 0
        within, counts = self.counting.enter(state, counts, stopped=stopped)
        if self.counted and step >= self.last:
            yield Place(state, "over")
        elif stopped:
            yield Place(state, "stopped", counts, marks, step)
        else:
            yield Place(state, "visited" if within else "spent", counts, marks, step)
            if self.coarse and ways.bound(state) is not None:
                yield Place(state, "spent", counts, marks, step)

    def _out_of(self, place: Place) -> Iterator[tuple[Way, Place, int]]:
        """The ways out of a whole component. What ends a bound of time may or may not have come meanwhile."""
        ways, group = self.ways, self.ways.group[place.state]
        members = [state for state in range(len(ways.states)) if ways.group[state] == group]
        inside = [way for state in members for way in (*ways.visited[state], *ways.spent[state])]
        ending = {way.marks for way in inside if way.marks & ~STEPS and ways.group[way.target] == group}
        options = {place.marks}
        for mark in ending:
            options |= {marks | mark for marks in options}
        for marks in sorted(options):
            for way in inside:
                if ways.group[way.target] != group and not way.once & place.marks:
                    for there in self._entered(way.target, place.state, 0, marks | way.marks, 0):
                        yield way, there, marks
