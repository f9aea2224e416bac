"""The budgets of a held run: what its calls draw on, what its child runs draw on with it, and how far each is used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from statecraft.calls.budget import TIMED
from statecraft.engine.held import Held
from statecraft.machine.budget import Budget, public, said
from statecraft.records import Draw, Json


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit of one of the run's own budgets, and what is used of it."""

    scope: str
    """`run` or `state`."""
    unit: str
    used: int
    limit: int
    warn_at: float

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self.used >= self.limit

    @property
    def low(self) -> bool:
        """Whether its warning is due."""
        return self.used >= self.limit * self.warn_at

    @property
    def amounts(self) -> tuple[float, float]:
        """(used, limit) as events tell them."""
        return public(self.unit, self.used), public(self.unit, self.limit)

    def __str__(self) -> str:
        return f"{said(self.unit, self.used)} of {said(self.unit, self.limit)} of the {self.scope} are used"


def own_draws(held: Held) -> tuple[Draw, ...]:
    """The run's own budget, that of the state it is in, and that of this visit."""
    budget, spec = held.definition.budget, held.definition.states[held.state]
    state, visit = spec.budget, spec.per_visit
    if budget is None and state is None and visit is None:
        return ()
    found = []
    if budget is not None:
        limits = dict(budget.limits)
        if budget.wall_micros is not None:
            limits["wall"], limits["until"] = budget.wall_micros, held.began_at + budget.wall_micros
        found.append(Draw(_run_meter(held), limits))
    if state is not None:
        found.append(Draw(_state_meter(held), state.limits))
    if visit is not None:
        found.append(Draw(f"visit:{held.id}:{held.visit.first}", visit.limits))
    return tuple(found)


def inherited(held: Held) -> str | None:
    """What a child run started now is given to draw on besides its own budgets (`port.Start.draws`): the budgets of this
    run, of the state it is in, of this visit, and of its own ancestors. None if there are none."""
    draws = (*own_draws(held), *held.draws)
    return json.dumps([[draw.meter, dict(draw.limits)] for draw in draws], separators=(",", ":")) if draws else None


def limited(held: Held) -> bool:
    """Whether any budget bounds the run where it stands: its own, its state's or an ancestor's. Most runs have none, and
    then a step need not look any further."""
    definition = held.definition
    return definition.budget is not None or bool(held.draws) or definition.states[held.state].budget is not None


def standings(held: Held, now: int) -> Iterator[Standing]:
    """Every limit of the run's and its state's budget, as far as this process knows.

    A visit that has begun is let finish, since what its calls and child runs used may have been what reached the limit,
    and they answer again from the journal: until then only time counts.
    """
    begun = bool(held.visit.recorded or held.visit.tried or held.visit.has_children)
    budget, state = held.definition.budget, held.definition.states[held.state].budget
    if budget is not None:
        if budget.wall_micros is not None:
            yield Standing("run", "wall", now - held.began_at, budget.wall_micros, budget.warn_at)
        if not begun:
            yield from _metered(held, "run", budget, _run_meter(held))
    if state is not None and not begun:
        yield from _metered(held, "state", state, _state_meter(held))


def _metered(held: Held, scope: str, budget: Budget, meter: str) -> Iterator[Standing]:
    for unit, limit in budget.limits.items():
        used = held.used.get(f"{meter}:{unit}", 0)
        if scope == "run" and unit == "tokens":
            used = max(used, held.usage.total)
        yield Standing(scope, unit, used, limit, budget.warn_at)


def ends_at(held: Held) -> Draw | None:
    """The budget whose time is over first: the run's own or an ancestor's. None if none is about time.

    Once a `BudgetExhausted` has moved the run, it may have been this one: but not if its end comes only in this visit.
    """
    if held.definition.budget is None and not held.draws:
        return None
    timed = [draw for draw in (*own_draws(held), *held.draws) if "until" in draw.limits]
    if "budget_exhausted" in held.events:
        timed = [draw for draw in timed if held.entered_at < draw.limits["until"]]
    return min(timed, key=lambda draw: draw.limits["until"], default=None)


def _run_meter(held: Held) -> str:
    return f"run:{held.id}"


def _state_meter(held: Held) -> str:
    return f"state:{held.id}:{held.state}"


def metered(draw: Draw) -> list[str]:
    """Names of a draw's meters."""
    return [f"{draw.meter}:{unit}" for unit in draw.limits if unit not in TIMED]


def remaining(draws: Sequence[Draw], used: Mapping[str, int], now: int) -> dict[str, Json]:
    """The least that is left of each unit, and the largest share that is used of any budget."""
    left: dict[str, float] = {}
    share = 0.0
    for draw in draws:
        spent = {unit: used.get(f"{draw.meter}:{unit}", 0) for unit in draw.limits if unit not in TIMED}
        if "until" in draw.limits:
            spent["wall"] = now - draw.limits["until"] + draw.limits["wall"]
        for unit, amount in spent.items():
            limit = draw.limits[unit]
            rest = public(unit, max(0, limit - amount))
            left[unit] = min(rest, left.get(unit, rest))
            share = max(share, amount / limit if limit else 0.0)  # 0: a visit that makes no calls.
    return {"left": left, "share": share}
