"""The journal of one visit to one state: what was already answered, and the writing down of what is new."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from statecraft.calls import lane
from statecraft.calls.call import Call, Failure, Reply, canonical
from statecraft.calls.park import Park, combined
from statecraft.clock import Clock, stamp
from statecraft.errors import (
    CallError,
    ChildFailed,
    ErrorKind,
    InDoubt,
    Looped,
    OutputInvalid,
    OverBudget,
    Rejected,
    ReviewUnanswered,
    StoreError,
    StoreUnavailable,
)
from statecraft.ids import idempotency_key
from statecraft.records import AttemptRecord, CallRecord, ReviewRecord, Usage, Waiting
from statecraft.store import chain, port

REDRIVE = "redrive"
"""Kind of the row by which a person let the visit go on after it had died."""
AGAIN = 1_000_000
"""Added to the number of a call that failed and is made again after a redrive: its failure keeps its row."""
CHANGED = "changed"
"""Where the row of a call says that a person changed its arguments, beside what the handler asked for."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of a finished call, as the journal has it."""

    ok: bool
    result: str
    usage: Usage
    model: str | None
    attempts: int
    name: str
    cost: int | None = None
    price_source: str | None = None
    charges: tuple[port.Charge, ...] = ()

    def answer(self) -> Reply:
        """The reply, or the failure raised again as it was the first time."""
        if self.ok:
            return Reply(self.result, self.usage, self.model, self.attempts, self.cost, self.price_source)
        raise revive(self.name, self.attempts, json.loads(self.result))


def request_digest(kind: str, request: str, where: str) -> bytes:
    """What a call with this request is named in the journal, if it is made in the lane `where`."""
    named = f"lane {where}\n{kind}\n{request}" if where else f"{kind}\n{request}"
    return hashlib.sha256(named.encode()).digest()


_ON_FIRST_USE: Mapping[str, type] = {
    **dict.fromkeys(("gaps", "reviews", "asks", "alerts"), list),
    **dict.fromkeys(("tried", "seen", "made", "changes", "owed", "begun"), dict),
    "retried": set,
}


@dataclass(slots=True)
class Visit:
    """One visit: (run, seq) under one epoch. Knows the calls of earlier attempts at it and journals new ones."""

    store: port.Store
    clock: Clock
    run_id: bytes
    seq: int
    epoch: int
    recorded: dict[tuple[bytes, int], Recorded] = field(default_factory=dict)
    hashes: list[bytes] = field(default_factory=list)
    """Hashes of the finished calls, by index; without a gap, the next call's index is their number."""
    marks: Sequence[bytes] = ()
    """Hashes of the attempts, and of the questions about calls."""
    gaps: list[int] = field(init=False)
    """Indexes below the last one that no row has, since the store refused it while a later one was kept."""
    tried: dict[tuple[bytes, int], list[AttemptRecord]] = field(init=False)
    reviews: list[ReviewRecord] = field(init=False)
    """Questions about calls of the visit that earlier executions asked, decided or not, in order of rounds."""
    seen: dict[bytes, int] = field(init=False)
    """How often each request was made in this execution of the handler."""
    made: dict[tuple[bytes, int], str] = field(init=False)
    """The lane of each call made in this execution."""
    usage: Usage = Usage()
    """Tokens of the visit's finished calls."""
    parks: list[tuple[str, Park]] = field(default_factory=list)
    """Calls that gave the run up, each with its lane."""
    slept: bool = False
    """Whether the handler waited on purpose: then another look at the same state may find the world changed."""
    carried: int | None = None
    """The step that began the visit, if a migration carried it on."""
    over: StoreError | None = None
    """Why this process may journal nothing more: the store refused a write, or the run was lost. What the handler makes
    of it does not count, since memory and journal may differ now; the run goes on from what was stored."""

    asks: list[port.CallReview] = field(init=False)
    """Questions about calls that wait for a person; written when the run parks."""
    alerts: list[str] = field(init=False)
    """What people should hear of when the run parks."""
    changes: dict[tuple[bytes, int], dict[str, Any]] = field(init=False)
    """What a person put in the place of a call's arguments; kept with its row."""
    owed: dict[tuple[bytes, int], tuple[port.Charge, ...]] = field(init=False)
    """What calls that failed are charged all the same, with their rows."""
    has_children: bool = False
    """Whether earlier executions started child runs."""
    redrives: int = 0
    """How often the visit died and was let go on."""
    redriven_at: int = 0
    """When it last was, in microseconds; 0 if never."""
    retried: set[tuple[bytes, int]] = field(init=False)
    """Failed calls that redrives gave up on: they are made again, under another number."""
    begun: dict[tuple[bytes, int], tuple[str, str]] = field(init=False)
    """(name, request) of the `once` calls that this execution began."""

    def __getattr__(self, name: str) -> Any:
        # Most visits make no call. What only calls need is made on first use, because a step is short enough for a dozen
        # empty containers to be a good part of it.
        kind = _ON_FIRST_USE.get(name)
        if kind is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        value = kind()
        setattr(self, name, value)
        return value

    @property
    def first(self) -> int:
        """The step that began the visit: what keys of calls and child runs are made of, which no migration changes."""
        return self.seq if self.carried is None else self.carried

    def end(self, why: StoreError) -> None:
        """Refuse every further call of this visit with `why`; the first reason stays."""
        self.over = self.over or why

    def _still_open(self) -> None:
        if self.over is not None:
            raise self.over

    def park(
        self,
        due_at: int | None,
        why: Waiting,
        alert: str | None = None,
        *,
        about: str | None = None,
        children: tuple[bytes, ...] = (),
    ) -> Park:
        """The exception that gives the run up until `due_at`, or until one of these child runs has ended; the earliest
        of several counts, and the first alert."""
        park = Park(due_at, why, alert, about=about, children=children)
        self.parks.append((lane.current(), park))
        return park

    @property
    def parked(self) -> Park | None:
        """Set when a call gave the run up; whatever the handler answers after that no longer counts."""
        return combined([park for _, park in self.parks]) if self.parks else None

    def drop(self, lanes: Sequence[str]) -> list[tuple[bytes, int]]:
        """Forget that calls in these lanes wait for anything: others were chosen. Answers the finished calls that no
        other code has made in this execution, which are those of the lanes, from this execution and earlier ones."""

        def stays(where: str) -> bool:
            return not any(lane.inside(where, each) for each in lanes)

        self.parks = [(where, park) for where, park in self.parks if stays(where)]
        self.asks = [ask for ask in self.asks if stays(self.made.get((ask.digest, ask.occurrence), ""))]
        kept = {key for key, where in self.made.items() if stays(where)}
        return sorted(self.recorded.keys() - kept)

    @classmethod
    def reopened(
        cls, opened: Visit, calls: Sequence[CallRecord], hashes: Sequence[bytes], attempts: Sequence[AttemptRecord]
    ) -> Visit:
        """`opened` with what earlier executions of the handler left in the journal."""
        for call in calls:
            opened.remember(call)
        opened.hashes.extend(hashes)
        if calls and (last := calls[-1].idx) >= len(calls):
            opened.gaps.extend(sorted(set(range(last)) - {call.idx for call in calls}))
        for attempt in attempts:
            opened.tried.setdefault((bytes.fromhex(attempt.digest), attempt.occurrence), []).append(attempt)
        return opened

    def remember(self, call: CallRecord) -> None:
        """Take a finished call of an earlier execution into account."""
        if call.kind == REDRIVE:
            self.redrives, self.redriven_at = self.redrives + 1, stamp(call.finished_at)
            self.retried.update((bytes.fromhex(digest), nth) for digest, nth in call.request["retried"])
            return
        text = json.dumps(call.result, separators=(",", ":"), ensure_ascii=False)
        outcome = Recorded(call.ok, text, call.usage, call.model, call.attempts, call.name, call.cost, call.price_source)
        place = (bytes.fromhex(call.digest), call.occurrence)
        self.recorded[place] = outcome
        self.usage += call.usage
        if isinstance(call.request, dict) and CHANGED in call.request:
            self.changes[place] = call.request[CHANGED]

    def identify(self, kind: str, request: str) -> tuple[bytes, int, str]:
        """(digest, occurrence, idempotency key) of the next call with this request in the lane it is made in."""
        where = lane.current()
        digest = request_digest(kind, request, where)
        nth = occurrence = self.seen.get(digest, 0)
        self.seen[digest] = nth + 1
        while self.redrives and (digest, occurrence) in self.retried:
            occurrence += AGAIN
        self.made[(digest, occurrence)] = where
        # The key stays: a service that heard of the failed call after all knows the repetition by it.
        return digest, occurrence, idempotency_key(self.run_id, self.first, digest, nth)

    def recall(self, call: Call) -> Recorded | None:
        """The finished call with the same request and occurrence, if the journal has one.

        Raises what ended the visit, so that a handler which goes on regardless asks nobody anything any more.
        """
        self._still_open()
        return self.recorded.get((call.digest, call.occurrence))

    async def record(self, call: Call, outcome: Recorded, started_at: int) -> None:
        """Make the outcome durable. When this returns, the call never runs again."""
        self._still_open()
        if self.changes and (change := self.changes.get((call.digest, call.occurrence))) is not None:
            call = replace(call, request=canonical({**json.loads(call.request), CHANGED: change}))
        # No await between taking the index and submitting: writes land in the order they are submitted.
        idx = self.gaps.pop(0) if self.gaps else len(self.hashes)
        row = port.Call(
            run_id=self.run_id,
            seq=self.seq,
            idx=idx,
            epoch=self.epoch,
            kind=call.kind,
            name=call.name,
            digest=call.digest,
            occurrence=call.occurrence,
            ok=outcome.ok,
            request=call.request,
            result=outcome.result,
            attempts=outcome.attempts,
            started_at=started_at,
            finished_at=self.clock.now(),
            input_tokens=outcome.usage.input_tokens,
            output_tokens=outcome.usage.output_tokens,
            model=outcome.model,
            hash=b"",
            nodes=call.nodes,
            blobs=call.blobs,
            cost=outcome.cost,
            price_source=outcome.price_source,
            charges=outcome.charges or self.owed.get((call.digest, call.occurrence), ()),
        )
        row = replace(row, hash=chain.call_hash(row))
        self.hashes.insert(idx, row.hash)
        self.recorded[(call.digest, call.occurrence)] = outcome
        self.usage += outcome.usage
        await self.write(row)

    async def leave_in_doubt(self) -> None:
        """Journal each `once` call of the visit that began and has no outcome as a failure in doubt.

        For a visit that time cuts off: the run moves on, and nobody may believe that the call did not happen.
        """
        left = {
            place: (tries[-1].name, canonical({"tool": tries[-1].name}))
            for place, tries in self.tried.items()
            if tries[-1].kind == "begun"
        }
        for (digest, occurrence), (name, request) in {**left, **self.begun}.items():
            if (digest, occurrence) in self.recorded:
                continue
            message = f"{name} had begun when its time was over, and its outcome is unknown; the run moved on without it"
            error = InDoubt(message, kind=ErrorKind.IN_DOUBT, name=name)
            key = idempotency_key(self.run_id, self.first, digest, occurrence % AGAIN)
            call = Call(self, "tool", name, request, digest, occurrence, key, _never, _unknown)
            await self.record(call, Recorded(False, failed(error), Usage(), None, 1, name), self.clock.now())

    async def account(self, row: port.Reserve | port.Settle) -> object:
        """Reserve or settle for a call of this visit; the store's answer."""
        self._still_open()
        return await self.write(row)

    async def write(self, row: port.Write) -> object:
        """Submit a write and stay until its fate is known, even if the handler is cancelled meanwhile: the hash of the
        next transition covers exactly the rows that were kept."""
        try:
            writing = asyncio.ensure_future(self.store.submit(row))
        except StoreError as error:
            self.end(error)
            raise
        cancelled: asyncio.CancelledError | None = None
        while not writing.done():
            waiter = writing.get_loop().create_future()
            writing.add_done_callback(partial(_wake, waiter))
            try:
                await waiter
            except asyncio.CancelledError as error:
                cancelled = error
        try:
            answer = writing.result()
        except BaseException as error:
            self.end(error if isinstance(error, StoreError) else StoreUnavailable(f"the store did not answer: {error!r}"))
            raise
        if cancelled is not None:
            raise cancelled
        return answer

    def note(self, call: Call) -> str:
        """What whoever reads the call's result must know first: a person changed what was asked. Empty if nobody did."""
        change = self.changes.get((call.digest, call.occurrence))
        return "" if change is None else f"[a reviewer changed the arguments to {canonical(change['arguments'])}]\n"

    def attempts(self, call: Call) -> list[AttemptRecord]:
        """Attempts of this call that failed or began before, oldest first."""
        return self.tried.get((call.digest, call.occurrence), [])

    async def attempted(self, call: Call, attempt: int, kind: str, message: str, due_at: int | None) -> None:
        """Make a failed attempt (or, with kind `begun`, the intent of a `once` call) durable."""
        self._still_open()
        row = port.Attempt(
            run_id=self.run_id,
            seq=self.seq,
            epoch=self.epoch,
            digest=call.digest,
            occurrence=call.occurrence,
            attempt=attempt,
            name=call.name,
            kind=kind,
            message=message[:500],
            at=self.clock.now(),
            due_at=due_at,
        )
        self.marks = [*self.marks, chain.attempt_hash(row)]
        await self.write(row)


async def _never(call: Call) -> Reply:
    raise AssertionError(f"{call.name} is only written down")


def _unknown(error: Exception) -> Failure:
    return Failure(ErrorKind.IN_DOUBT, str(error))


def _wake(waiter: asyncio.Future[None], _: object) -> None:
    """Let go who waits, unless they were cancelled meanwhile."""
    if not waiter.done():
        waiter.set_result(None)


def failed(error: CallError) -> str:
    """A failure as the journal keeps it."""
    detail: dict[str, object] = {"kind": error.kind.value, "message": error.message, "class": type(error).__name__}
    if isinstance(error, OverBudget):
        detail |= {"unit": error.unit, "scope": error.scope, "used": error.used, "limit": error.limit}
    return json.dumps(detail, separators=(",", ":"), ensure_ascii=False)


CLASSES: dict[str, type[CallError]] = {
    "ChildFailed": ChildFailed,
    "InDoubt": InDoubt,
    "Looped": Looped,
    "OutputInvalid": OutputInvalid,
    "Rejected": Rejected,
    "ReviewUnanswered": ReviewUnanswered,
}
"""Errors that are raised again as what they were."""


def revive(name: str, attempts: int, stored: dict[str, Any]) -> CallError:
    """The error that `failed` wrote down."""
    if stored.get("class") == "OverBudget":
        told = {field: stored[field] for field in ("unit", "scope", "used", "limit")}
        return OverBudget(stored["message"], name=name, attempts=attempts, **told)
    made = CLASSES.get(stored.get("class", ""), CallError)
    return made(stored["message"], kind=ErrorKind(stored["kind"]), name=name, attempts=attempts)
