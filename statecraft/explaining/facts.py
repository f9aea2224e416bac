"""What an explanation is made of. Frozen values, and JSON as they stand (`statecraft explain --json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from statecraft.records import Json, ReviewRecord, RunRecord, Usage

Verdict = Literal["taken", "refused", "later", "wider", "other", "open"]
"""Of a row: it was taken; its guard refused; an earlier row was taken; a more specific row was taken (a narrower event, or the
state's own before `anywhere`); it is for another event; nothing was decided yet."""


@dataclass(frozen=True, slots=True)
class AskedGuard:
    """A guard that was asked on the way, with its answer."""

    name: str
    answer: bool
    again: bool | None = None
    """What the code at hand answers; None if there is none, or it does not ask that guard."""


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """A row that the state of a step has, and what became of it."""

    source: str
    """Empty for a row of `anywhere`."""
    event: str
    target: str
    guard: str
    """Empty without one."""
    by: str
    """`operator` for a row that only a redrive takes; empty otherwise."""
    verdict: Verdict
    why: str
    """The verdict in words."""


@dataclass(frozen=True, slots=True)
class Decider:
    """Who or what decided a move."""

    kind: Literal["handler", "model", "person", "operator", "timer", "bound", "call", "migration", "fork"]
    """`model`: the handler passed on what a model said, or the model's output never fitted. `timer`: a timeout or a deadline.
    `bound`: a budget, a number of visits or steps, a loop. `call`: one that failed for good."""
    name: str
    """The person's name, the model, the bound's event; empty for a handler."""
    at: datetime
    text: str
    """It in one sentence, with the numbers of a bound."""
    calls: tuple[int, ...] = ()
    """Calls of the visit from which fields of the payload come word for word."""


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt at a call that failed, or the intent of a `once` call."""

    attempt: int
    """From 1."""
    kind: str
    """An error kind such as `rate_limited`, or `begun`."""
    message: str
    at: datetime
    wait: timedelta | None
    """How long until the next attempt; None if there was to be none."""


@dataclass(frozen=True, slots=True)
class ExplainedCall:
    """A call of a visit, finished or not."""

    idx: int | None
    """Order of completion in the visit, from 0; None if it has no outcome."""
    kind: str
    name: str
    ok: bool | None
    """None if it has no outcome."""
    error: str = ""
    """The kind of its failure, such as `timeout`; empty if it did not fail."""
    message: str = ""
    """The failure in words."""
    attempts: int = 1
    tries: tuple[Try, ...] = ()
    """The attempts that failed, in order."""
    took: timedelta | None = None
    """From its first attempt to its outcome, pauses included."""
    usage: Usage = Usage()
    cached: bool = False
    """Whether the provider read a part of the input from its cache."""
    cost: int | None = None
    """Billionths of a dollar; None if no price is known."""
    recalled: bool = False
    """Whether it was finished by an earlier claim of the run, so that it answered the last execution from the journal."""


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What is used of one bound once the step was over (or now, for the visit the run is in)."""

    scope: str
    """`run` or `state`."""
    unit: str
    """`steps`, `visits`, `tokens`, `money` (billionths of a dollar), `calls` or `wall` (microseconds)."""
    used: int
    limit: int
    exact: bool = True
    """False where it is added up from the calls of this run, without what child runs and failed attempts used."""

    @property
    def left(self) -> int:
        """What is left, never below 0."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class ExplainedStep:
    """One visit, and the move that ended it."""

    step: int
    """Number of the transition that entered the state, as in `show --step`."""
    state: str
    visit: int
    """The how many-th visit of the state, from 1."""
    entered_by: str
    """The event that led here."""
    entered_at: datetime
    took: timedelta
    """How long the visit lasted, or has lasted so far."""
    event: str | None
    """The event that ended it; None if nothing has."""
    payload: Mapping[str, Json]
    target: str | None
    at: datetime | None
    """When it ended."""
    decider: Decider | None
    data: Mapping[str, Json]
    """The data that handler and guards saw: as it was after the move that entered the state."""
    changed: tuple[str, ...]
    """Fields of the data that the event changed."""
    guards: tuple[AskedGuard, ...]
    """In the order in which they were asked; each saw `payload` and `data`."""
    rows: tuple[ExplainedRow, ...]
    """Rows that the state has: its own, then those of `anywhere`."""
    calls: tuple[ExplainedCall, ...]
    reviews: tuple[ReviewRecord, ...]
    """Questions to people that were asked in it."""
    redrives: tuple[str, ...]
    """What people did to the run when it had died in this visit, a sentence each."""
    bounds: tuple[BudgetUse, ...]


@dataclass(frozen=True, slots=True)
class Standstill:
    """Why a run is not moving now, and what would move it."""

    why: str
    moves: tuple[str, ...]
    """What would move it, each in one sentence."""
    since: datetime
    due: datetime | None = None
    """When time moves it; None if it does not."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a run went where it went, and why it stands where it stands. `print` it, or see `lines_of`."""

    run: RunRecord
    steps: tuple[ExplainedStep, ...]
    standstill: Standstill | None
    """None for a run that ended by itself, and for one that is being worked on."""
    code: str
    """How the code at hand relates to the run: `none`, `same`, or `other` (its definition differs)."""
    asked: int | None = None
    """The one step that was asked for; None for all."""

    def __str__(self) -> str:
        from statecraft.explaining.words import lines_of

        return "\n".join(lines_of(self))
