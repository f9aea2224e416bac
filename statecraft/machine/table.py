"""What was declared, with its classes and functions still attached, and the flat table that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from statecraft.machine.budget import Budget
from statecraft.machine.context import AnyTool
from statecraft.machine.data import Data
from statecraft.machine.event import (
    SYSTEM_EVENTS,
    DeadlinePassed,
    Event,
    OperatorEvent,
    ReviewExpired,
    StateTimeout,
    SystemEvent,
    VisitsExhausted,
    event_name,
)
from statecraft.machine.properties import Property

Guard = Callable[[Any, Any], bool]
"""A pure function of (event, data)."""

ANYWHERE = ""
"""Source of a row that holds in every state that is not final."""


@dataclass(frozen=True, slots=True)
class DeclaredState:
    """A state with its event classes."""

    name: str
    kind: Literal["work", "review", "final"]
    start: bool = False
    ok: bool = False
    max_visits: int | None = None
    timeout: timedelta | None = None
    events: tuple[type[Event], ...] = ()
    tools: tuple[AnyTool, ...] = ()
    children: tuple[Any, ...] = ()
    """Machines that its handler may run as children."""
    asks: bool = False
    """Whether its handler's own code asks a model, as far as can be seen."""
    doc: str = ""
    budget: Budget | None = None
    per_visit: Budget | None = None
    unread: str = ""
    """Why the events of its handler could not be read; empty if they were."""

    @property
    def final(self) -> bool:
        """Whether a run ends here."""
        return self.kind == "final"


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredRow:
    """A row with its event class and guard. Two rows are never equal, even if they say the same."""

    source: str
    event: type[Event]
    target: str
    """Empty if it leads to something that is no state of the machine."""
    guard: Guard | None = None

    @property
    def guard_name(self) -> str:
        """What the guard is called in the journal; empty without one."""
        return "" if self.guard is None else guard_name(self.guard)

    @property
    def place(self) -> str:
        """`state.event`, for messages."""
        return f"{self.source or 'anywhere'}.{event_name(self.event)}"

    def __str__(self) -> str:
        condition = f".when({self.guard_name})" if self.guard else ""
        return f"{self.source or 'anywhere'}.on({self.event.__name__}{condition}) >> {self.target}"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A whole machine as written down, before anybody asked whether it is sound."""

    name: str
    version: str
    data: type[Data]
    states: tuple[DeclaredState, ...]
    rows: tuple[DeclaredRow, ...]
    max_steps: int
    deadline: timedelta | None
    budget: Budget | None
    properties: tuple[Property[Any], ...] = ()
    """What is stated of all its runs. No part of the fingerprint, since it moves no run."""

    @property
    def own_events(self) -> dict[type[Event], None]:
        """The events that the machine brings along, in order of declaration: what handlers and reviewers may answer with,
        then what operators may say."""
        return dict.fromkeys((*(event for state in self.states for event in state.events), *self.operator_events))

    @property
    def operator_events(self) -> tuple[type[Event], ...]:
        """The events of its rows that only a person who redrives a dead run may send."""
        return tuple(dict.fromkeys(row.event for row in self.rows if is_operators(row.event)))


Table = Mapping[tuple[str, type[Event]], Sequence[DeclaredRow]]
"""(state, event) to the rows that are tried, in order. Pairs without a row are left out."""


def expand(declaration: Declaration) -> Table:
    """The flat table: the state's own rows before those of anywhere, in each the most specific class first, and for
    one class the order of declaration."""
    table: dict[tuple[str, type[Event]], list[DeclaredRow]] = {}
    for state in declaration.states:
        if state.final:
            continue
        for event in dict.fromkeys((*state.events, *SYSTEM_EVENTS, *declaration.operator_events)):
            rows = [
                row
                for source in (state.name, ANYWHERE)
                for cls in event.__mro__
                for row in declaration.rows
                if row.source == source and row.event is cls
            ]
            if rows:
                table[state.name, event] = rows
    return table


def reachable_rows(rows: Sequence[DeclaredRow]) -> Iterator[DeclaredRow]:
    """Those that can be taken: everything after a row without a guard never is."""
    for row in rows:
        yield row
        if row.guard is None:
            return


def is_possible(declaration: Declaration, state: DeclaredState, event: type[Event]) -> bool:
    """Whether the event can happen in the state: its handler declares it, or the engine may raise it there."""
    if event in state.events:
        return True
    if not state.final and is_operators(event):
        return True
    if state.final or not issubclass(event, SystemEvent):
        return False
    if event is StateTimeout:
        return state.kind == "work" and state.timeout is not None
    if event is ReviewExpired:
        return state.timeout is not None if state.kind == "review" else bool(state.tools)
    if event is DeadlinePassed:
        return declaration.deadline is not None
    if event is VisitsExhausted:
        return state.max_visits is not None
    return event in SYSTEM_EVENTS


def is_operators(event: type[Event]) -> bool:
    """Whether only a person who redrives a dead run may send the event."""
    return issubclass(event, OperatorEvent) and event is not OperatorEvent


def guard_name(guard: Callable[..., object]) -> str:
    """The function's name; `lambda` for one without; the class name of a callable object."""
    inner = getattr(guard, "func", guard)
    name = str(getattr(inner, "__name__", type(inner).__name__))
    return "lambda" if name == "<lambda>" else name
