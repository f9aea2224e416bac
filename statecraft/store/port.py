"""What the engine asks of a store: a few durable writes, a few reads. No SQL and no engine knowledge here.

Every write is one value handed to `Store.submit`, which returns when it is durable and raises when it was refused; a
write is applied whole or not at all. Many writers' values may share one database transaction (group commit): a refused
one is isolated and its neighbours land. Writes that carry an `epoch` are fenced: unless the run still has that epoch
(and, where given, that `seq`), they raise `Fenced` and nothing is kept.

All instants are integer microseconds (UTC); ids are 16 bytes; payloads are JSON texts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from statecraft.letters import DeadFilter, DeadLetter, DeadPattern
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    FeedEntry,
    ReviewRecord,
    RunFilter,
    RunRecord,
    ScheduleRecord,
    TransitionRecord,
    Usage,
)
from statecraft.stats.figures import Figures
from statecraft.stats.heat import Heat
from statecraft.store.forks import Fork
from statecraft.store.holding import Beat, Claim, ClaimDue, Release, Renew
from statecraft.store.journal import Attempt, Blob, Call, Head, MessageNode, Transition
from statecraft.store.meters import Adjust, Amount, Charge, Reserve, Reserved, Settle
from statecraft.store.outbox import Outbox, Telling
from statecraft.store.questions import CallReview, Decide
from statecraft.store.redrive import Death, Drop, Redrive
from statecraft.store.scheduling import DropSchedule, Fired, PauseSchedule, PutSchedule, ResumeSchedule, ScheduleWrite
from statecraft.store.versions import Migrate, Version

__all__ = [
    "Adjust",
    "Amount",
    "Attempt",
    "Beat",
    "Blob",
    "Call",
    "CallReview",
    "Cancel",
    "Charge",
    "Claim",
    "ClaimDue",
    "Death",
    "Decide",
    "Drop",
    "DropSchedule",
    "Fired",
    "Fork",
    "Head",
    "Loaded",
    "MachineSpec",
    "MessageNode",
    "Migrate",
    "Move",
    "Park",
    "PauseSchedule",
    "PutSchedule",
    "Redrive",
    "Release",
    "Renew",
    "Reserve",
    "Reserved",
    "ResumeSchedule",
    "Review",
    "ScheduleWrite",
    "Settle",
    "Start",
    "Store",
    "Transition",
    "Version",
    "Write",
]


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A closed definition, as the store keeps it."""

    name: str
    version: str
    fingerprint: str
    """Hex SHA-256."""
    spec: str
    """The definition as canonical JSON (states, rows, bounds), enough to draw it without its code."""
    edges: tuple[tuple[str, str, str], ...]
    """(source, event, target), including the start edge whose source is empty."""


# --- writes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """A new run: its first transition (seq 0) and its head. Answers the id of the run that now owns the key.

    If `key` already belongs to a run of the same tenant-wide key space, nothing is written and that run's id is the
    answer (the runtime compares the inputs). `Fenced` if the parent has ended, `NotFound` if there is none.
    """

    transition: Transition
    head: Head
    key: str | None
    deadline_at: int | None
    trace_id: str
    tenant: str | None = None
    parent: bytes | None = None
    """The run it is a child of. Its end makes a waiting parent due, and the parent's end cancels it, each in the same
    transaction."""
    draws: str | None = None
    """JSON list of [meter, limits]: budgets of others (ancestors) that its calls draw on."""
    queue: str = "default"
    priority: int = 0
    """Higher goes first within a queue."""
    share: float = 1.0
    """The tenant's share of its queue: of two tenants that always have runs ready, one with twice the share gets twice
    the claims."""


@dataclass(frozen=True, slots=True)
class Move:
    """A step's transition. Fenced by (run_id, epoch, seq - 1).

    `head` None means: go on running under the same lease. Otherwise the lease is given up and the head is set so.
    `decision` marks the open review of visit seq - 1 as decided by this event; `AlreadyDecided` if it is not open.
    `snapshot` is the folded data as JSON after this move, kept in place of an older one.
    """

    transition: Transition
    head: Head | None = None
    decision: bool = False
    snapshot: str | None = None
    degraded: bool = False
    """From here on the run gives less than was asked for: a bound of the whole run moved it."""


@dataclass(frozen=True, slots=True)
class Review:
    """A question put to a person, written with the `Park` that waits for the answer."""

    state: str
    question: str
    show: str
    """JSON."""
    events: tuple[str, ...]
    requested_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Park:
    """Give the run up: waiting (the count of claims starts again), ready again (this claim is not counted), or dead.

    Fenced by (run_id, epoch, seq). A second review of the same visit replaces nothing: the first stays (a re-run handler
    asks the same question)."""

    run_id: bytes
    seq: int
    epoch: int
    at: int
    head: Head
    review: Review | None = None
    death: Death | None = None
    """What a person needs who finds the run dead."""
    asks: tuple[CallReview, ...] = ()
    """Questions about calls. If one of this visit was decided since the run was claimed, the run is due at once."""
    children: tuple[bytes, ...] = ()
    """Child runs it waits for. If one of them has ended already, the run is due at once."""
    alert: str | None = None
    """Something people should hear of now; told in the feed."""
    about: str | None = None
    """The model or tool whose quota the alert is about; then it is told to channels too."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a run by request, and its child runs with it: status cancelled, epoch + 1 so that its holder's next write is
    refused.

    `RunClosed` if it has ended, `NotFound` if there is none.
    """

    run_id: bytes
    at: int
    actor: str
    reason: str


Write = (
    Start
    | Move
    | Call
    | Attempt
    | Park
    | Claim
    | ClaimDue
    | Release
    | Renew
    | Cancel
    | Reserve
    | Settle
    | Adjust
    | Decide
    | Drop
    | Redrive
    | Fork
    | Migrate
    | ScheduleWrite
    | Beat
    | Telling
)


# --- reads ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """All an engine needs to go on with a run, read in one consistent view."""

    run: RunRecord
    machine: int
    input: str
    """Payload of transition 0: the data the run was started with."""
    snapshot: tuple[int, str] | None
    """(seq, folded data as JSON), if one was kept."""
    tail: tuple[tuple[int, str, str], ...]
    """(seq, event, payload) of the transitions after the snapshot (or after the start)."""
    visits: dict[str, int]
    """How often each state was entered, the current visit included."""
    events: frozenset[str]
    """Names of the events that ever moved this run."""
    entered_at: int
    """When the current visit began."""
    hash: bytes
    """Hash of the last transition."""
    usage: Usage
    """Tokens of all calls so far."""
    calls: tuple[CallRecord, ...]
    """Calls of the current visit, in order."""
    call_hashes: tuple[bytes, ...]
    """Their hashes, in the same order."""
    marks: tuple[bytes, ...]
    """Hashes of the visit's attempts, and of its questions about calls."""
    attempts: tuple[AttemptRecord, ...]
    """Attempts of the current visit."""
    payload_bytes: int
    """Payload bytes written since the snapshot (or the start)."""
    snapshot_at: int = 0
    """Transition number of the snapshot; 0 if none."""
    draws: str | None = None
    """As given to `Start`."""
    used: Mapping[str, int] = field(default_factory=dict)
    """What the meters named `run:<id>:...` and `state:<id>:...` of this run have been charged."""
    reviews: tuple[ReviewRecord, ...] = ()
    """Questions about calls of the current visit, decided or not, in order of rounds."""
    extra_steps: int = 0
    """Steps that do not count against the machine's `max_steps`: granted by redrives, or made by migrations."""
    first: int | None = None
    """The step that began the current visit, if migrations carried it on to the last one; its calls, attempts and reviews
    are of all steps from there on."""


class Store(Outbox, Protocol):
    """A durable home for runs. One instance per process and database; safe to use from one event loop."""

    async def open(self) -> None:
        """Connect, create or check the schema. Raises `StoreUnavailable` or `SchemaTooNew`."""
        ...

    async def close(self) -> None:
        """Finish what was submitted, then disconnect."""
        ...

    async def register(self, machine: MachineSpec) -> int:
        """Write a definition once (by fingerprint) and answer its number."""
        ...

    def submit(self, write: Write) -> Awaitable[object]:
        """Make one write durable and answer what its class says (None unless it says something)."""
        ...

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` on this event loop soon after another process made a run due, until the store is closed. A hint: it
        may come late, never, or for nothing. A store that cannot tell does nothing."""
        ...

    async def load(self, run_id: bytes) -> Loaded: ...
    async def run(self, run_id: bytes) -> RunRecord: ...
    async def find(self, prefix: str) -> list[str]:
        """Ids (hex) of up to 10 runs whose id starts with `prefix`; `@last` means the newest that is no child."""
        ...

    async def every(self) -> list[bytes]:
        """Ids of all runs, newest first: of those too whose head is damaged."""
        ...

    async def runs(self, which: RunFilter) -> list[RunRecord]: ...
    async def next_due(
        self,
        machines: Sequence[int],
        only: frozenset[bytes] | None,
        queues: Sequence[str] = ("default",),
        limits: Sequence[tuple[str, int]] = (),
    ) -> int | None:
        """The earliest instant at which `ClaimDue` with the same arguments can take something; None if none. For a run
        that is ready: since when it has been."""
        ...

    async def history(self, run_id: bytes) -> list[TransitionRecord]: ...
    async def calls(self, run_id: bytes, seq: int | None = None) -> list[CallRecord]: ...
    async def attempts(self, run_id: bytes, seq: int | None = None) -> list[AttemptRecord]: ...
    async def reviews(self, run_id: bytes | None = None, *, open_only: bool = False) -> list[ReviewRecord]:
        """Questions of review states and about calls, oldest first.

        Open means: undecided, the run has not ended or left the visit, and the call has no outcome. One that has expired
        stays open until the run goes on.
        """
        ...

    async def used(self, meters: Sequence[str]) -> dict[str, int]:
        """What each of these meters has been charged; 0 for one that is not known."""
        ...

    async def schedules(self, name: str | None = None) -> list[ScheduleRecord]:
        """All schedules by name, or only the one of this name."""
        ...

    async def due_schedules(self, machines: Sequence[str], now: int) -> list[ScheduleRecord]:
        """Schedules of the machines with these names whose next instant has come, the longest due first."""
        ...

    async def next_schedule(self, machines: Sequence[str]) -> int | None:
        """The earliest instant at which `due_schedules` of these machines answers something; None if none."""
        ...

    async def figures(self, now: int) -> Figures:
        """Operating figures as of `now`, without what only settings tell: budgets' limits, and what a breaker's state means."""
        ...

    async def heat(self, machine: str, since: int) -> Heat:
        """Where the runs of all versions of a machine are, and what moved since an instant."""
        ...

    async def diagnosis(self, run_id: bytes) -> str | None:
        """The diagnosis written when the run died; None if it did not."""
        ...

    async def dead_letters(self, which: DeadFilter) -> list[DeadLetter]:
        """Runs that are dead now, the latest death first."""
        ...

    async def dead_letter(self, run_id: bytes) -> DeadLetter | None:
        """The run's last death, also if it was redriven since; None if it never died."""
        ...

    async def dead_patterns(self, which: DeadFilter) -> list[DeadPattern]:
        """Runs that are dead now, counted by what they died of, the most frequent first. `limit` is not looked at."""
        ...

    async def feed(self, after: int, run_id: bytes | None = None, limit: int = 500) -> list[FeedEntry]:
        """Entries with a position above `after`, in order."""
        ...

    async def transcript(self, head: bytes) -> list[str]:
        """Bodies of the messages from the root to `head`."""
        ...

    async def blob(self, hash: bytes) -> str: ...
    async def spec(self, fingerprint: str) -> MachineSpec:
        """A registered definition. Raises `NotFound`."""
        ...

    async def known(self, fingerprint: str) -> list[Version]:
        """All definitions whose fingerprint begins so, in the order in which they were registered."""
        ...

    async def versions(self, names: Sequence[str]) -> list[Version]:
        """All definitions of the machines with these names, in the order in which they were registered."""
        ...

    async def verify(self, run_id: bytes) -> list[str]:
        """What is wrong with the run's stored history; an empty list if its chain of hashes and its head hold."""
        ...
