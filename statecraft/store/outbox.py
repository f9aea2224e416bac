"""Writes about what people are told: events that no run's write causes, channels, and the carrying of deliveries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from statecraft.records import DeliveryRecord, Json


def event_id(kind: str, *parts: object) -> bytes:
    """The id of an event: the first 16 bytes of SHA-256 over its kind and what makes it this one. So that whoever writes
    it again, writes the same."""
    return hashlib.sha256("\n".join((kind, *map(str, parts))).encode()).digest()[:16]


@dataclass(frozen=True, slots=True)
class Tell:
    """An event that no run's write causes. Kept if a channel wants its kind; the same id a second time changes nothing."""

    event: bytes
    """`event_id` of its kind, its subject and a window or round, so that a fleet tells it once."""
    kind: str
    at: int
    body: str
    """JSON object: a few facts."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Make a channel known, or change what it wants. It is told of events from its first subscription on."""

    channel: str
    kinds: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Enable:
    """Let a disabled channel be told again, or disable it for a `reason`."""

    channel: str
    at: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Take up to `limit` due deliveries of a channel: each is put off until `until` and counts one more attempt, so that
    nobody else sends it meanwhile, and somebody does if we are killed. Answers a list of `Errand`."""

    channel: str
    now: int
    until: int
    limit: int


@dataclass(frozen=True, slots=True)
class Errand:
    """A delivery that was taken."""

    event: bytes
    kind: str
    at: int
    """When the event happened."""
    attempt: int
    """From 1."""
    data: Mapping[str, Json]
    """Where it happened, and the facts of the event."""


@dataclass(frozen=True, slots=True)
class Carried:
    """An attempt succeeded. Counts whoever has the delivery now."""

    channel: str
    event: bytes
    attempt: int
    at: int


@dataclass(frozen=True, slots=True)
class Missed:
    """An attempt failed; the next is at `due_at`, None if it is given up. Changes nothing if another has taken it."""

    channel: str
    event: bytes
    attempt: int
    due_at: int | None
    error: str


@dataclass(frozen=True, slots=True)
class Hurry:
    """Make everything of a channel due that waits after a failure: the channel is back."""

    channel: str
    at: int


@dataclass(frozen=True, slots=True)
class Redeliver:
    """Make a delivery due again, whatever became of it, with all its attempts before it. Answers how many channels that is.

    Raises `NotFound` if there is no such event."""

    event: bytes
    at: int


@dataclass(frozen=True, slots=True)
class Rule:
    """`AlertPolicy` in microseconds: what to look for."""

    after: tuple[int, ...]
    every: int | None
    expiring: float
    stalled_after: int | None
    lost_after: float


@dataclass(frozen=True, slots=True)
class Remind:
    """Tell of the questions that became due for a reminder, or close to their end, since this was last done.

    Which instant it was last done until is kept in the database and moved in the same transaction, so that each
    reminder is told once by all processes together."""

    now: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Sightings:
    """What a look at the database finds."""

    due: bool = False
    """Whether `Remind` would tell anything."""
    stalled: tuple[tuple[str, int, int], ...] = ()
    """(queue, how many runs are overdue, since when the first) of queues that stand still."""
    lost: tuple[tuple[str, int, int], ...] = ()
    """(owner, last beat, runs held then) of workers that are gone."""


Telling = Tell | Subscribe | Enable | Fetch | Carried | Missed | Hurry | Redeliver | Remind
"""What a store writes for people; see `port.Store.submit`."""


class Outbox(Protocol):
    """What is read of all this; part of `port.Store`."""

    async def sightings(self, now: int, rule: Rule) -> Sightings:
        """What people should hear of that no write tells."""
        ...

    async def next_delivery(self, channel: str) -> int | None:
        """When the first delivery of a channel is due; None if none is, or the channel is disabled."""
        ...

    async def deliveries(self, *, failed: bool = False, event: str = "", limit: int = 50) -> list[DeliveryRecord]:
        """What was told, newest first: all of it or what was given up, of events whose id begins with `event`."""
        ...
