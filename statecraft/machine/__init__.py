"""Declaring machines: events, data, states, the table, and the checks that a machine passes before it may run."""

from statecraft.machine.budget import Budget
from statecraft.machine.context import Model, Run, ToolLike
from statecraft.machine.data import Append, Data
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition, Move, Refusal
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
    SystemEvent,
    VisitsExhausted,
)
from statecraft.machine.migration import Migration
from statecraft.machine.state import Ask

__all__ = [
    "Append",
    "Ask",
    "Budget",
    "BudgetExhausted",
    "BudgetWarning",
    "CallFailed",
    "Data",
    "DeadlinePassed",
    "Definition",
    "Event",
    "Failure",
    "HandlerFailed",
    "InvalidOutput",
    "LoopDetected",
    "Machine",
    "Migration",
    "Model",
    "Move",
    "OperatorEvent",
    "Refusal",
    "ReviewExpired",
    "Run",
    "StateTimeout",
    "StepsExhausted",
    "SystemEvent",
    "ToolLike",
    "VisitsExhausted",
]
