"""The most expensive run that a machine allows: its steps, calls, tokens, money and time, told before the first run.

What a visit may cost is declared (`per_visit`, `budget` and `timeout` of its state), and how often a state is visited
follows from the table and the bounds. So the most expensive run is the longest path through the machine's situations. The
handlers' code is not looked at: any declared answer may come at any time, and any guard may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from statecraft.clock import micros
from statecraft.machine.budget import public
from statecraft.machine.caps import METRICS, SPENT, Metric, of_nth, of_run, of_state
from statecraft.machine.definition import Definition
from statecraft.machine.longest import Row
from statecraft.machine.product import MOST
from statecraft.machine.search import Search


@dataclass(frozen=True, slots=True)
class Bound:
    """The most of one metric that a run may use."""

    value: float | None
    """Steps, calls, tokens; dollars; seconds. None if nothing bounds it."""
    exact: bool
    """Whether a run along the table and under the bounds can come to it. False: it is never less, but may be more."""
    witness: tuple[Row, ...] = ()
    """The rows of such a run, as (source, event, target); empty if it is not exact. Where nothing bounds a visit: of the run
    that makes most such visits (for `wall`: one that makes any)."""
    by: Literal["path", "budget", "nothing"] = "path"
    """What bounds it: what the visits of the longest path may use, or the machine's budget."""
    states: tuple[str, ...] = ()
    """States in which a visit is not bounded in this metric, if one of them can be reached."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A bound of the machine that its most expensive run comes to."""

    bound: Literal["max_steps", "deadline", "budget", "state budget"]
    metric: Metric
    limit: float
    """In the metric's unit."""
    worst: float | None
    """What a run could use without it; None without end."""
    event: str
    """What the engine raises then."""
    rows: tuple[Row, ...]
    """The rows that take it, and a budget's warning; a state without one leaves the run dead."""
    state: str = ""
    """Whose budget, for a state's."""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """What a run may use at most, by metric. A person's redrive may grant more."""

    machine: str
    steps: Bound
    """Moves, the ones after `max_steps` included."""
    calls: Bound
    """Of models and tools, as budgets count them: with failed attempts that may have been billed, and child runs'."""
    tokens: Bound
    money: Bound
    wall: Bound
    """Time in visits: nobody waits for a worker."""
    reaches: tuple[Reached, ...] = ()
    """Bounds that are below what the machine could use without them."""
    situations: int = 0
    """How many were looked at."""

    def of(self, metric: Metric) -> Bound:
        """The bound of one metric."""
        found: Bound = getattr(self, metric)
        return found

    @property
    def exact(self) -> bool:
        """Whether every bound is."""
        return all(self.of(metric).exact for metric in METRICS)

    def __str__(self) -> str:
        from statecraft.machine.worst_text import worst_lines

        return "\n".join(worst_lines(self))


def worst_case(definition: Definition, *, most: int = MOST) -> WorstCase:
    """The most expensive run of a machine, by metric: exact if it has at most `most` situations."""
    search = Search(definition, most)
    bounds = {metric: _bound(definition, search, metric) for metric in METRICS}
    reaches = (*_reached_steps(definition, search), *_reached_time(definition, search), *_reached_budgets(definition, search))
    return WorstCase(definition.name, **bounds, reaches=reaches, situations=search.situations)


def unbounded(worst: WorstCase) -> Mapping[Metric, tuple[str, ...]]:
    """The states that leave a metric without any bound, by metric; empty if every metric has one."""
    return {metric: bound.states for metric in METRICS if (bound := worst.of(metric)).value is None}


def _bound(definition: Definition, search: Search, metric: Metric) -> Bound:
    found, exact = search.longest(metric)
    limit = of_run(definition, metric)
    work = [state for state in definition.states.values() if state.kind != "final"]
    open_ended = tuple(state.name for state in work if of_nth(state, metric, 1) == inf)
    if min(found.amount, limit) == inf:
        return Bound(None, exact, found.moves, "nothing", open_ended)
    if limit < found.amount:
        return Bound(_told(metric, limit), exact, found.moves, "budget", open_ended if found.amount == inf else ())
    return Bound(_told(metric, found.amount), exact, found.moves)


def _told(metric: Metric, amount: float) -> float:
    whole = int(amount)
    return public(metric, whole) if metric in ("money", "wall") else whole


def _maybe(metric: Metric, amount: float) -> float | None:
    return None if amount == inf else _told(metric, amount)


# --- bounds that are below ---------------------------------------------------------------------------------------------


def _rows(definition: Definition, *events: str, state: str = "") -> tuple[Row, ...]:
    return tuple(edge for edge in definition.edges if edge[1] in events and edge[0] and state in ("", edge[0]))


def _reached_steps(definition: Definition, search: Search) -> tuple[Reached, ...]:
    if not search.stops:
        return ()
    limit, event = definition.max_steps, "steps_exhausted"
    return (Reached("max_steps", "steps", limit, _maybe("steps", search.free_steps), event, _rows(definition, event)),)


def _reached_time(definition: Definition, search: Search) -> tuple[Reached, ...]:
    found, wall = list[Reached](), None if definition.budget is None else definition.budget.wall_micros
    free = search.free_time()
    if definition.deadline is not None and free >= (limit := micros(definition.deadline)):
        event, worst = "deadline_passed", _maybe("wall", free)
        found.append(Reached("deadline", "wall", _told("wall", limit), worst, event, _rows(definition, event)))
    if wall is not None and free >= wall:
        found.append(_reached(definition, "wall", wall, free))
    return tuple(found)


def _reached_budgets(definition: Definition, search: Search) -> tuple[Reached, ...]:
    found = list[Reached]()
    for metric in SPENT:
        limit, amount = of_run(definition, metric), search.longest(metric)[0].amount
        if limit < amount:
            found.append(_reached(definition, metric, limit, amount))
        for name, state in definition.states.items():
            whole = of_state(state, metric)
            if whole < inf and (used := search.of_state(name, metric)) > whole:
                found.append(_reached(definition, metric, whole, used, name))
    return tuple(found)


def _reached(definition: Definition, metric: Metric, limit: float, worst: float, state: str = "") -> Reached:
    rows = _rows(definition, "budget_warning", "budget_exhausted", state=state)
    bound: Literal["budget", "state budget"] = "state budget" if state else "budget"
    return Reached(bound, metric, _told(metric, limit), _maybe(metric, worst), "budget_exhausted", rows, state)
