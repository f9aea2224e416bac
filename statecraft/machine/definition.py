"""The closed, immutable form of a machine, and the one place that knows its rules: `Definition.decide`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import ValidationError

from statecraft.errors import IllegalEvent, InvalidPayload
from statecraft.machine.budget import Budget
from statecraft.machine.context import AnyTool, Run
from statecraft.machine.data import D, Data, MergePlan, fold, whole
from statecraft.machine.event import Event, Rewritten, event_name
from statecraft.machine.migration import Migration

if TYPE_CHECKING:
    from statecraft.machine.declare import Machine

START_EVENT = "start"
"""Event name of the first transition of every run, from nowhere to the start state."""


@dataclass(frozen=True, slots=True)
class StateSpec:
    """A state as declared."""

    name: str
    kind: Literal["work", "review", "final"]
    ok: bool = False
    """Final and successful."""
    max_visits: int | None = None
    timeout: timedelta | None = None
    """Work: how long a visit may take. Review: how long a person may take."""
    events: tuple[str, ...] = ()
    """Names of the events its handler (or the person who decides) may answer with, in order of declaration."""
    tools: tuple[str, ...] = ()
    doc: str = ""
    budget: Budget | None = None
    """What all visits of it in one run may spend."""
    per_visit: Budget | None = None
    """What each visit may spend."""


@dataclass(frozen=True, slots=True)
class RowSpec:
    """A row of the table, as declared. Rows of `anywhere` have an empty source."""

    source: str
    event: str
    target: str
    guard: str = ""
    """Name of the guard; empty if none."""


@dataclass(frozen=True, slots=True)
class Move:
    """The answer of `decide`: where the event leads."""

    source: str
    event: str
    target: str
    guards: tuple[tuple[str, bool], ...]
    """Guards asked, with their answers, in order."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of `decide`: the event leads nowhere, and why."""

    source: str
    event: str
    reason: str
    guards: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Handler:
    """What the engine calls in a state."""

    fn: Callable[[Run[Any]], Any]
    is_async: bool
    """False: a plain function, which the engine runs in a thread."""
    tools: tuple[AnyTool, ...] = ()
    children: tuple[Machine[Any], ...] = ()
    """Machines it may run as children."""


class Decides(Protocol):
    """The kernel of a definition (see `statecraft.machine.kernel`)."""

    @property
    def enabled(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the events that have a row, by state."""
        ...

    def decide(self, state: str, event: Event, data: Data) -> Move | Refusal: ...


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A machine that passed every check. Immutable and without any state of a run; safe to share."""

    name: str
    version: str
    fingerprint: str
    """Hex SHA-256 of all that decides how a run moves and what it stores (not of the handlers' code)."""
    spec: str
    """The definition as canonical JSON: enough to draw and explain it without its code."""
    data_type: type[Data]
    events: Mapping[str, type[Event]]
    """Every event that can appear, system events included, by name."""
    states: Mapping[str, StateSpec]
    """In order of declaration."""
    rows: tuple[RowSpec, ...]
    """As declared."""
    start: str
    max_steps: int
    deadline: timedelta | None
    """How long a run may take from its start; None for ever."""
    budget: Budget | None
    handlers: Mapping[str, Handler]
    """By state; final states have none."""
    plans: Mapping[str, MergePlan]
    """How each event's payload merges into the data, by event name."""
    edges: tuple[tuple[str, str, str], ...]
    """Every (source, event, target) that can ever be journaled, the start edge `("", "start", start)` first."""
    kernel: Decides
    migrations: tuple[Migration, ...] = ()
    """How runs of older definitions go on under this one, oldest first. No part of the fingerprint."""

    def decide(self, state: str, event: Event, data: Data) -> Move | Refusal:
        """Where the event leads from `state`: the first row whose guard holds.

        The state's own rows come before those of `anywhere`; in each the most specific class of the event comes first;
        rows for one class are tried in order of declaration. Pure: guards are asked, nothing is changed. A guard that
        raises is a refusal that names it.
        """
        return self.kernel.decide(state, event, data)

    def enabled(self, state: str) -> tuple[str, ...]:
        """Names of the events that have a row in `state`: those of its handler first, then system events."""
        return self.kernel.enabled.get(state, ())

    def fold(self, data: D, event: Event) -> D:
        """The data after the event's payload is merged. Raises `InvalidPayload` if a value does not fit."""
        if isinstance(event, Rewritten):
            return data if event.data is None else whole(type(data), event)
        return fold(data, event, self.plans[event_name(type(event))])

    def event(self, name: str, payload: str) -> Event:
        """An event from its name and its payload as JSON. Raises `IllegalEvent` or `InvalidPayload`."""
        event_type = self.events.get(name)
        if event_type is None:
            own = ", ".join(sorted({event for state in self.states.values() for event in state.events}))
            raise IllegalEvent(f"machine {self.name} has no event {name!r}; it has {own}")
        try:
            return event_type.model_validate_json(payload)
        except ValidationError as error:
            details = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'payload'}: {item['msg']}" for item in error.errors())
            raise InvalidPayload(f"the payload of {name} is not valid: {details}") from error
