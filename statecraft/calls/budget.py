"""What a call may cost is set aside before it is made, and charged when it was: no cap is overshot by what runs at once.

Each attempt reserves its worst case on every budget it draws on, all or none, in one transaction of the store. Then the
reply's real usage is charged with the record of the call; a failed attempt gives its reservation back, unless it may have
been billed all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, cast

from statecraft.calls.call import Call, Next, Reply
from statecraft.calls.park import NotYet
from statecraft.clock import micros
from statecraft.errors import CallError, ConfigError, ErrorKind, OverBudget, StoreError
from statecraft.llm.prices import PriceBook, Priced
from statecraft.machine.budget import Budget, public, said
from statecraft.records import Draw, Usage
from statecraft.store.port import Amount, Charge, Reserve, Reserved, Settle

TIMED = frozenset({"until", "wall"})
"""Limits of a draw that are about time and have no meter."""


@dataclass(frozen=True, slots=True)
class TenantBudget:
    """What all runs of one tenant together may spend in each window of time.

    Every tenant whose name matches `only` has one of its own; runs started without a tenant have none. Where several
    match, each of them holds. Raises `ConfigError` for what cannot be.
    """

    budget: Budget
    per: timedelta
    """Length of the windows; they start at multiples of it since 1970 (UTC), so `days(1)` is the calendar day."""
    only: str = "*"
    """Names of tenants, with `*` and `?` as in file names."""

    def __post_init__(self) -> None:
        budget: Any = self.budget
        per: Any = self.per
        if not isinstance(budget, Budget) or budget.wall is not None:
            raise ConfigError(f"a tenant's budget is a Budget of tokens, money or calls, not {budget!r}")
        if not isinstance(per, timedelta) or per < timedelta(seconds=1):
            raise ConfigError(f"per is the length of a window, at least a second, such as days(1), not {per!r}")

    def draw(self, tenant: str, now: int) -> Draw | None:
        """The budget of a tenant in the window around `now`, in microseconds; None if it is not for this tenant."""
        if not fnmatchcase(tenant, self.only):
            return None
        length = micros(self.per)
        # The length is part of the name: an hour's window and a day's may start together, and are two budgets.
        return Draw(f"tenant:{tenant}:{now // length * length}+{length}", self.budget.limits)


def tenant_draws(tenants: Sequence[TenantBudget], tenant: str | None, now: int) -> tuple[Draw, ...]:
    """The budgets of a tenant at an instant; one per window, with the tightest limit of each unit."""
    if tenant is None or not tenants:
        return ()
    found: dict[str, dict[str, int]] = {}
    for each in tenants:
        draw = each.draw(tenant, now)
        if draw is not None:
            limits = found.setdefault(draw.meter, {})
            for unit, limit in draw.limits.items():
                limits[unit] = min(limit, limits.get(unit, limit))
    return tuple(Draw(meter, limits) for meter, limits in found.items())


class Budgets:
    """The middleware. Without a budget it only says what a call cost, and writes nothing."""

    def __init__(self, book: PriceBook, tenants: Sequence[TenantBudget] = (), shares: tuple[float, ...] = ()) -> None:
        self._book, self._tenants = book, tuple(tenants)
        self._shares = shares
        """Of which shares of a run's or a tenant's budget people are told."""

    async def __call__(self, call: Call, following: Next) -> Reply:
        if not call.dependency:
            return await following(call)
        draws = self._draws(call)
        if not draws:
            return self._priced(call, await following(call))
        most = self._most(call, draws)
        await self._reserve(call, draws, most)
        reply = self._priced(call, await self._attempt(call, following, draws, most))
        charges = self._charges(draws, _spent(reply, most))
        _note(call, {charge.meter: charge.amount for charge in charges}, add=True)
        return replace(reply, charges=charges)

    def bill(self, call: Call) -> Reply:
        """What an attempt costs that only a person can tell of: all that it may. For `calls.doubt`, once per outcome."""
        draws = self._draws(call)
        charges = self._charges(draws, self._most(call, draws)) if draws else ()
        _note(call, {charge.meter: charge.amount for charge in charges}, add=True)
        return replace(self._priced(call, Reply("null")), charges=charges)

    def _draws(self, call: Call) -> tuple[Draw, ...]:
        scope = call.scope
        if scope is None:
            return ()
        if scope.tenant is None or not self._tenants:
            return scope.draws
        return (*scope.draws, *tenant_draws(self._tenants, scope.tenant, call.visit.clock.now()))

    def _most(self, call: Call, draws: Sequence[Draw]) -> Mapping[str, int]:
        """What one attempt may use, by unit. Raises `OverBudget` if money is limited and the price is not known."""
        if not _is_model(call):
            return {"tokens": 0, "money": call.price or 0, "calls": 1}
        most = {"tokens": call.worst.total, "calls": 1}
        limited = next((draw for draw in draws if "money" in draw.limits), None)
        if limited is not None:
            priced = self._book.cost(call.name, call.worst)
            if priced is None:
                raise _unpriced(call, limited)
            most["money"] = priced.amount
        return most

    async def _reserve(self, call: Call, draws: Sequence[Draw], most: Mapping[str, int]) -> None:
        """Set the worst case aside on every budget, or raise `OverBudget`."""
        now = call.visit.clock.now()
        for draw in draws:
            if now >= draw.limits.get("until", now + 1):
                raise _too_late(call, draw, now)
        amounts = tuple(
            Amount(f"{draw.meter}:{unit}", most[unit], limit, 1.0 in self._shares and _public(draw.meter))
            for draw in draws
            for unit, limit in draw.limits.items()
            if unit not in TIMED and most[unit] > 0
        )
        if not amounts:
            return
        visit = call.visit
        asking = Reserve(visit.run_id, visit.seq, visit.epoch, call.digest, call.occurrence, amounts, now)
        try:
            answer = cast(Reserved, await visit.account(asking))
        except asyncio.CancelledError:
            await self._release(call)
            raise
        _note(call, answer.used, add=False)
        if answer.refused is not None:
            raise _too_much(call, answer.refused, answer.used.get(answer.refused.meter, 0))

    async def _attempt(self, call: Call, following: Next, draws: Sequence[Draw], most: Mapping[str, int]) -> Reply:
        """Make the attempt. If it fails, its reservation ends: charged as a whole if it may have been billed."""
        try:
            return await following(call)
        except StoreError:
            raise  # The visit is over; the next claim of the run ends its reservations.
        except Exception as error:
            charges = self._charges(draws, most) if _maybe_billed(call, error) else ()
            _note(call, {charge.meter: charge.amount for charge in charges}, add=True)
            await self._settle(call, charges)  # Last: a cancellation comes out of it when it is written.
            raise
        except BaseException:
            await self._release(call)
            raise

    async def _release(self, call: Call) -> None:
        """Give the reservation back on the way out of a cancelled handler, whose end matters more than this write."""
        with contextlib.suppress(StoreError):
            await self._settle(call, ())

    async def _settle(self, call: Call, charges: tuple[Charge, ...]) -> None:
        visit = call.visit
        now = visit.clock.now()
        await visit.account(Settle(visit.run_id, visit.seq, visit.epoch, call.digest, call.occurrence, charges, now))

    def _charges(self, draws: Sequence[Draw], spent: Mapping[str, int]) -> tuple[Charge, ...]:
        """The charges to every budget that limits a unit of which something was used."""
        return tuple(
            self._charge(draw.meter, unit, spent[unit], limit)
            for draw in draws
            for unit, limit in draw.limits.items()
            if unit not in TIMED and spent.get(unit, 0) > 0
        )

    def _charge(self, meter: str, unit: str, amount: int, limit: int) -> Charge:
        if self._shares and _public(meter):
            return Charge(f"{meter}:{unit}", amount, limit, self._shares)
        return Charge(f"{meter}:{unit}", amount)

    def _priced(self, call: Call, reply: Reply) -> Reply:
        """The reply with its cost, if a price is known."""
        if not _is_model(call):
            return reply if call.price is None else replace(reply, cost=call.price, price_source="tool")
        priced = self._cost(call, reply.model, reply.usage)
        return reply if priced is None else replace(reply, cost=priced.amount, price_source=priced.source)

    def _cost(self, call: Call, model: str | None, usage: Usage) -> Priced | None:
        """By the model that answered; by the one that was asked if nobody knows that one."""
        if model and model != call.name:
            priced = self._book.cost(model, usage)
            if priced is not None:
                return priced
        return self._book.cost(call.name, usage)


def _maybe_billed(call: Call, error: Exception) -> bool:
    """Whether a failed attempt is charged. One in doubt is billed when a person has said what became of it."""
    if isinstance(error, NotYet | CallError):
        return isinstance(error, NotYet) and error.maybe_billed
    failure = call.classify(error)
    return failure.maybe_billed and not (call.once and failure.kind is ErrorKind.TIMEOUT)


def _is_model(call: Call) -> bool:
    return call.dependency.startswith("model:")


def _spent(reply: Reply, most: Mapping[str, int]) -> Mapping[str, int]:
    """What a finished attempt used, by unit; what it might have cost where that is all that is known."""
    cost = most.get("money", 0) if reply.cost is None else reply.cost
    return {"tokens": reply.usage.total, "money": cost, "calls": 1}


def _public(meter: str) -> bool:
    """Whether people are told of a budget: that of a run or of a tenant. One state's is a detail of its run."""
    return meter.startswith(("run:", "tenant:"))


def _note(call: Call, amounts: Mapping[str, int], *, add: bool) -> None:
    """Keep what the run knows of its own meters current, so that it is warned in time."""
    if call.scope is None:
        return
    known, own = call.scope.used, (f"run:{call.scope.run_id}:", f"state:{call.scope.run_id}:")
    for meter, amount in amounts.items():
        if meter.startswith(own):
            before = known.get(meter, 0)
            known[meter] = before + amount if add else max(before, amount)


# --- saying no --------------------------------------------------------------------------------------------------------

_WHAT_TO_DO = {
    "tokens": "ask for less (max_tokens, a shorter conversation), raise the budget, or give BudgetExhausted a row",
    "money": "ask a cheaper model or for less, raise the budget, or give BudgetExhausted a row",
    "calls": "raise the budget, or give BudgetExhausted a row",
    "wall": "raise the budget, or give BudgetExhausted a row",
}


def scope_of(meter: str, run_id: str) -> str:
    """Whose budget a meter counts for: `run`, `state`, `visit`, `parent` or `tenant`."""
    kind, owner = meter.split(":", 2)[:2]
    return kind if kind == "tenant" or owner == run_id else "parent"


def _too_much(call: Call, refused: Amount, used: int) -> OverBudget:
    meter, unit = refused.meter.rsplit(":", 1)
    left = f"{said(unit, used)} of {said(unit, refused.limit)} are used"
    if used + refused.amount <= refused.limit:
        left += " and calls under way have reserved of the rest"
    return _over(call, meter, unit, used, refused.limit, f"it may use {said(unit, refused.amount)}; {left}")


def _too_late(call: Call, draw: Draw, now: int) -> OverBudget:
    wall = draw.limits.get("wall", 0)
    used = now - draw.limits["until"] + wall
    return _over(call, draw.meter, "wall", used, wall, f"{said('wall', used)} of {said('wall', wall)} have passed")


def _unpriced(call: Call, draw: Draw) -> OverBudget:
    why = "money is limited and no price is known for this model; give Settings(prices=...) or install statecraft-agents[prices]"
    return _over(call, draw.meter, "money", 0, draw.limits["money"], why)


def _over(call: Call, meter: str, unit: str, used: int, limit: int, why: str) -> OverBudget:
    run_id = call.visit.run_id.hex()
    scope, where = scope_of(meter, run_id), "" if call.scope is None else f" in {call.scope.state}"
    return OverBudget(
        f"{call.name} was not called{where}, for the budget of the {scope} ({meter}): {why}. To go on: {_WHAT_TO_DO[unit]}",
        name=call.name,
        attempts=call.attempt,
        unit=unit,
        scope=scope,
        used=public(unit, used),
        limit=public(unit, limit),
    )
