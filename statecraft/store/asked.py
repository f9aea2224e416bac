"""Reads of questions to people: those of review states, and those about calls."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from statecraft.records import CLOSED, ReviewRecord
from statecraft.store import rows
from statecraft.store import tables as t
from statecraft.store.statements import Query
from statecraft.store.visits import of_open_visit

OF_VISIT = Query(
    sa.select(t.call_reviews)
    .where(t.call_reviews.c.run_id == sa.bindparam("run_id"), t.call_reviews.c.seq >= sa.bindparam("seq"))
    .order_by(t.call_reviews.c.round, t.call_reviews.c.requested_at),
    "run_id",
    "seq",
)
"""Questions about calls of the visits from a step on, in order of rounds."""


def reviews(sql: sa.Connection, run_id: bytes | None, open_only: bool) -> list[ReviewRecord]:
    """Questions to people, oldest first. Open: undecided, the run still stands there, and the call has no outcome."""
    of_states, of_calls = sa.select(t.reviews), rows.CALL_REVIEWS
    if run_id is not None:
        of_states = of_states.where(t.reviews.c.run_id == run_id)
        of_calls = of_calls.where(t.call_reviews.c.run_id == run_id)
    if open_only:
        of_states, of_calls = of_open(of_states, t.reviews), of_open(of_calls, t.call_reviews)
    found = [rows.review_record(row) for row in sql.execute(of_states)]
    found += [rows.call_review_record(row, row.state) for row in sql.execute(of_calls)]
    found.sort(key=lambda review: (review.requested_at, review.run_id, review.seq))
    return found


def of_open(query: sa.Select[*tuple[Any, ...]], table: sa.Table) -> sa.Select[*tuple[Any, ...]]:
    """The rows of a query of `reviews` or `call_reviews` that are open."""
    # The question of a state is asked again by a migration, since whoever decides it makes the step after it.
    here = t.runs.c.seq == table.c.seq if table is t.reviews else of_open_visit(table.c.seq)
    same = sa.and_(t.runs.c.run_id == table.c.run_id, here)
    going = t.runs.c.status.not_in([str(status) for status in CLOSED])
    query = query.join(t.runs, same).where(table.c.decision.is_(None), going)
    return query if table is t.reviews else query.where(~_answered().exists())


def _answered() -> sa.Select[*tuple[Any, ...]]:
    asked = t.call_reviews.c
    same = (t.calls.c[name] == asked[name] for name in ("run_id", "digest", "occurrence"))
    return sa.select(t.calls.c.idx).where(*same, t.calls.c.seq >= asked.seq)
