"""What the meters in the database say of breakers and tenants' budgets, for whoever looks from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from statecraft.calls import breaker
from statecraft.calls.budget import TIMED, TenantBudget, tenant_draws
from statecraft.clock import instant
from statecraft.stats import BreakerStands, BudgetUse


def tenant_limits(budgets: Sequence[TenantBudget], tenants: Sequence[str], now: int) -> dict[str, BudgetUse]:
    """What each tenant may spend in the windows of `now`, by the name of the meter that counts it; nothing is used yet."""
    found: dict[str, BudgetUse] = {}
    for tenant in tenants:
        for draw in tenant_draws(budgets, tenant, now):
            window = timedelta(microseconds=int(draw.meter.rpartition("+")[2]))
            for unit, limit in draw.limits.items():
                if unit not in TIMED:
                    found[f"{draw.meter}:{unit}"] = BudgetUse(tenant, window, unit, 0, limit)
    return found


def breakers(states: Mapping[str, str], now: int) -> tuple[BreakerStands, ...]:
    """How the breakers of these dependencies stand, those that are not closed first."""
    found = [_stands(dependency, breaker.load(state), now) for dependency, state in states.items()]
    return tuple(sorted(found, key=lambda each: (each.state == "closed", each.dependency)))


def _stands(dependency: str, circuit: breaker.Circuit, now: int) -> BreakerStands:
    if not circuit.open:
        return BreakerStands(dependency, "closed", circuit.in_a_row, None)
    probing = bool(circuit.prober) and now < circuit.lease
    return BreakerStands(dependency, "probing" if probing else "open", circuit.in_a_row, instant(circuit.until))
