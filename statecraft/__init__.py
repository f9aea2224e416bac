"""statecraft: LLM agents as explicit state machines that survive production.

Declare a machine, run it with a `Runtime`, and every move and call is durable: resumed after a crash, replayed without
touching the world, and explained afterwards.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from statecraft.calls.breaker import BreakerPolicy
    from statecraft.calls.budget import TenantBudget
    from statecraft.calls.gate import GatePolicy
    from statecraft.calls.limiter import RateLimit
    from statecraft.calls.retry import RetryPolicy
    from statecraft.clock import days, hours, minutes, seconds
    from statecraft.decisions import Approve, DidNotHappen, GiveUp, Happened, Modify, Reject
    from statecraft.divergence import Divergence, Replay
    from statecraft.engine.machine_tool import machine_tool
    from statecraft.engine.settings import Settings
    from statecraft.errors import (
        CallError,
        ChildFailed,
        DefinitionError,
        ErrorKind,
        InDoubt,
        Looped,
        OutputInvalid,
        OverBudget,
        Refused,
        Rejected,
        StatecraftError,
        StoreError,
    )
    from statecraft.llm.claude import Claude
    from statecraft.llm.compaction import SlidingWindow, SummarizeOld
    from statecraft.llm.loops import LoopPolicy
    from statecraft.llm.prices import Price
    from statecraft.machine.budget import Budget
    from statecraft.machine.child import Child
    from statecraft.machine.context import Run
    from statecraft.machine.data import Append, Data
    from statecraft.machine.declare import Machine
    from statecraft.machine.event import (
        BudgetExhausted,
        BudgetWarning,
        CallFailed,
        DeadlinePassed,
        Event,
        Failure,
        HandlerFailed,
        InvalidOutput,
        LoopDetected,
        OperatorEvent,
        ReviewExpired,
        StateTimeout,
        StepsExhausted,
        VisitsExhausted,
    )
    from statecraft.machine.joins import any_of, collect, first
    from statecraft.machine.migration import Migration
    from statecraft.machine.properties import always, eventually, never
    from statecraft.machine.state import Ask
    from statecraft.records import RunFilter, RunRecord, Status, Usage
    from statecraft.runtime import Runtime
    from statecraft.schedules.rule import Cron, Every
    from statecraft.sync import Outcome, run
    from statecraft.tools import CallInfo, Tool, tool

# Each name loads its module on first use, so that `import statecraft` stays light.
_HOME = {
    "calls.breaker": ("BreakerPolicy",),
    "calls.budget": ("TenantBudget",),
    "calls.gate": ("GatePolicy",),
    "calls.limiter": ("RateLimit",),
    "calls.retry": ("RetryPolicy",),
    "clock": (
        "days",
        "hours",
        "minutes",
        "seconds",
    ),
    "decisions": (
        "Approve",
        "DidNotHappen",
        "GiveUp",
        "Happened",
        "Modify",
        "Reject",
    ),
    "divergence": (
        "Divergence",
        "Replay",
    ),
    "engine.machine_tool": ("machine_tool",),
    "engine.settings": ("Settings",),
    "errors": (
        "CallError",
        "ChildFailed",
        "DefinitionError",
        "ErrorKind",
        "InDoubt",
        "Looped",
        "OutputInvalid",
        "OverBudget",
        "Refused",
        "Rejected",
        "StatecraftError",
        "StoreError",
    ),
    "llm.claude": ("Claude",),
    "llm.compaction": (
        "SlidingWindow",
        "SummarizeOld",
    ),
    "llm.loops": ("LoopPolicy",),
    "llm.prices": ("Price",),
    "machine.budget": ("Budget",),
    "machine.child": ("Child",),
    "machine.context": ("Run",),
    "machine.data": (
        "Append",
        "Data",
    ),
    "machine.declare": ("Machine",),
    "machine.migration": ("Migration",),
    "machine.event": (
        "BudgetExhausted",
        "BudgetWarning",
        "CallFailed",
        "DeadlinePassed",
        "Event",
        "Failure",
        "HandlerFailed",
        "InvalidOutput",
        "LoopDetected",
        "OperatorEvent",
        "ReviewExpired",
        "StateTimeout",
        "StepsExhausted",
        "VisitsExhausted",
    ),
    "machine.joins": (
        "any_of",
        "collect",
        "first",
    ),
    "machine.properties": (
        "always",
        "eventually",
        "never",
    ),
    "machine.state": ("Ask",),
    "records": (
        "RunFilter",
        "RunRecord",
        "Status",
        "Usage",
    ),
    "runtime": ("Runtime",),
    "schedules.rule": (
        "Cron",
        "Every",
    ),
    "sync": (
        "Outcome",
        "run",
    ),
    "tools": (
        "CallInfo",
        "Tool",
        "tool",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Append",
    "Approve",
    "Ask",
    "BreakerPolicy",
    "Budget",
    "BudgetExhausted",
    "BudgetWarning",
    "CallError",
    "CallFailed",
    "CallInfo",
    "Child",
    "ChildFailed",
    "Claude",
    "Cron",
    "Data",
    "DeadlinePassed",
    "DefinitionError",
    "DidNotHappen",
    "Divergence",
    "ErrorKind",
    "Event",
    "Every",
    "Failure",
    "GatePolicy",
    "GiveUp",
    "HandlerFailed",
    "Happened",
    "InDoubt",
    "InvalidOutput",
    "LoopDetected",
    "LoopPolicy",
    "Looped",
    "Machine",
    "Migration",
    "Modify",
    "OperatorEvent",
    "Outcome",
    "OutputInvalid",
    "OverBudget",
    "Price",
    "RateLimit",
    "Refused",
    "Reject",
    "Rejected",
    "Replay",
    "RetryPolicy",
    "ReviewExpired",
    "Run",
    "RunFilter",
    "RunRecord",
    "Runtime",
    "Settings",
    "SlidingWindow",
    "StateTimeout",
    "StatecraftError",
    "Status",
    "StepsExhausted",
    "StoreError",
    "SummarizeOld",
    "TenantBudget",
    "Tool",
    "Usage",
    "VisitsExhausted",
    "always",
    "any_of",
    "collect",
    "days",
    "eventually",
    "first",
    "hours",
    "machine_tool",
    "minutes",
    "never",
    "run",
    "seconds",
    "tool",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'statecraft' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"statecraft.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
