"""Two clocks: what a write says by ours, moved to the database's, and what it answers, moved back.

Only what decides whether a run may be claimed is moved: leases and due times. What is recorded stays as it was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from statecraft.records import RunRecord
from statecraft.store.port import Claim, ClaimDue, Renew
from statecraft.store.statements import RENEW, TAKE, Row, Statement

_MOVED = frozenset({"lease_until", "p_lease_until", "due_at", "p_due_at", "p_now"})
_ALREADY = frozenset({TAKE, RENEW})
"""Made of writes that were moved as a whole."""


def later(what: Any, micros: int) -> Any:
    """A write that claims or renews, or an answer, by a clock that is `micros` ahead. Anything else stays as it is."""
    match what:
        case Claim() | ClaimDue():
            return replace(what, now=what.now + micros, lease_until=what.lease_until + micros)
        case Renew():
            return replace(what, lease_until=what.lease_until + micros)
        case RunRecord():
            by = timedelta(microseconds=micros)
            lease_until = None if what.lease_until is None else what.lease_until + by
            return replace(what, lease_until=lease_until, due_at=None if what.due_at is None else what.due_at + by)
        case list():
            return [later(one, micros) for one in what]
        case _:
            return what


def instants(statement: Statement, dialect: str) -> tuple[int, ...]:
    """Which values of its rows are leases or due times of runs."""
    sql = statement.spoken(dialect)
    if statement in _ALREADY or not isinstance(sql.table, sa.Table) or sql.table.name != "runs":
        return ()
    return tuple(place for place, name in enumerate(statement.order) if name in _MOVED)


def moved(rows: Sequence[Row], places: tuple[int, ...], micros: int) -> list[Row]:
    """The rows with the values at these places moved."""

    def one(row: Row) -> Row:
        values = list(row)
        for place in places:
            if values[place] is not None:
                values[place] += micros
        return tuple(values)

    return [one(row) for row in rows]
