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
    last, late = len(graph.places) - 1, [graph.ways.ends(marks, inf) if by_time else inf for marks in range(EVERY + 1)]
    early = [graph.ways.ends(marks, 0) if by_time else inf for marks in range(EVERY + 1)]
    wall = graph.ways.wall
    best = [-1.0] * len(graph.places)
    came: list[tuple[int, Move] | None] = [None] * len(graph.places)
    best[last] = 0
    top, end = 0.0, last
    for here in range(last, -1, -1):
        if best[here] < 0:
            continue
        spent = best[here] + weights[here]
        wide = graph.places[here].mode == "wide"  # A stay of many visits, of which some may begin late.
        ends = late if wide or best[here] >= wall else early
        marks = (move.marks for move in graph.moves[here]) if wide else (graph.places[here].marks,)
        reached = min(spent, max(ends[each] for each in marks))
        if (reached, _whole(graph, here)) > (top, _whole(graph, end)):
            top, end = reached, here
        for move in graph.moves[here]:
            at = min(spent, ends[move.marks])
            if by_time and move.way.timed and at < graph.ways.deadline:
                continue
            if at > best[move.to]:
                best[move.to], came[move.to] = at, (here, move)
    return Longest(top, _trail(graph, came, end) if graph.exact else ())


def _whole(graph: Graph, here: int) -> int:
    """How well a run reads as a witness that ends here: a whole one if possible, that ends well if possible."""
    state = graph.ways.states[graph.places[here].state]
    return 0 if state.kind != "final" else 2 if state.ok else 1


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
