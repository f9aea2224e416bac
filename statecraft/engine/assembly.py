"""The call stack of a runtime, put together from its settings."""

from __future__ import annotations

import os

from statecraft.calls import stack
from statecraft.calls.ask import Patience
from statecraft.calls.breaker import Breaker
from statecraft.calls.budget import Budgets
from statecraft.calls.call import Next
from statecraft.calls.doubt import Doubt
from statecraft.calls.gate import Gate, choose
from statecraft.calls.gauges import Gauges, MemoryGauges, StoredGauges
from statecraft.calls.lease import Leases
from statecraft.calls.limiter import Limiter
from statecraft.engine.settings import Settings
from statecraft.ids import Ids
from statecraft.llm.prices import price_book
from statecraft.store import port


def call_stack(settings: Settings, ids: Ids, store: port.Store, leases: Leases | None = None) -> Next:
    """Every member that the settings ask for, in the order of `calls.stack`."""
    gauges: Gauges = StoredGauges(store) if settings.meters == "database" else MemoryGauges()
    policy = choose(settings.gate, os.environ.get("STATECRAFT_ENV"))
    budget = Budgets(price_book(settings.prices), settings.tenants, settings.alerts.budgets)
    return stack.build(
        settings.retry,
        ids.uniform,
        gate=Gate(policy),
        doubt=Doubt(Patience(policy.expires, policy.remind_after), budget.bill),
        budget=budget,
        breaker=None if settings.breaker is None else Breaker(settings.breaker, gauges, ids.uniform, store.submit),
        limiter=Limiter(settings.limits, gauges, ids.uniform, hint_cap=settings.retry.hint_cap),
        lease=leases,
    )
