"""An expected and an actual path side by side: what fits in one line, the first difference marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from statecraft.testing.taken import GAP, Stop, TakenPath, expected

_LONGEST = 60
"""Lines of paths that are shown; the middle of longer ones is left out, but not around the first difference."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A line: what was expected there and what was, if anything."""

    wanted: Stop | None
    actual: Stop | None
    fits: bool


def difference(wanted: Sequence[Stop], stops: Sequence[Stop]) -> list[str]:
    """The paths as lines, for people."""
    pairs = aligned(wanted, stops)
    first = next((index for index, pair in enumerate(pairs) if not pair.fits), len(pairs))
    starts = {id(stop) for path in (wanted, stops) for stop in path[:1]}
    width = max([8, *(len(_shown(pair.wanted, starts)) for pair in pairs)])
    lines = [f"  {'expected':<{width}}   actual"]
    for index, pair in enumerate(pairs):
        mark = ">" if index == first else " "
        line = f"{mark} {_shown(pair.wanted, starts):<{width}}   {_shown(pair.actual, starts)}".rstrip()
        lines.append(line + (_refusals(pair.actual) if index == first else ""))
    keep = _LONGEST // 2
    if len(lines) > _LONGEST:
        near = range(max(0, first - keep), first + keep)
        skipped = [line for index, line in enumerate(lines) if index in near or index == 0]
        lines = [*skipped, f"  ({len(lines) - len(skipped)} further lines)"]
    return ["the run took another path:", *lines]


def _shown(stop: Stop | None, starts: set[int]) -> str:
    if stop is None:
        return ""
    return str(stop) if stop.event or stop.state == GAP or id(stop) in starts else f"-> {stop}"


def _refusals(stop: Stop | None) -> str:
    refused = [name for name, answer in stop.guards if not answer] if stop is not None else []
    return f"     (refused by {', '.join(refused)})" if refused else ""


def aligned(wanted: Sequence[Stop], stops: Sequence[Stop]) -> list[Pair]:
    """The pairing with the fewest lines that do not fit, and of those the one that fits longest from the beginning."""
    costs = _costs(wanted, stops)
    return list(_walk(wanted, stops, costs))


def _costs(wanted: Sequence[Stop], stops: Sequence[Stop]) -> list[list[int]]:
    """By (place in wanted, place in stops): how many lines from there on do not fit, at best. From the end backwards."""
    rows, columns = len(wanted), len(stops)
    costs = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows, -1, -1):
        for j in range(columns, -1, -1):
            costs[i][j] = min((cost + costs[ni][nj] for cost, ni, nj in _moves(wanted, stops, i, j)), default=0)
    return costs


def _moves(wanted: Sequence[Stop], stops: Sequence[Stop], i: int, j: int) -> Iterator[tuple[int, int, int]]:
    """What may come next: (its cost, the places after it), the most natural first."""
    more, left = i < len(wanted), j < len(stops)
    gap = more and wanted[i].state == GAP
    if gap:
        yield 0, i + 1, j
        if left:
            yield 0, i, j + 1
        return
    if more and left:
        yield (0 if wanted[i].fits(stops[j]) else 1), i + 1, j + 1
    if left:
        yield 1, i, j + 1
    if more:
        yield 1, i + 1, j


def _walk(wanted: Sequence[Stop], stops: Sequence[Stop], costs: list[list[int]]) -> Iterator[Pair]:
    i = j = 0
    inside = False
    while i < len(wanted) or j < len(stops):
        best = costs[i][j]
        cost, ni, nj = next(move for move in _moves(wanted, stops, i, j) if move[0] + costs[move[1]][move[2]] == best)
        gap = i < len(wanted) and wanted[i].state == GAP
        stop = stops[j] if nj > j else None
        if gap:
            if stop is not None or not inside:
                yield Pair(wanted[i] if not inside else None, stop, fits=True)
            inside = ni == i
        else:
            yield Pair(wanted[i] if ni > i else None, stop, fits=not cost)
        i, j = ni, nj


def compared(left: object, right: object) -> list[str] | None:
    """The lines for a comparison of a path with a text, whichever stands first, or of two paths; None for anything else."""
    taken, other = (left, right) if isinstance(left, TakenPath) else (right, left)
    if not isinstance(taken, TakenPath):
        return None
    if isinstance(other, TakenPath):
        return difference(other.stops, taken.stops)
    return difference(expected(other), taken.stops) if isinstance(other, str) else None
