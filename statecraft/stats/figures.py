"""The figures themselves: frozen values of one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from statecraft.stats.metrics import Metric, exposition
from statecraft.stats.naming import named


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What waits for a worker in one queue."""

    queue: str
    depth: int
    """Runs that may be taken now: ready ones, and parked ones whose time has come."""
    oldest: timedelta
    """How long the one that is due for longest has been due; 0 if none is."""
    delayed: int
    """Parked runs whose time comes later."""
    next_due: datetime | None
    """When the first of these is due."""


@dataclass(frozen=True, slots=True)
class Place:
    """Open runs that stand in one state of a machine."""

    machine: str
    state: str
    status: str
    """`ready`, `running` or `waiting`."""
    runs: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What was done a second, lately."""

    window: timedelta
    over: timedelta
    """The part of the window that was looked at: all of it, or less if the newest entries of the feed do not reach so far."""
    moves: float
    """Transitions a second."""
    started: float
    """Runs started a second."""
    ended: float
    """Runs ended a second, whatever their end."""


@dataclass(frozen=True, slots=True)
class WorkerBeat:
    """One worker as of its last beat. Counters are since its start."""

    owner: str
    state: Literal["alive", "lost", "stopped"]
    """Lost: it said nothing for as long as its lease, so what it held may be taken over."""
    beat_at: datetime
    held: int
    """Runs it held then."""
    concurrency: int
    moves: int
    fenced: int
    """Writes of it that a fence refused."""
    recovered: int
    """Runs it took over from others who held them."""
    queues: tuple[str, ...]
    """None given: all."""
    machines: tuple[str, ...]
    """Whose due runs it takes; none for a process that drives only the runs it started."""


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What a tenant has used of a budget in the window of now."""

    tenant: str
    window: timedelta
    unit: str
    """`tokens`, `money` (billionths of a dollar) or `calls`."""
    used: int
    limit: int

    @property
    def ratio(self) -> float:
        """Used over limit; 1 where nothing is allowed."""
        return self.used / self.limit if self.limit else 1.0


@dataclass(frozen=True, slots=True)
class BreakerStands:
    """One breaker that all workers share."""

    dependency: str
    state: Literal["closed", "open", "probing"]
    failures: int
    """In a row."""
    until: datetime | None
    """While open: when the next probe may be made."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Alerts not delivered yet through one channel."""

    channel: str
    deliveries: int
    late: timedelta
    """How long the oldest has been due; 0 if none is."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a fleet and its runs are doing at one moment, read from the database alone.

    Runs that ended are not counted, dead letters excepted: counting them would mean reading them all. `moves`, `refused` and
    `taken_over` are sums over all workers since the first one, and grow only.
    """

    at: datetime
    runs: Mapping[str, int]
    """Open runs by status: `ready`, `running`, `waiting`."""
    places: tuple[Place, ...]
    """Open runs by machine, state and status, the fullest first."""
    sampled: bool
    """Whether there are so many open runs that `places` counts only a part of them."""
    waiting_for: Mapping[str, int]
    """Parked runs by why they wait."""
    queues: tuple[QueueDepth, ...]
    overdue: int
    """Runs whose lease is over right now and whom nobody took over yet."""
    moves: int
    refused: int
    """Writes that a fence refused: somebody had lost a run and did not know yet."""
    taken_over: int
    """Runs taken from a holder who had vanished."""
    pace: tuple[Pace, ...]
    """For the last 1, 5 and 60 minutes."""
    reviews: int
    """Runs that wait for a person."""
    review_oldest: timedelta
    """How long the first of them has waited; 0 if there are none."""
    dead: Mapping[str, int]
    """Dead letters by machine."""
    outbox: tuple[Backlog, ...]
    schedules: int
    """Schedules that will fire again."""
    schedule_next: datetime | None
    schedule_late: timedelta
    """How long the first that should have fired is late; 0 if none is."""
    workers: tuple[WorkerBeat, ...]
    """Latest beat first."""
    budgets: tuple[BudgetUse, ...] = ()
    """Of the tenants whose limits the runtime's settings give, the fullest first."""
    breakers: tuple[BreakerStands, ...] = ()
    """Those that workers share, with `Settings(meters="database")`."""

    def metrics(self) -> tuple[Metric, ...]:
        """All figures as flat (name, labels, value), named as Prometheus names things: base units, few labels, no ids."""
        return named(self)

    def exposition(self) -> str:
        """The metrics in Prometheus' text format, version 0.0.4."""
        return exposition(self.metrics())


@dataclass(frozen=True, slots=True)
class Figures:
    """What a store answers: the figures, and what only a runtime can read, since it has the settings."""

    stats: Stats
    tenants: tuple[str, ...]
    """Tenants that were ever charged, up to a bound."""
    circuits: Mapping[str, str]
    """States of breakers as they are kept, by dependency, up to a bound."""
