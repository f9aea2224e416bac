"""Bounds, looked at before each handler runs. Pure: the same run at the same instant gives the same answer."""

from __future__ import annotations

from statecraft.calls.budget import scope_of
from statecraft.clock import micros
from statecraft.engine.budgets import Standing, ends_at, limited, standings
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

    The deadline, the step limit and the budgets speak once per run (a budget's time once more, if it was another that spoke
    before it): where their rows lead, handlers run again, so that a declared row can still produce a partial result.
    `overrun` bounds what follows.
    """
    definition, state = held.definition, held.definition.states[held.state]
    if held.deadline_at is not None and now >= held.deadline_at and "deadline_passed" not in held.events:
        return DeadlinePassed(message=f"the run's deadline passed in {held.state}")
    if held.seq >= definition.max_steps + held.extra_steps and "steps_exhausted" not in held.events:
        return StepsExhausted(steps=held.seq, message=f"{held.seq} steps are used up")
    if state.max_visits is not None and held.visits[held.state] > state.max_visits:
        return VisitsExhausted(
            state=held.state, visits=state.max_visits, message=f"{held.state} was visited {state.max_visits} times"
        )
    if state.kind == "review" and state.timeout is not None and now >= held.entered_at + micros(state.timeout):
        return ReviewExpired(state=held.state, message=f"nobody decided {held.state} in {state.timeout}")
    return _budget(held, now) if limited(held) else None


def _budget(held: Held, now: int) -> SystemEvent | None:
    if "budget_exhausted" not in held.events:
        exhausted = next((each for each in standings(held, now) if each.exhausted), None)
        if exhausted is not None:
            return _exhausted(exhausted)
    if (over := time_over(held, now)) is not None:
        return over
    # A warning without a row is only reported: the first state that declares one takes it.
    return warning(held, now) if event_name(BudgetWarning) in held.definition.enabled(held.state) else None


def _exhausted(standing: Standing) -> BudgetExhausted:
    used, limit = standing.amounts
    return BudgetExhausted(used=used, limit=limit, unit=standing.unit, scope=standing.scope, message=str(standing))


def warning(held: Held, now: int) -> BudgetWarning | None:
    """The warning that is due, if the run was not warned before. Whether its state has a row for it is not asked."""
    if "budget_warning" in held.events:
        return None
    low = next((each for each in standings(held, now) if each.low), None)
    if low is None:
        return None
    used, limit = low.amounts
    return BudgetWarning(used=used, limit=limit, unit=low.unit, scope=low.scope)


def time_over(held: Held, now: int) -> BudgetExhausted | None:
    """The end of the wall time of the run or of an ancestor, if it has come."""
    draw = ends_at(held)
    if draw is None or now < draw.limits["until"]:
        return None
    scope, wall = scope_of(draw.meter, held.id), draw.limits["wall"]
    return _exhausted(Standing(scope, "wall", now - draw.limits["until"] + wall, wall, 1))


def wakes_at(held: Held) -> int | None:
    """When a parked run must be looked at because a bound of the whole run is reached; None if none is about time."""
    ends = [held.deadline_at] if held.deadline_at is not None and "deadline_passed" not in held.events else []
    if (draw := ends_at(held)) is not None:
        ends.append(draw.limits["until"])
    return min(ends, default=None)


def overrun(held: Held) -> bool:
    """Whether even the steps granted after `StepsExhausted` are used up: one more per state of the machine."""
    return held.seq >= held.definition.max_steps + held.extra_steps + len(held.definition.states)


def time_left(held: Held, now: int) -> tuple[float | None, str]:
    """Seconds a handler may run from `now`, and which bound that is: `state`, `deadline` or `budget`. None: for ever."""
    state = held.definition.states[held.state]
    ends: list[tuple[int, str]] = []
    if state.timeout is not None and state.kind == "work":
        ends.append((held.entered_at + micros(state.timeout), "state"))
    if held.deadline_at is not None and "deadline_passed" not in held.events:
        ends.append((held.deadline_at, "deadline"))
    if (draw := ends_at(held)) is not None:
        ends.append((draw.limits["until"], "budget"))
    if not ends:
        return None, ""
    end, which = min(ends)
    return max(0.0, (end - now) / 1_000_000), which
