"""Properties of all runs of a machine: `never`, `always`, `eventually`. Values only; `proving` decides whether they hold.

A *milestone* is an event that is taken, or a state that is entered. The three properties:

    never(publishing, before=Approved)                  some Approved since the run began
    always(Approved, before=publishing)                 an Approved since publishing was last entered: one for each entry
    always(Approved, before=publishing, since=drafting) an Approved since drafting was last entered: what was approved is
                                                        what is published
    eventually(done, failed, within=12)                 each run enters done or failed with its 12th move at the latest
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal

from statecraft.errors import ConfigError
from statecraft.machine.alphabet import is_subclass
from statecraft.machine.data import D
from statecraft.machine.event import Event
from statecraft.machine.state import Target


@dataclass(frozen=True, slots=True)
class Property(Generic[D]):
    """What is stated of all runs of a machine, made by `never`, `always` or `eventually`."""

    kind: Literal["never", "always", "eventually"]
    states: tuple[Target[D], ...]
    """Those that must not be entered too early, or must be entered in time."""
    milestones: tuple[type[Event] | Target[D], ...] = ()
    """What must have happened first; one of them is enough. None for `eventually`."""
    since: tuple[Target[D], ...] = ()
    """Entering one of these undoes the milestones."""
    within: int = 0
    """`eventually`: moves of a run from its start."""

    @property
    def named(self) -> tuple[Target[D], ...]:
        """Every state it speaks of."""
        steps = (step for step in self.milestones if isinstance(step, Target))
        return tuple(dict.fromkeys((*self.states, *steps, *self.since)))

    def __str__(self) -> str:
        states, milestones = [state.name for state in self.states], [said(step) for step in self.milestones]
        if self.kind == "never":
            return f"never({', '.join(states)}, before={_listed(milestones)})"
        if self.kind == "eventually":
            return f"eventually({', '.join(states)}, within={self.within})"
        since = "" if self.since == self.states else f", since={_listed([state.name for state in self.since])}"
        return f"always({', '.join(milestones)}, before={_listed(states)}{since})"


def never(
    state: Target[D], *more: Target[D], before: type[Event] | Target[D] | tuple[type[Event] | Target[D], ...]
) -> Property[D]:
    """None of the states is ever entered before `before` has happened once in the run.

    `before` is an event class (its subclasses count), a state (entering it counts), or a tuple of which one is enough.
    It asks for once in the whole run; where each entry needs its own, use `always`. Rows for operators count as paths:
    one that leads past the milestone breaks the property, unless its event is named as a milestone too.

    Raises `ConfigError` for what is neither a state nor an event.
    """
    states = _states("never", (state, *more))
    return Property("never", states, _milestones("never", before, states))


def always(
    milestone: type[Event] | Target[D],
    *more: type[Event] | Target[D],
    before: Target[D] | tuple[Target[D], ...],
    since: Target[D] | tuple[Target[D], ...] | None = None,
) -> Property[D]:
    """Each entry into `before` has its own milestone: one that happened since `before` was last entered (or since the start).

    One of several milestones is enough. With `since`, a milestone is good until one of those states is entered, however
    often `before` is entered meanwhile: `always(Approved, before=publishing, since=drafting)` says that nothing is
    published that was drafted again after it was approved. Rows for operators count as paths, as for `never`.

    Raises `ConfigError` for what is neither a state nor an event.
    """
    states = _states("always", before)
    milestones = _milestones("always", (milestone, *more), states)
    return Property("always", states, milestones, states if since is None else _states("always", since))


def eventually(state: Target[D], *more: Target[D], within: int) -> Property[D]:
    """Every run enters one of the states with its move number `within` at the latest, whatever events and failures come.

    It speaks of runs that move: one that waits, is dead or cancelled stands still, and what an operator does to a dead
    run is not counted. A run that its own bounds stop without a way out (`max_steps`) breaks the property.

    Raises `ConfigError` for what is no state, or a `within` below 1.
    """
    given: object = within
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigError(f"eventually(..., within=...) takes a whole number of moves, at least 1, not {within!r}")
    return Property("eventually", _states("eventually", (state, *more)), within=within)


def said(step: type[Event] | Target[Any]) -> str:
    """A milestone in words."""
    return step.name if isinstance(step, Target) else step.__name__


def only_properties(given: Iterable[Property[D]]) -> tuple[Property[D], ...]:
    """Them as a tuple. Raises `ConfigError` for anything else; the type checker refuses it too, but not everybody asks it."""
    listed: object = given
    if not isinstance(listed, list | tuple) or not all(isinstance(each, Property) for each in listed):
        raise ConfigError(f"properties takes a list, such as properties=[never(sent, before=Approved)], not {given!r}")
    return tuple(given)


def _states(claim: str, given: Target[D] | tuple[Target[D], ...]) -> tuple[Target[D], ...]:
    found = given if isinstance(given, tuple) else (given,)
    for each in found:
        if not isinstance(each, Target):
            raise ConfigError(f"{claim}(...) takes states of a machine, not {each!r}")
    if not found:
        raise ConfigError(f"{claim}(...) names no state")
    return tuple(dict.fromkeys(found))


def _milestones(claim: str, given: object, states: tuple[Target[D], ...]) -> tuple[type[Event] | Target[D], ...]:
    found: tuple[Any, ...] = given if isinstance(given, tuple) else (given,)
    for each in found:
        if not isinstance(each, Target) and (not is_subclass(each, Event) or each is Event):
            raise ConfigError(f"what {claim}(...) asks for first is an event class or a state, not {each!r}")
        if each in states:
            raise ConfigError(f"{claim}(...) asks for {said(each)} before {said(each)} itself")
    if not found:
        raise ConfigError(f"{claim}(...) names nothing that must happen first")
    return tuple(dict.fromkeys(found))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"({', '.join(names)})"
