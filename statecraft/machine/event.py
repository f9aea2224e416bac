"""Events: what handlers, people and the engine itself say happened. The table, not the event, decides where it leads."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from statecraft.errors import ConfigError

E = TypeVar("E", bound="Event")
A = TypeVar("A")
E_co = TypeVar("E_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Case(Generic[E_co, A_contra]):
    """An event under a condition, made by `Event.when`. Only good for `state.on(...)`."""

    event: type[E_co]
    guard: Callable[..., bool]


class Event(BaseModel):
    """Something that happened, with its payload. Subclass it: the class name in snake case is the event's name.

    Instances are frozen and unknown fields are refused. Fields whose name is also a field of the machine's data are
    merged into it when the event moves a run; the other fields are kept in the journal only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")  # so that NaN reads back

    __event_name__: ClassVar[str] = "event"

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.__event_name__ = _HUMP.sub("_", cls.__name__).lower()

    @classmethod
    def when(cls, guard: Callable[[Self, A], bool]) -> Case[Self, A]:
        """This event, but only if `guard(event, data)` holds.

        The guard is asked before the payload is merged. It must be a plain function without side effects, because it is
        asked again by replay and by whoever checks the journal; its answer is recorded under its `__name__`.
        """
        if not callable(guard):
            raise ConfigError(f"{cls.__name__}.when takes a function of (event, data), not {guard!r}")
        return Case(cls, guard)


def event_name(event: type[Event]) -> str:
    """The name an event has in the table, the journal and diagrams: `QueryParsed` is `query_parsed`."""
    return event.__event_name__


class OperatorEvent(Event):
    """What a person says who redrives a dead run (`Runtime.redrive`). Subclass it, and give it rows in any state or in
    `anywhere`; nothing else sends it, so no handler and no review may name it. Its payload merges like any event's."""


# --- what puts other data into a run ---------------------------------------------------------------------------------


class Rewritten(Event):
    """A move that no handler made and no row declares: the run stands in a state, and its data is put in place whole.

    The engine writes the two kinds below; nothing else may send them.
    """

    data: dict[str, Any] | None = None
    """All fields of the data after it; None leaves the data as it is."""


class Migrated(Rewritten):
    """The run goes on under another definition of its machine, along a migration that this definition declares."""

    fingerprint: str = ""
    """The definition it comes from."""
    visits: dict[str, int] = {}
    """How often each state of the new definition counts as entered."""
    first: int = 0
    """The step that began the visit, which goes on."""
    entered_at: int = 0
    """When it did, in microseconds."""


class Forked(Rewritten):
    """The run shares the history before this move with another run, and goes on by itself."""

    run: str = ""
    """Id of the other run."""
    step: int = 0
    """The last step they share."""
    by: str = ""
    """Who forked it."""
    note: str = ""
    """Why."""


REWRITES: tuple[type[Rewritten], ...] = (Migrated, Forked)


# --- what the engine says -------------------------------------------------------------------------------------------


class SystemEvent(Event):
    """An event that the engine raises. Any state, or `machine.anywhere`, may give it rows. Its payload is never merged."""


class BudgetWarning(SystemEvent):
    """The run has used the warning share of a budget. Raised once per run; without a row it is only reported."""

    used: int | float = 0
    """So far, in `unit`."""
    limit: int | float = 0
    """The whole budget, in `unit`."""
    unit: str = "tokens"
    """`tokens`, `money` (dollars), `calls`, or `wall` (seconds)."""
    scope: str = "run"
    """Whose budget: `run` or `state`."""


class Failure(SystemEvent):
    """Whatever went wrong. A row for `Failure` takes all of the events below; without a row the run is dead.

    The engine never raises `Failure` itself, always one of its subclasses.
    """

    message: str = ""
    """What happened, for people."""


class BudgetExhausted(Failure):
    """A budget is used up, or has too little left for a call that the handler did not want to go on without."""

    used: int | float = 0
    """So far, in `unit`. What calls under way have reserved is not in it."""
    limit: int | float = 0
    """The whole budget, in `unit`."""
    unit: str = "tokens"
    """`tokens`, `money` (dollars), `calls`, or `wall` (seconds)."""
    scope: str = "run"
    """Whose budget: `run`, `state`, `visit`, `parent` (of a run that this one is a child of), or `tenant`."""


class StateTimeout(Failure):
    """A visit took longer than its state's `timeout`."""

    state: str = ""
    seconds: float = 0.0


class DeadlinePassed(Failure):
    """The run's deadline passed."""


class VisitsExhausted(Failure):
    """The run entered a state once more than its `max_visits`; the handler was not called."""

    state: str = ""
    visits: int = 0
    """The bound."""


class StepsExhausted(Failure):
    """The run has made `max_steps` steps without reaching a final state."""

    steps: int = 0


class LoopDetected(Failure):
    """The run repeats itself without getting anywhere."""

    what: str = ""
    """What was repeated."""


class InvalidOutput(Failure):
    """The model's answer did not validate after every repair."""

    name: str = ""
    """The model."""
    errors: list[str] = []


class CallFailed(Failure):
    """A call of a model or tool failed for good."""

    name: str = ""
    """The model or tool."""
    kind: str = ""
    """One of `statecraft.errors.ErrorKind`."""
    attempts: int = 0


class ReviewExpired(Failure):
    """Nobody decided a review within its `timeout`, or about a call before the question expired."""

    state: str = ""


class HandlerFailed(Failure):
    """A handler raised, or answered with something its state does not declare."""

    state: str = ""
    error: str = ""
    """Class name of the error."""


SYSTEM_EVENTS: tuple[type[SystemEvent], ...] = (
    BudgetWarning,
    BudgetExhausted,
    StateTimeout,
    DeadlinePassed,
    VisitsExhausted,
    StepsExhausted,
    LoopDetected,
    InvalidOutput,
    CallFailed,
    ReviewExpired,
    HandlerFailed,
)
"""Every event the engine can raise."""
