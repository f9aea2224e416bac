"""Where a machine's runs are and where they went: what the fleet's picture shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from statecraft.records import Status, Waiting


@dataclass(frozen=True, slots=True)
class Crowd:
    """Runs that stand in one state in one way."""

    state: str
    status: Status
    """`ready`, `running`, `waiting` or `dead`."""
    waiting_for: Waiting | None
    runs: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Moves of one sort."""

    source: str
    event: str
    target: str
    guards: tuple[tuple[str, bool], ...]
    """Guards asked on the way, with their answers."""
    moves: int


@dataclass(frozen=True, slots=True)
class Heat:
    """The runs of all versions of one machine."""

    machine: str
    since: datetime
    """From when on moves are counted: the beginning of the window, or later if more was recorded in it than is looked at."""
    whole: bool
    """Whether the moves of the whole window were counted."""
    crowds: tuple[Crowd, ...]
    """Runs that are open or dead now."""
    flows: tuple[Flow, ...]
    """Moves in the window, the start of runs not included."""
