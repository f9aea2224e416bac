"""How a step can end. A closed set: whoever handles outcomes handles all of these."""

from __future__ import annotations

from dataclasses import dataclass

from statecraft.records import Status, Waiting


@dataclass(frozen=True, slots=True)
class Moved:
    """A transition was committed; the run stands in a new state and goes on."""

    event: str
    target: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A transition into a final state was committed."""

    status: Status
    state: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The run waits as a row; nothing of it is in memory any more."""

    why: Waiting
    due_at: int | None


@dataclass(frozen=True, slots=True)
class Dead:
    """The engine gave the run up; the diagnosis is kept."""

    reason: str


Outcome = Moved | Ended | Parked | Dead
