"""Who answers the questions of a run that nobody watches: reviews, gates, and calls in doubt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence

from statecraft.decisions import Approve, Decision, DidNotHappen, Happened
from statecraft.errors import AlreadyDecided, DecisionLate, NotWaiting, RunClosed, RunHeld, Superseded
from statecraft.machine.event import Event
from statecraft.records import ReviewRecord
from statecraft.runtime import Runtime
from statecraft.testing.ledger import Ledger

Answer = Event | Decision
"""What a person says to a review state (an event), or about a call (a decision)."""
Decisions = Mapping[str, Answer | Sequence[Answer]] | Callable[[ReviewRecord], Answer | None]
"""By review state or tool, what a person answers: always, or the first, second ... time in a run; or a function of the
review. None, or nothing: what `Person` says by itself."""
BY = "crash test"
"""In whose name questions are decided."""


class Person:
    """Answers every question at once: as told; else approves calls, and looks into the ledger what became of one in doubt."""

    def __init__(self, decisions: Decisions | None, ledger: Ledger) -> None:
        self._decisions, self._ledger = decisions or {}, ledger

    async def decide(self, runtime: Runtime, run_id: str) -> None:
        """Answer all open questions of a run. Raises `AssertionError` for a review state that nobody said how to answer."""
        for review in await runtime.reviews(run_id, open_only=True):
            answer = await self._answer(runtime, review)
            # What changed meanwhile asks anew, or needs no answer any more.
            with contextlib.suppress(AlreadyDecided, DecisionLate, NotWaiting, RunClosed, RunHeld, Superseded):
                if isinstance(answer, Event):
                    await runtime.send(run_id, answer, by=BY)
                else:
                    await runtime.decide(run_id, answer, by=BY, review=review.id)

    async def _answer(self, runtime: Runtime, review: ReviewRecord) -> Answer:
        if callable(self._decisions):
            given = self._decisions(review)
        else:
            given = await self._listed(runtime, review, self._decisions)
        return self._own(review) if given is None else given

    @staticmethod
    async def _listed(
        runtime: Runtime, review: ReviewRecord, decisions: Mapping[str, Answer | Sequence[Answer]]
    ) -> Answer | None:
        name = _name(review)
        given = None if review.kind == "doubt" else decisions.get(name)
        if not isinstance(given, Sequence):
            return given
        before = [
            each
            for each in await runtime.reviews(review.run_id)
            if each.decision and (each.kind, _name(each)) == (review.kind, name)
        ]
        if len(before) >= len(given):
            raise AssertionError(f"{name} asks for the {len(before) + 1}. time, but decisions[{name!r}] has {len(given)}")
        return given[len(before)]

    def _own(self, review: ReviewRecord) -> Answer:
        if review.kind == "gate":
            return Approve()
        if review.kind == "doubt":
            result = self._ledger.results.get(review.show["key"])
            return DidNotHappen() if result is None else Happened(json.loads(result))
        events = " or ".join(review.events)
        raise AssertionError(f"{review.state} asks a person for {events}; say which: decisions={{{review.state!r}: ...}}")


def _name(review: ReviewRecord) -> str:
    return review.state if review.kind == "state" else str(review.tool)
