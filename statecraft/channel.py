"""What people are told, and where: an alert, a channel that carries it, and the rules by which alerts arise.

The nouns only; `statecraft.alerts` has the channels and the courier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

from statecraft.errors import ConfigError

Json = Any


class Kind(StrEnum):
    """Every kind of alert. The names are stable; `statecraft.alerts.catalogue` says what is in each."""

    REVIEW_REQUESTED = "review.requested"
    """A run asks a person: a review state, a call that needs approval, or a call in doubt."""
    REVIEW_REMINDER = "review.reminder"
    """Questions have waited for long; one alert for all that are due."""
    REVIEW_EXPIRING = "review.expiring"
    """A question that has an end will soon be past it."""
    REVIEW_DECIDED = "review.decided"
    """A question was decided, by a person or by time."""
    RUN_FAILED = "run.failed"
    """A run that is no child ended in a final state declared `ok=False`."""
    RUN_DEAD_LETTERED = "run.dead_lettered"
    """The engine gave a run up; a person must look. Child runs too."""
    RUN_COMPLETED = "run.completed"
    """A run that is no child ended well. Only for channels that name it."""
    BUDGET_THRESHOLD = "budget.threshold"
    """The budget of a run or a tenant is used up to a share, or had no room for a call."""
    QUOTA_REACHED = "quota.reached"
    """A provider's spending limit is reached, and runs wait for it."""
    BREAKER_OPENED = "breaker.opened"
    """A model or tool keeps failing and is left alone."""
    QUEUE_STALLED = "queue.stalled"
    """Runs have been due for long although workers beat."""
    WORKER_LOST = "worker.lost"
    """A worker has not beaten for three leases and did not stop."""
    TEST = "test"
    """Sent by `statecraft alerts test` alone."""


BY_DEFAULT = ("review.*", "run.failed", "run.dead_lettered", "budget.*", "quota.*", "breaker.*", "queue.*", "worker.*")
"""What a channel is told unless it says otherwise: everything but `run.completed`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Alert:
    """Something people should hear of, as a channel gets it."""

    id: str
    """32 hex digits. The same at every attempt to deliver it, so that a receiver can drop what it had already."""
    type: str
    """One of `Kind`."""
    at: datetime
    """When what it tells of was committed."""
    data: Mapping[str, Json]
    """Ids, short texts, `text` (one sentence) and `hint` (the command to type). Never payloads or prompts."""

    @property
    def text(self) -> str:
        """What happened, in a sentence."""
        return str(self.data.get("text", self.type))

    @property
    def hint(self) -> str:
        """The command to type."""
        return str(self.data.get("hint", ""))

    def body(self) -> dict[str, Json]:
        """`{type, timestamp, data}`, as Standard Webhooks lays it out."""
        return {"type": self.type, "timestamp": self.at.isoformat().replace("+00:00", "Z"), "data": dict(self.data)}


class NotDelivered(Exception):
    """A channel could not deliver. Its text is kept with the delivery and shown to people: no secrets in it."""

    def __init__(self, message: str, *, retry_after: float | None = None, gone: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds the receiver asks us to wait, if it does."""
        self.gone = gone
        """The receiver wants nothing any more: the channel is disabled."""


@runtime_checkable
class Channel(Protocol):
    """Carries alerts to people. Any object with these three is one."""

    @property
    def name(self) -> str:
        """What it is called in the database: the same in every process that has it."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Patterns of the kinds it is told, such as `review.*`."""
        ...

    async def send(self, alert: Alert) -> None:
        """Deliver; return only when it was. May be called again with the same alert. Raises `NotDelivered`, or anything."""
        ...


def wanted(kinds: tuple[str, ...]) -> tuple[Kind, ...]:
    """The kinds that patterns name. Raises `ConfigError` for a pattern that names none."""
    known = [kind for kind in Kind if kind is not Kind.TEST]
    given: Any = kinds
    patterns = given if isinstance(given, tuple) else ()
    alone = [each for each in patterns if not any(fnmatchcase(kind, each) for kind in known)]
    if alone or not isinstance(given, tuple):
        wrong = alone[0] if alone else given
        raise ConfigError(f"kinds are a tuple of patterns such as 'review.*' for {', '.join(known)}, not {wrong!r}")
    return tuple(kind for kind in known if any(fnmatchcase(kind, pattern) for pattern in kinds))


def check_channels(channels: tuple[Channel, ...]) -> None:
    """Raises `ConfigError` unless these are channels with names of their own."""
    for channel in channels:
        if not isinstance(channel, Channel):
            raise ConfigError(f"settings.channels is a tuple of channels such as statecraft.alerts.Log('log'), not {channel!r}")
        if not _NAME.fullmatch(channel.name):
            raise ConfigError(f"a channel's name is 1 to 64 letters, digits, dots, dashes or underscores, not {channel.name!r}")
        wanted(channel.kinds)
    names = [channel.name for channel in channels]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two channels are called {twice!r}; give each a name of its own")


@dataclass(frozen=True, slots=True)
class ReminderPolicy:
    """When people are reminded of a question that nobody decides. All that is due at once is one alert."""

    after: tuple[timedelta, ...] = (timedelta(hours=1), timedelta(hours=24))
    """Since the question was put. A gate's `remind_after` takes the place of the first."""
    then_every: timedelta | None = timedelta(days=1)
    """After the last of those; None: no more."""

    def __post_init__(self) -> None:
        every = () if self.then_every is None else (self.then_every,)
        if any(each < timedelta(minutes=1) for each in (*self.after, *every)) or list(self.after) != sorted(self.after):
            raise ConfigError("reminders.after are times from a minute up, in order, and then_every is one, or None")


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """When alerts arise that no single write of a run causes. Give every runtime on a database the same."""

    reminders: ReminderPolicy | None = field(default_factory=ReminderPolicy)
    """When to remind of open questions; None: never."""
    expiring: float = 0.9
    """The share of a question's time after which it is told to expire; 1: never."""
    budgets: tuple[float, ...] = (0.8, 1.0)
    """The shares of a run's or a tenant's budget that are told; 1.0 also when a call found no room."""
    stalled_after: timedelta | None = timedelta(minutes=5)
    """A run due for this long while workers beat means a stalled queue, told once an hour; None: never."""
    lost_after: float = 3.0
    """A worker unheard of for this many of its leases is lost."""
    look_every: timedelta = timedelta(seconds=30)
    """How often each process with channels looks for all this."""

    def __post_init__(self) -> None:
        if not 0 < self.expiring <= 1 or not all(0 < share <= 1 for share in self.budgets):
            raise ConfigError("alerts.expiring and alerts.budgets are shares above 0, up to 1")
        if self.lost_after < 1 or self.look_every < timedelta(seconds=1):
            raise ConfigError("alerts.lost_after is a number of leases from 1 up, alerts.look_every a time from 1 s up")
        if self.stalled_after is not None and self.stalled_after <= timedelta(0):
            raise ConfigError("alerts.stalled_after is a time above 0, or None")
