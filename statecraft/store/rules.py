"""The rules that no constraint can say: what may never change, and what never goes back. Each database has triggers for
them, written in its own language."""

from __future__ import annotations

from dataclasses import dataclass

from statecraft.store import fleet, tables


@dataclass(frozen=True, slots=True)
class Rule:
    """A change of a row that is refused."""

    name: str
    change: str
    """`UPDATE`, `DELETE`, or `UPDATE OF` columns."""
    table: str
    message: str
    when: str | None = None
    """A condition over the rows OLD and NEW; None: always."""


KEPT = tuple(table.name for table in (*tables.APPEND_ONLY, *fleet.APPEND_ONLY))
"""Tables whose rows are written once."""

STAYING = (*KEPT, "runs", "reviews", "call_reviews")
"""Tables whose rows are never deleted."""

_asked = [column.name for column in tables.call_reviews.columns if column.name not in tables.ANSWER]

RULES = (
    *(Rule(f"{name}_no_update", "UPDATE", name, f"{name} is append-only") for name in KEPT),
    *(Rule(f"{name}_no_delete", "DELETE", name, f"{name} rows stay") for name in STAYING),
    Rule(
        "runs_go_forward",
        "UPDATE",
        "runs",
        "a run goes forward only",
        "NEW.epoch < OLD.epoch OR NEW.seq < OLD.seq OR NEW.run_id <> OLD.run_id OR NEW.no <> OLD.no",
    ),
    Rule("runs_stay_closed", "UPDATE", "runs", "the run is closed", "OLD.status IN ('done', 'failed', 'cancelled')"),
    Rule("reviews_decided_once", "UPDATE", "reviews", "the review is decided already", "OLD.decision IS NOT NULL"),
    Rule(
        "reviews_keep_question",
        "UPDATE OF run_id, seq, state, question, show, events, requested_at, expires_at, hash",
        "reviews",
        "a review keeps its question",
    ),
    Rule("call_reviews_decided_once", "UPDATE", "call_reviews", "the review is decided already", "OLD.decision IS NOT NULL"),
    Rule("call_reviews_keep_question", f"UPDATE OF {', '.join(_asked)}", "call_reviews", "a review keeps its question"),
)
