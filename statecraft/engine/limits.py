"""Bounds, looked at before each handler runs. Pure: the same run at the same instant gives the same answer."""

from __future__ import annotations

from statecraft.clock import micros
from statecraft.engine.held import Held
from statecraft.machine.event import (
    BudgetExhausted,
    BudgetWarning,
    DeadlinePassed,
    ReviewExpired,
    StepsExhausted,
    SystemEvent,
    VisitsExhausted,
    event_name,
)


def limit(held: Held, now: int) -> SystemEvent | None:
    """The system event that takes the place of the handler in this visit, or None to let it run.

    The deadline, the step limit and the budget speak once per run: where their rows lead, handlers run again, so that
    a declared row can still produce a partial result. `overrun` bounds what follows.
    """
    definition, state = held.definition, held.definition.states[held.state]
    if held.deadline_at is not None and now >= held.deadline_at and "deadline_passed" not in held.events:
        return DeadlinePassed(message=f"the run's deadline passed in {held.state}")
    if held.seq >= definition.max_steps and "steps_exhausted" not in held.events:
        return StepsExhausted(steps=held.seq, message=f"{held.seq} steps are used up")
    if state.max_visits is not None and held.visits[held.state] > state.max_visits:
        return VisitsExhausted(
            state=held.state, visits=state.max_visits, message=f"{held.state} was visited {state.max_visits} times"
        )
    if state.kind == "review" and state.timeout is not None and now >= held.entered_at + micros(state.timeout):
        return ReviewExpired(state=held.state, message=f"nobody decided {held.state} in {state.timeout}")
    return _budget(held)


def _budget(held: Held) -> SystemEvent | None:
    budget = held.definition.budget
    if budget is None:
        return None
    used = held.usage.total
    if used >= budget.tokens and "budget_exhausted" not in held.events:
        return BudgetExhausted(used=used, limit=budget.tokens, message=f"{used} of {budget.tokens} tokens are used")
    if used >= budget.tokens * budget.warn_at and "budget_warning" not in held.events:
        warning = BudgetWarning(used=used, limit=budget.tokens)
        # A warning without a row is only reported: the first state that declares one takes it.
        return warning if event_name(BudgetWarning) in held.definition.enabled(held.state) else None
    return None


def overrun(held: Held) -> bool:
    """Whether even the steps granted after `StepsExhausted` are used up: one more per state of the machine."""
    return held.seq >= held.definition.max_steps + len(held.definition.states)


def time_left(held: Held, now: int) -> tuple[float | None, str]:
    """Seconds a handler may run from `now`, and which bound that is: `state` or `deadline`. None: for ever."""
    state = held.definition.states[held.state]
    ends: list[tuple[int, str]] = []
    if state.timeout is not None and state.kind == "work":
        ends.append((held.entered_at + micros(state.timeout), "state"))
    if held.deadline_at is not None and "deadline_passed" not in held.events:
        ends.append((held.deadline_at, "deadline"))
    if not ends:
        return None, ""
    end, which = min(ends)
    return max(0.0, (end - now) / 1_000_000), which
