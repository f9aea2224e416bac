"""A question to a person about one call: put once, written with the park that waits for the answer, reminded of once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from statecraft.calls.call import Action, Call, canonical
from statecraft.calls.park import Park
from statecraft.clock import micros, stamp
from statecraft.records import Json, ReviewRecord, Waiting
from statecraft.store.port import CallReview

PAGE = 500
"""Entries of a run's feed read at a time, when looking whether a reminder was said."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a question waits for its answer."""

    expires: timedelta
    remind_after: timedelta | None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one action."""

    kind: str
    """`gate` or `doubt`."""
    text: str
    show: Mapping[str, Json]
    decisions: tuple[str, ...]


def asked(call: Call, kind: str) -> list[ReviewRecord]:
    """The questions of a kind that were put about this call before, in order of rounds."""
    return [review for review in _about(call) if review.kind == kind]


def _about(call: Call) -> list[ReviewRecord]:
    name = (call.digest.hex(), call.occurrence)
    return [review for review in call.visit.reviews if review.call is not None and review.call[:2] == name]


def ask(call: Call, action: Action, question: Question, patience: Patience) -> Park:
    """Put a new question about an action; what to raise."""
    visit, now = call.visit, call.visit.clock.now()
    expires = now + micros(patience.expires)
    remind = None if patience.remind_after is None else now + micros(patience.remind_after)
    visit.asks.append(
        CallReview(
            digest=call.digest,
            occurrence=call.occurrence,
            round=len(_about(call)),
            kind=question.kind,
            tool=action.tool,
            arguments=canonical(dict(action.arguments)),
            action=action.digest,
            question=question.text,
            show=canonical(dict(question.show)),
            decisions=question.decisions,
            requested_at=now,
            remind_at=remind,
            expires_at=expires,
        )
    )
    return visit.park(min(expires, remind or expires), Waiting.REVIEW)


def expired(call: Call, review: ReviewRecord) -> bool:
    """Whether an undecided question has had its time."""
    return review.expires_at is not None and call.visit.clock.now() >= stamp(review.expires_at)


async def wait_again(call: Call, review: ReviewRecord) -> Park:
    """Go on waiting for the answer to a question that was put before, once with a reminder; what to raise."""
    visit = call.visit
    assert review.expires_at is not None  # Every question about a call has an end.
    due = stamp(review.expires_at)
    if review.remind_at is not None:
        if visit.clock.now() < stamp(review.remind_at):
            due = min(due, stamp(review.remind_at))
        elif not await _reminded(call, review):
            since = review.requested_at.isoformat(timespec="seconds")
            visit.alerts.append(f"review {review.id} about {review.tool} has waited since {since}: {review.question}")
    return visit.park(due, Waiting.REVIEW)


async def _reminded(call: Call, review: ReviewRecord) -> bool:
    """Whether the feed has the reminder. Looked up there, since nothing else outlives the wait for a person."""
    after = 0
    while entries := await call.visit.store.feed(after, call.visit.run_id, PAGE):
        after = entries[-1].pos
        if any(entry.kind == "alert" and f"review {review.id} " in str(entry.detail.get("text")) for entry in entries):
            return True
    return False
