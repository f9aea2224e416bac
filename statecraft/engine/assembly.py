"""The call stack of a runtime, put together from its settings."""

from __future__ import annotations

from statecraft.calls import stack
from statecraft.calls.budget import Budgets
from statecraft.calls.call import Next
from statecraft.clock import Clock
from statecraft.engine.settings import Settings
from statecraft.ids import Ids
from statecraft.llm.prices import price_book
from statecraft.store import port


def call_stack(settings: Settings, clock: Clock, ids: Ids, store: port.Store) -> Next:  # noqa: ARG001
    """Every member that the settings ask for, in the order of `calls.stack`."""
    budget = Budgets(price_book(settings.prices), settings.tenants)
    return stack.build(settings.retry, ids.uniform, budget=budget)
