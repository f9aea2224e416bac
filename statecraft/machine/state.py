"""The typed faces of states and rows: what `machine.state`, `machine.review`, `machine.final` and `state.on` give back.

The types carry the data type of the machine (`D`) and the union of a state's events (`E`), so a type checker refuses a
row for an event the state does not declare, a guard for another payload, and a target of a machine with other data.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Never, TypeVar, cast

from statecraft.machine.context import Run
from statecraft.machine.data import D
from statecraft.machine.event import Case, E, Event, OperatorEvent, SystemEvent

E_co = TypeVar("E_co", covariant=True)
_Sent = Case[SystemEvent, D] | Case[OperatorEvent, D]


@dataclass(frozen=True)  # with slots, `Ask[A]("...")` fails on Python 3.11: the generic alias cannot mark the instance
class Ask(Generic[E_co]):
    """What a review's handler answers with: a question to a person, whose decision is one of the events `E`."""

    question: str
    show: object = None
    """What the person needs to see in order to decide: a JSON value or a pydantic model."""


class Target(Generic[D]):
    """A state that a row of a machine with data `D` may lead to."""

    def __init__(self, name: str, kind: Literal["work", "review", "final"], machine: object) -> None:
        self.name = name
        self.kind = kind
        self.machine = machine
        """The machine it was declared by."""

    def __repr__(self) -> str:
        return f"<{self.kind} state {self.name}>"


@dataclass(frozen=True, slots=True, eq=False)
class Row(Generic[D]):
    """One line of the table: `source.on(event) >> target`."""

    source: Target[D] | Anywhere[D]
    event: type[Event]
    guard: Callable[..., bool] | None
    target: Target[D]


@dataclass(frozen=True, slots=True, eq=False)
class On(Generic[D]):
    """The left half of a row. Complete it with `>> target`."""

    source: Target[D] | Anywhere[D]
    event: type[Event]
    guard: Callable[..., bool] | None

    def __rshift__(self, target: Target[D]) -> Row[D]:
        return Row(self.source, self.event, self.guard, target)

    def to(self, target: Target[D]) -> Row[D]:
        """The same as `>> target`."""
        return self >> target


def _on(source: Target[D] | Anywhere[D], event: type[Event] | Case[Event, D]) -> On[D]:
    if isinstance(event, Case):
        return On(source, event.event, event.guard)
    return On(source, event, None)


class State(Target[D], Generic[D, E]):
    """A state whose handler answers with one of the events `E`. Made by `@machine.state()`."""

    def __init__(self, name: str, machine: object, handler: Callable[[Run[D]], Awaitable[E]] | Callable[[Run[D]], E]) -> None:
        super().__init__(name, "work", machine)
        self.handler = handler
        self.__doc__ = handler.__doc__

    def on(
        self, event: type[E | SystemEvent | OperatorEvent] | Case[E, D] | Case[SystemEvent, D] | Case[OperatorEvent, D]
    ) -> On[D]:
        """Begin a row for one of the state's events, a system event, an operator's, or each under a guard (`Event.when`)."""
        return _on(self, cast("type[Event] | Case[Event, D]", event))

    async def __call__(self, run: Run[D]) -> E:
        """Call the handler, as a unit test does. A plain `def` handler runs right here."""
        answer = self.handler(run)
        return await answer if isinstance(answer, Awaitable) else answer


class Review(Target[D], Generic[D, E]):
    """A state in which a person decides; their decision is one of the events `E`. Made by `@machine.review()`."""

    def __init__(
        self, name: str, machine: object, handler: Callable[[Run[D]], Awaitable[Ask[E]]] | Callable[[Run[D]], Ask[E]]
    ) -> None:
        super().__init__(name, "review", machine)
        self.handler = handler
        self.__doc__ = handler.__doc__

    def on(
        self, event: type[E | SystemEvent | OperatorEvent] | Case[E, D] | Case[SystemEvent, D] | Case[OperatorEvent, D]
    ) -> On[D]:
        """Begin a row for one of the decisions, a system event, an operator's, or each under a guard (`Event.when`)."""
        return _on(self, cast("type[Event] | Case[Event, D]", event))

    async def __call__(self, run: Run[D]) -> Ask[E]:
        """Call the handler, as a unit test does."""
        answer = self.handler(run)
        return await answer if isinstance(answer, Awaitable) else answer


class Final(Target[D]):
    """A state in which runs end. Made by `machine.final()`."""

    def __init__(self, name: str, machine: object) -> None:
        super().__init__(name, "final", machine)

    def on(self, event: Never) -> On[D]:
        """Nothing leaves a final state: no argument type-checks, and the definition refuses the row."""
        return _on(self, cast(Any, event))


class Anywhere(Generic[D]):
    """Every state that is not final, for rows that many states share. The rows of a state come before these."""

    def __init__(self, machine: object) -> None:
        self.machine = machine
        self.name = ""

    def on(self, event: type[SystemEvent | OperatorEvent] | _Sent[D]) -> On[D]:
        """Begin a row for a system event or an operator's, wherever it happens."""
        return _on(self, cast("type[Event] | Case[Event, D]", event))
