"""What one visit may cost at most, by what its state declares. Amounts are whole: calls, tokens, billionths of a dollar,
microseconds. What nothing bounds is infinite."""

from __future__ import annotations

from math import ceil, inf
from typing import Any, Final, Literal

from statecraft.clock import micros
from statecraft.errors import ConfigError
from statecraft.machine.budget import Budget, nothing
from statecraft.machine.definition import Definition, StateSpec

Metric = Literal["steps", "calls", "tokens", "money", "wall"]
METRICS: Final[tuple[Metric, ...]] = ("steps", "calls", "tokens", "money", "wall")
SPENT: Final[tuple[Metric, ...]] = ("calls", "tokens", "money")
"""Those that budgets are about."""

PerVisit = Budget | Literal[0] | None
"""What one visit may spend: 0 is nothing, None is whatever other budgets leave."""


def checked(given: PerVisit) -> Budget | None:
    """A declared cap as a budget. Raises `ConfigError` for one that cannot hold for a visit."""
    found: Any = given
    if found is None:
        return None
    if isinstance(found, int) and not isinstance(found, bool) and found == 0:
        return nothing()
    if not isinstance(found, Budget):
        raise ConfigError(f"per_visit is a Budget, or 0 for a state that makes no calls, not {found!r}")
    if found.wall is not None:
        raise ConfigError("per_visit has no wall: bound the time of a visit with timeout=")
    return found


def of_visit(state: StateSpec, metric: Metric) -> float:
    """The most that one visit may use, whatever its state's other visits used."""
    if metric == "steps":
        return 1
    if metric == "wall":
        return inf if state.timeout is None else micros(state.timeout)
    if state.kind == "review":
        return 0  # It has no tools, runs no machines, and may ask no model.
    limits = {} if state.per_visit is None else state.per_visit.limits
    return 0 if limits.get("calls") == 0 else limits.get(metric, inf)


def of_state(state: StateSpec, metric: Metric) -> float:
    """The most that all visits of a state may use together."""
    return inf if state.budget is None else state.budget.limits.get(metric, inf)


def of_run(definition: Definition, metric: Metric) -> float:
    """The most that a run may use together, by its machine's budget."""
    return inf if definition.budget is None else definition.budget.limits.get(metric, inf)


def of_nth(state: StateSpec, metric: Metric, nth: int) -> float:
    """The most that visit number `nth` (from 1) adds, if those before it used all they may."""
    visit, whole = of_visit(state, metric), of_state(state, metric)
    if whole == inf:
        return visit
    left = whole - (nth - 1) * visit if nth > 1 else whole
    return max(0, min(visit, left))


def telling(state: StateSpec) -> int:
    """After how many visits the state's budget is used up in every metric that it limits, if each uses all it may. 0
    without such a budget: then one visit is like the other."""
    limited: list[Metric] = [metric for metric in SPENT if of_state(state, metric) < inf and of_visit(state, metric) > 0]
    return max((_used_up(state, metric) for metric in limited), default=0)


def _used_up(state: StateSpec, metric: Metric) -> int:
    visit = of_visit(state, metric)
    return 1 if visit == inf else ceil(of_state(state, metric) / visit)
