"""Dead letters: what is kept of a run that the engine gave up on, which ones to list, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from statecraft.records import Json


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A run's last death, with what a person needs to decide what becomes of it."""

    run_id: str
    machine: str
    version: str
    state: str
    """Where it died."""
    seq: int
    """How many steps it had completed."""
    at: datetime
    error: str
    """What it died of, in one word: the class of the handler's error, the kind of the call's failure (`timeout`), or the
    bound that was reached (`DeadlinePassed`)."""
    call: str
    """The model, tool or machine whose call failed; empty if none did."""
    reason: str
    """What happened, for people."""
    event: str = ""
    """The event that no row took; empty if there was none."""
    payload: Json = None
    """Its fields."""
    data: Json = None
    """The run's folded data."""
    visits: Mapping[str, int] = field(default_factory=dict)
    """How often each state was entered."""
    path: tuple[str, ...] = ()
    """The last completed steps, oldest first, as `source event target`."""
    last_calls: tuple[Mapping[str, Json], ...] = ()
    """The last finished calls: seq, kind, name, ok, attempts."""
    unfinished: tuple[Mapping[str, Json], ...] = ()
    """The last attempt of each call of the visit that has no outcome: name, kind, attempt, message."""
    needs: str = ""
    """What would let it go on."""
    tenant: str | None = None
    parent: str | None = None
    deaths: int = 1
    """How often the run has died."""
    open: bool = True
    """Whether it is dead now; False once it was redriven or dropped."""


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters. Every field given must hold."""

    machine: str | None = None
    state: str | None = None
    error: str | None = None
    call: str | None = None
    tenant: str | None = None
    since: datetime | None = None
    """Died at this instant or later."""
    limit: int = 100
    """At most this many, the latest first."""


@dataclass(frozen=True, slots=True)
class DeadPattern:
    """Dead letters that have machine, state, error and call in common."""

    machine: str
    state: str
    error: str
    call: str
    count: int
    first_at: datetime
    last_at: datetime
    hours: tuple[int, ...]
    """How many died in each hour of the day (UTC), from 0 to 23."""
    runs: tuple[str, ...]
    """Ids of a few of them, the latest first."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one dead letter in a redrive of many, or what would."""

    run_id: str
    machine: str
    state: str
    refused: str = ""
    """Why it is not redriven, and what it needs; empty if it is."""

    @property
    def ok(self) -> bool:
        """Whether it was redriven, or would be."""
        return not self.refused


@dataclass(frozen=True, slots=True)
class Redrives:
    """A redrive of many dead letters."""

    dry_run: bool
    """Whether nothing was done: then `runs` says what would be."""
    matching: int
    """How many dead letters fit the filter, those beyond the limit included."""
    patterns: tuple[DeadPattern, ...]
    """What those have in common, as of before the redrive."""
    runs: tuple[Redriven, ...]
    """One for each letter looked at, the latest death first."""
