"""Did this call happen? A `once` call that began and left no outcome is put to a person, never run again blindly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from statecraft.calls.ask import Patience, Question, ask, asked, expired, wait_again
from statecraft.calls.call import Action, Call, Next, Reply
from statecraft.calls.park import Park
from statecraft.clock import instant
from statecraft.decisions import DOUBT
from statecraft.errors import CallError, ErrorKind, InDoubt
from statecraft.records import ReviewRecord


class Doubt:
    """The middleware. Each attempt in doubt is a question of its own; without it (or for a call that is not a tool's)
    the retry refuses such a call with `InDoubt`."""

    def __init__(self, patience: Patience, bill: Callable[[Call], Reply] | None = None) -> None:
        self._patience = patience
        self._bill = bill or _for_nothing
        """What an attempt costs that was made for all anybody knows."""

    async def __call__(self, call: Call, following: Next) -> Reply:
        if not call.once or call.action is None:
            return await following(call)
        attempts = call.visit.attempts(call)
        if not attempts or attempts[-1].kind != "begun":
            return await self._attempt(call, call.action, following)
        begun = attempts[-1]
        review = next((review for review in asked(call, "doubt") if review.show["attempt"] == begun.attempt), None)
        if review is None:
            raise self._ask(call, call.action, begun.attempt, begun.at)
        if review.decision == "did_not_happen":
            return await self._attempt(replace(call, attempt=begun.attempt + 1), call.action, following)
        if review.decision == "happened":
            answer = json.dumps(review.answer, separators=(",", ":"), ensure_ascii=False)
            return replace(self._bill(call), result=answer, attempts=begun.attempt)
        if review.decision is None and not expired(call, review):
            raise await wait_again(call, review)
        call.visit.owed[(call.digest, call.occurrence)] = self._bill(call).charges
        raise InDoubt(
            f"{call.name} began at {begun.at.isoformat()} and its outcome is unknown; {_said(review)}; "
            f"it is not run again (idempotency key {call.key})",
            kind=ErrorKind.IN_DOUBT,
            name=call.name,
            attempts=begun.attempt,
        )

    async def _attempt(self, call: Call, action: Action, following: Next) -> Reply:
        """Make it. One that did not answer in time may take effect all the same: that is no failure, but a doubt."""
        began = instant(call.visit.clock.now())
        try:
            return await following(call)
        except CallError as error:
            if error.kind is not ErrorKind.TIMEOUT:
                raise
            raise self._ask(call, action, error.attempts, began) from error

    def _ask(self, call: Call, action: Action, attempt: int, began: datetime) -> Park:
        """Put the question with what a person needs who must find out whether the call took effect."""
        shown = {
            "began": began.isoformat(),
            "attempt": attempt,
            "key": call.key,
            "risk": action.risk,
            "state": "" if call.scope is None else call.scope.state,
        }
        text = f"Did {action.tool} take effect? It began, and its outcome is unknown."
        return ask(call, action, Question("doubt", text, shown, DOUBT), self._patience)


def _for_nothing(_call: Call) -> Reply:
    return Reply("null")


def _said(review: ReviewRecord) -> str:
    if review.decision is None:
        return "nobody could say in time whether it took effect"
    return f"{review.decided_by} gave up on it" + (f": {review.note}" if review.note else "")
