"""The nouns: frozen values that every room may pass around. No behaviour lives here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

Json = Any
"""A value made of None, bool, int, float, str, lists and string-keyed dicts."""


class Status(StrEnum):
    """The life of a run. (Never called its state: that is where it stands in the machine.)"""

    READY = "ready"
    """May be claimed by anybody who can run it."""
    RUNNING = "running"
    """Held under a lease."""
    WAITING = "waiting"
    """Parked: a row with a reason, and a due time if time can wake it."""
    DONE = "done"
    """Ended in a final state declared `ok=True`."""
    FAILED = "failed"
    """Ended in a final state declared `ok=False`."""
    CANCELLED = "cancelled"
    """Ended by a person's request."""
    DEAD = "dead"
    """The engine gave up; the diagnosis is kept and a person must look."""

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self in CLOSED


CLOSED = frozenset({Status.DONE, Status.FAILED, Status.CANCELLED, Status.DEAD})


class Waiting(StrEnum):
    """Why a run is parked."""

    REVIEW = "review"
    """A person must decide."""
    TIMER = "timer"
    """`run.sleep` lasts until the due time."""
    RETRY = "retry"
    """A call backs off until the due time."""
    QUOTA = "quota"
    """A spending limit of the provider is reached until the due time."""
    BREAKER = "breaker"
    """A dependency is failing; the due time is its next probe."""
    LIMIT = "limit"
    """A rate limit has no room before the due time."""
    CHILD = "child"
    """Child runs are under way; the end of one wakes it."""
    START = "start"
    """It begins at its due time."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more model calls. `input_tokens` counts cached input too."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    """The part of the input that was read from the provider's cache."""
    cache_write_tokens: int = 0
    """The part of the input that was written to it."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )

    @property
    def total(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Draw:
    """A budget that a run's calls draw on: its own, a state's, an ancestor's, or a tenant's."""

    meter: str
    """Name of its meters, without the unit: `run:<id>`, `state:<id>:<name>`, `visit:<id>:<step>` or `tenant:<name>:<window>`."""
    limits: Mapping[str, int]
    """What it allows, by unit: `tokens`, `money` (billionths of a dollar), `calls`, `until` (an instant, microseconds)."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run's head, as last committed."""

    id: str
    """32 hex digits."""
    machine: str
    """The machine's name."""
    version: str
    """The machine's declared version."""
    fingerprint: str
    """SHA-256 of the definition that started the run, in hex."""
    status: Status
    state: str
    """Where the run stands in its machine."""
    seq: int
    """Number of the last committed transition; 0 is the start."""
    epoch: int
    """Raised by every claim; a write that names an older epoch is refused."""
    created_at: datetime
    """When it was started; for a delayed start, once it has begun, when it began."""
    updated_at: datetime
    """When the last transition was committed or the status last changed."""
    key: str | None = None
    """The idempotency key given to `start`."""
    owner: str | None = None
    """Who holds the lease, if anybody."""
    lease_until: datetime | None = None
    waiting_for: Waiting | None = None
    due_at: datetime | None = None
    """When time wakes a parked run; None if only a person can."""
    deadline_at: datetime | None = None
    attempts: int = 0
    """Claims since the run last got on: moved, or waited on purpose."""
    reason: str | None = None
    """Why the run was cancelled or is dead."""
    trace_id: str = ""
    tenant: str | None = None
    """On whose behalf it runs; child runs inherit it."""
    parent: str | None = None
    """The run that started it as its child."""
    queue: str = "default"
    """Where it waits for a worker."""
    priority: int = 0
    """Higher goes first within its queue."""
    degraded: bool = False
    """A bound of the whole run (its deadline, a budget, its step limit) led it on to what is less than was asked for."""
    forked_from: str | None = None
    """The run whose history it shares, which may be gone."""
    forked_step: int | None = None
    """The last step they share."""
    forked_by: str = ""
    """Who forked it."""
    forked_note: str = ""
    """Why."""
    taken_from: str | None = None
    """In the answer to a claim: who held it until then, if it was running."""


@dataclass(frozen=True, slots=True)
class TransitionRecord:
    """One committed move: the unit of the journal."""

    run_id: str
    seq: int
    source: str
    """Empty for the start."""
    event: str
    target: str
    at: datetime
    epoch: int
    payload: Mapping[str, Json]
    """The event's fields, as JSON."""
    guards: tuple[tuple[str, bool], ...] = ()
    """Guards asked on the way, with their answers, in order."""
    actor: str | None = None
    """Who sent the event, if a person did."""
    usage: Usage = Usage()
    """Tokens spent in the visit that this move ended."""
    calls: int = 0
    """Calls journaled in the visit that this move ended."""
    hash: bytes = b""
    """Chained to the previous row's hash (see `store.chain`)."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One finished call of a visit."""

    run_id: str
    seq: int
    """The visit it belongs to: the transition that entered the state."""
    idx: int
    """Order of completion within the visit, from 0."""
    kind: str
    """`llm`, `tool`, `child`, `join`, `sleep`, `now`, `random` or `budget`; `redrive` is what a person did to a dead run."""
    name: str
    """Model, tool or machine."""
    digest: str
    """SHA-256 of the canonical request, hex."""
    occurrence: int
    """How many equal requests came before it in the visit."""
    ok: bool
    request: Json
    result: Json
    """The reply, or `{"kind", "message"}` of the failure."""
    attempts: int
    started_at: datetime
    finished_at: datetime
    epoch: int
    usage: Usage = Usage()
    model: str | None = None
    cost: int | None = None
    """Billionths of a dollar; None if no price is known."""
    price_source: str | None = None
    """Where the price came from: `settings`, or the name and version of a price list."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One failed or begun attempt of a call."""

    run_id: str
    seq: int
    digest: str
    occurrence: int
    attempt: int
    """From 1."""
    name: str
    kind: str
    """`begun` (the intent of a `once` call) or an error kind."""
    message: str
    at: datetime
    due_at: datetime | None
    """When the next attempt may start; None if there is none."""


@dataclass(frozen=True, slots=True)
class ReviewRecord:
    """A question to a person, and their decision."""

    run_id: str
    seq: int
    state: str
    question: str
    show: Json
    events: tuple[str, ...]
    """The events that decide it."""
    requested_at: datetime
    expires_at: datetime | None
    decision: str | None = None
    """The event that decided it."""
    decided_by: str | None = None
    decided_at: datetime | None = None
    id: str = ""
    """12 hex digits that name the review among those of its run."""
    kind: str = "state"
    """`state` (a review state asks), `gate` (may this call be made?) or `doubt` (did this call take effect?)."""
    tool: str | None = None
    """The tool that a `gate` or `doubt` is about."""
    arguments: Json = None
    """What the tool would be, or was, called with."""
    action: str | None = None
    """Hex SHA-256 of tool and arguments: what an approval is bound to."""
    remind_at: datetime | None = None
    note: str = ""
    """What the decider said."""
    answer: Json = None
    """The arguments a `modify` put in place, or the result that `happened` gave."""
    call: tuple[str, int, int] | None = None
    """(digest in hex, occurrence, round) of the call in its visit."""


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One entry of the ordered feed: something became true for a run."""

    pos: int
    """Position in the feed of this database; grows with every commit."""
    run_id: str
    kind: str
    """`started`, `transition`, `call`, `attempt`, `waiting`, `claimed`, `decided`, `alert`, `cancelled`, `dead`,
    `redriven`, `forked`."""
    seq: int
    idx: int
    """The call's index for `call`; 0 otherwise."""
    at: datetime
    detail: Mapping[str, Json] = field(default_factory=dict)
    """A few facts to show: source, event, target; name, tokens; reason."""


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One alert on its way to one channel."""

    id: str
    """The alert's id, 32 hex digits; the same for all its channels."""
    channel: str
    kind: str
    at: datetime
    """When what it tells of happened."""
    attempts: int
    due_at: datetime | None
    """The next attempt; None if it was delivered or given up."""
    delivered_at: datetime | None
    error: str | None
    """What the last failed attempt met."""
    run_id: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it was given up."""
        return self.due_at is None and self.delivered_at is None


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """What starts runs by the calendar."""

    name: str
    machine: str
    """The machine's name."""
    rule: Mapping[str, Json]
    """When: `{"cron", "zone"}`, or `{"every", "anchor"}` with seconds and an instant. `statecraft.schedules.rule` reads it."""
    input: Mapping[str, Json]
    """The data its runs are started with."""
    next_at: datetime | None
    """The next instant for which it starts a run; None while it is paused."""
    last_at: datetime | None
    """The last instant for which it started a run."""
    paused_at: datetime | None
    created_at: datetime
    updated_at: datetime
    """When its definition was last replaced."""
    queue: str = "default"
    priority: int = 0
    tenant: str | None = None
    missed: str = "latest"
    """What becomes of instants at which no worker was there: `latest`, `all` or `skip`."""
    overlap: str = "allow"
    """Whether it starts a run while its last one is open: `allow` or `skip`."""
    outcome: str = ""
    """What `Runtime.schedule` did: `created`, `unchanged` or `replaced`. Empty in other answers."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list. Every field given must hold."""

    status: Status | None = None
    state: str | None = None
    machine: str | None = None
    key: str | None = None
    limit: int = 50
    """At most this many, newest first."""
    tenant: str | None = None
    parent: str | None = None
    queue: str | None = None
    since: datetime | None = None
    """Created at this instant or later."""
    older_than: str | None = None
    """Only runs started before the one with this id: the last one of a page asks for the next page."""
