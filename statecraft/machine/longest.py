"""The most expensive path through a graph of situations, forward from the start, with the moves it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from statecraft.machine.product import Graph, Move
from statecraft.machine.ways import EVERY, Ways

Row = tuple[str, str, str]
"""Source, event, target."""


@dataclass(frozen=True, slots=True)
class Longest:
    """What the most expensive path costs; infinite if nothing bounds it."""

    amount: float
    moves: tuple[Row, ...]
    """The path: the moves from the start on. None if not every situation was looked at."""


def longest(graph: Graph, weights: Sequence[float], *, by_time: bool = False) -> Longest:
    """The path of the greatest sum of weights.

    `by_time`: the weights are microseconds, and the bounds of the whole run's time hold: a visit ends when the run's time
    is over, and the deadline's row is only taken then. A visit may always take less time than its weight, so the
    latest arrival is all that counts.
    """
    last, ends = len(graph.places) - 1, [graph.ways.ends(marks) if by_time else inf for marks in range(EVERY + 1)]
    best = [-1.0] * len(graph.places)
    came: list[tuple[int, Move] | None] = [None] * len(graph.places)
    best[last] = 0
    top, end = 0.0, last
    for here in range(last, -1, -1):
        if best[here] < 0:
            continue
        spent = best[here] + weights[here]
        marks = (move.marks for move in graph.moves[here]) if graph.places[here].mode == "wide" else (graph.places[here].marks,)
        reached = min(spent, max(ends[each] for each in marks))
        if reached > top or (reached == top and graph.moves[end] and not graph.moves[here]):  # A whole run, if there is one.
            top, end = reached, here
        for move in graph.moves[here]:
            if by_time and move.way.timed and spent < graph.ways.deadline:
                continue
            at = min(spent, ends[move.marks])
            if at > best[move.to]:
                best[move.to], came[move.to] = at, (here, move)
    return Longest(top, _trail(graph, came, end) if graph.exact else ())


def _trail(graph: Graph, came: Sequence[tuple[int, Move] | None], end: int) -> tuple[Row, ...]:
    rows: list[Row] = []
    step = came[end]
    while step is not None:
        before, move = step
        rows.append(named(graph.ways, graph.places[before].state, move.way.event, graph.places[end].state))
        end, step = before, came[before]
    return tuple(reversed(rows))


def named(ways: Ways, source: int, event: str, target: int) -> Row:
    """A move by names."""
    return ways.states[source].name, event, ways.states[target].name
