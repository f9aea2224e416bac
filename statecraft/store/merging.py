"""How rows of one statement are put in order, and made one where they are about the same thing, before all are written at once.

Writers that meet at the same rows take them in the same order, so that none waits for another crosswise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Row = tuple[Any, ...]
Merge = Callable[[Sequence[Row]], Sequence[Row]]


def last(rows: Sequence[Row]) -> Sequence[Row]:
    """Of rows with the same first value the last one, in the order of that value."""
    return [row for _, row in sorted({row[0]: row for row in rows}.items())]


def summed(rows: Sequence[Row]) -> Sequence[Row]:
    """As `last`, with the second values added up."""
    sums: dict[Any, int] = {}
    for key, amount, _ in rows:
        sums[key] = sums.get(key, 0) + amount
    return [(key, amount, None) for key, amount in sorted(sums.items())]


def first(rows: Sequence[Row]) -> Sequence[Row]:
    """Of equal rows one."""
    return list(dict.fromkeys(rows))


def ordered(place: int) -> Merge:
    """By the text at a place; those that have none come first, in their own order."""
    return lambda rows: sorted(rows, key=lambda row: row[place] or "")
