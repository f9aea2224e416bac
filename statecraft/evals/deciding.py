"""The people of a case: what they decide when its run asks."""

from __future__ import annotations

from statecraft.decisions import Decision
from statecraft.errors import AlreadyDecided, NotWaiting
from statecraft.evals.case import Prepared
from statecraft.machine.event import Event
from statecraft.records import ReviewRecord, RunRecord
from statecraft.runtime import Runtime

BY = "eval"
"""In whose name decisions are made."""


async def decide(rt: Runtime, run: RunRecord, case: Prepared) -> bool:
    """Answer one open question of a run as its case says. False if the case has no answer to any of them.

    The n-th question of a review state, or about calls of a tool, has the n-th answer; which is the n-th is read from the record,
    so that an interrupted trial goes on with the right one.
    """
    every = await rt.reviews(run.id)
    for review in every:
        if review.decided_at is not None:
            continue
        asks = _asks(review)
        answers = case.answers.get(asks, ())
        number = sum(other.decided_at is not None and _asks(other) == asks for other in every)
        if number < len(answers):
            await _answer(rt, review, answers[number])
            return True
    return False


def _asks(review: ReviewRecord) -> str:
    """What a question is about: a review state, or a tool."""
    return review.state if review.kind == "state" else review.tool or ""


async def _answer(rt: Runtime, review: ReviewRecord, answer: Event | Decision) -> None:
    try:
        if isinstance(answer, Event):
            await rt.send(review.run_id, answer, by=BY)
        else:
            await rt.decide(review.run_id, answer, by=BY, review=review.id)
    except (AlreadyDecided, NotWaiting):
        pass  # Another evaluation of the same suite was faster; it gave the same answer.
