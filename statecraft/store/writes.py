"""From a write to rows: what each kind of write puts into the tables. Pure; nothing here talks to a database."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from statecraft.ids import digest
from statecraft.records import Status, Waiting
from statecraft.store import chain, telling
from statecraft.store import statements as s
from statecraft.store.outbox import Telling
from statecraft.store.port import (
    Adjust,
    Attempt,
    Beat,
    Blob,
    Call,
    CallReview,
    Cancel,
    Charge,
    Claim,
    ClaimDue,
    Decide,
    Drop,
    Fork,
    Head,
    MachineSpec,
    Migrate,
    Move,
    Park,
    Redrive,
    Release,
    Renew,
    Reserve,
    ScheduleWrite,
    Settle,
    Start,
    Transition,
    Write,
)
from statecraft.store.tables import INLINE_BYTES


class Rows(defaultdict[s.Statement, list[s.Row]]):
    """Rows to write, by the statement that writes them."""

    def __init__(self) -> None:
        super().__init__(list)
        self.ended: list[tuple[bytes, int]] = []
        """(run, time) of the runs that these rows end; see `families`."""
        self.turns: Mapping[bytes, int] = {}
        """The turns of the runs that these rows start; see `fairness`."""


Plain = Start | Move | Call | Attempt | Park
"""Writes that are nothing but rows; many share one run of each statement."""

Step = Write | MachineSpec
"""What a store writes."""

ALONE = (
    Claim,
    ClaimDue,
    Release,
    Renew,
    Cancel,
    Reserve,
    Settle,
    Adjust,
    Decide,
    Beat,
    MachineSpec,
    Redrive,
    Drop,
    Fork,
    Migrate,
    *get_args(ScheduleWrite),
    *get_args(Telling),
)
"""Writes that must look before they write."""
_ALONE = frozenset(ALONE)


def rows_of(write: Plain, rows: Rows) -> None:
    """Add the rows of one write. Tuples are in the order of their statement."""
    _MAKERS[type(write)](write, rows)


def note(**facts: object) -> str:
    """A few facts for the feed, as JSON."""
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False)


def _start(write: Start, rows: Rows) -> None:
    link, head = write.transition, write.head
    finished = link.at if head.status.closed else None
    place = (link.run_id, link.machine, link.seq, link.target, str(head.status), link.epoch, 0, head.owner, head.lease_until)
    times = (_word(head.waiting_for), head.due_at, write.deadline_at, link.at, link.at, finished)
    facts = (write.key, write.trace_id, write.tenant, write.parent, head.reason, write.draws)
    row = (*place, *times, *facts, write.queue, write.priority, rows.turns.get(link.run_id, 0))
    if write.parent is None:
        rows[s.RUN].append(row)
    else:
        rows[s.CHILD].append((*row, write.parent))
    journal(link, "started", rows)
    _tell(link.run_id, link.seq, link.at, head, rows)
    if finished is not None:
        telling.moved(link, head, False, rows)


def _move(write: Move, rows: Rows) -> None:
    link, head = write.transition, write.head
    before = link.seq - 1
    if head is None:
        rows[s.ADVANCE].append((link.seq, link.target, link.at, link.run_id, link.epoch, before))
    else:
        settle = s.DECIDE if write.decision else s.SETTLE
        rows[settle].append((link.seq, link.target, *_head(head, link.at), link.run_id, link.epoch, before))
    journal(link, "transition", rows)
    if write.degraded:
        rows[s.DEGRADE].append((link.run_id,))
    if write.decision:
        rows[s.DECISION].append((link.event, link.actor, link.at, link.run_id, before))
    if write.snapshot is not None:
        rows[s.SNAPSHOT].append(snapshot_row(link.run_id, link.seq, write.snapshot))
    if head is not None or write.decision:
        telling.moved(link, head, write.decision, rows)
    if head is not None:
        _tell(link.run_id, link.seq, link.at, head, rows)
        end(link.run_id, link.at, head, rows)


def journal(link: Transition, kind: str, rows: Rows) -> None:
    """A link of the journal, and the feed's word of it."""
    link_row(link, rows)
    rows[s.FEED].append((link.run_id, kind, link.seq, 0, link.at, None))


def link_row(link: Transition, rows: Rows) -> None:
    """A link of the journal."""
    place = (link.run_id, link.seq, link.machine, link.source, link.event, link.target, link.epoch, link.at)
    facts = (link.calls, link.input_tokens, link.output_tokens, link.actor, link.hash, link.guards)
    rows[s.TRANSITION].append((*place, *facts, *_stow(link.payload, rows)))


def _call(write: Call, rows: Rows) -> None:
    held = (write.run_id, write.epoch, write.seq)
    rows[s.CALL].append((*call_row(write, rows), *held))
    rows[s.UNRESERVE].append((write.run_id, write.seq, write.digest, write.occurrence))
    if write.charges:
        charge(write.charges, (write.run_id, write.seq), write.finished_at, rows)
    rows[s.FEED].append((write.run_id, "call", write.seq, write.idx, write.finished_at, None))
    for message in write.nodes:
        rows[s.MESSAGE].append((message.hash, message.parent, message.body))
    for blob in write.blobs:
        _put(blob, rows)


def call_row(write: Call, rows: Rows) -> s.Row:
    """The row of `calls`; long texts go to their own rows."""
    what = (write.run_id, write.seq, write.idx, write.kind, write.name, write.digest, write.occurrence, int(write.ok))
    how = (write.attempts, write.started_at, write.finished_at, write.epoch, write.input_tokens, write.output_tokens)
    texts = (*_stow(write.request, rows), *_stow(write.result, rows))
    return (*what, *how, write.model, write.cost, write.price_source, write.hash, *texts)


def snapshot_row(run_id: bytes, seq: int, data: str) -> s.Row:
    """The row of `snapshots`."""
    return run_id, seq, chain.snapshot_hash(seq, data), data


def charge(charges: Sequence[Charge], place: tuple[bytes, int], at: int, rows: Rows) -> None:
    """Add to what meters have been charged, for a call of the visit `place`."""
    rows[s.CHARGE] += ((charge.meter, charge.amount, None) for charge in charges)
    for each in charges:
        if each.limit is not None:
            telling.charged(each, place, at, rows)


def _attempt(write: Attempt, rows: Rows) -> None:
    which = (write.run_id, write.seq, write.digest, write.occurrence, write.attempt, write.kind, write.name)
    held = (write.run_id, write.epoch, write.seq)
    rows[s.ATTEMPT].append((*which, write.epoch, write.at, write.due_at, chain.attempt_hash(write), write.message, *held))
    facts = note(name=write.name, kind=write.kind, attempt=write.attempt, message=write.message[:200], due_at=write.due_at)
    rows[s.FEED].append((write.run_id, "attempt", write.seq, 0, write.at, facts))


def _park(write: Park, rows: Rows) -> None:
    status = write.head.status
    statement = s.PARK if status is Status.WAITING else s.DIE if status is Status.DEAD else s.HAND_BACK
    rows[statement].append((*_head(write.head, write.at), write.run_id, write.epoch, write.seq))
    asked = write.review
    if asked is not None:
        times, texts = (asked.requested_at, asked.expires_at), (json.dumps(asked.events), asked.question, asked.show)
        mark = chain.review_hash(write.seq, asked.state, *times, *texts)
        rows[s.REVIEW].append((write.run_id, write.seq, asked.state, *times, mark, *texts, write.run_id, write.seq))
    if (death := write.death) is not None:
        told = (write.seq, write.epoch, write.at, death.state, death.error, death.call)
        rows[s.DEATH].append((write.run_id, *told, chain.death_hash(*told, death.diagnosis), death.diagnosis))
    for question in write.asks:
        _ask(write, question, rows)
    if write.asks or write.head.waiting_for is Waiting.REVIEW:
        rows[s.WAKE_BY_DECISION].append((write.at, write.run_id, write.at))
    rows[s.FREE].append((write.run_id,))
    rows[s.WAKE_BY_CHILD] += ((write.at, write.run_id, child, write.at) for child in write.children)
    _tell(write.run_id, write.seq, write.at, write.head, rows)
    if write.alert is not None:
        rows[s.FEED].append((write.run_id, "alert", write.seq, 0, write.at, note(text=write.alert)))
    if asked is not None or write.asks or write.about is not None or write.head.status is Status.DEAD:
        telling.parked(write, rows)
    end(write.run_id, write.at, write.head, rows)


def _ask(park: Park, asked: CallReview, rows: Rows) -> None:
    key = (park.run_id, park.seq, asked.digest, asked.occurrence, asked.round)
    times = (asked.requested_at, asked.remind_at, asked.expires_at)
    decisions = json.dumps(asked.decisions)
    mark = chain.question_hash(park.seq, asked, decisions)
    texts = (decisions, asked.question, asked.arguments, asked.show)
    rows[s.QUESTION].append((*key, asked.kind, asked.tool, asked.action, *times, mark, *texts, *key))


def end(run_id: bytes, at: int, head: Head, rows: Rows) -> None:
    """Remember a run that these rows end."""
    if head.status.closed:
        rows.ended.append((run_id, at))


def _head(head: Head, at: int) -> s.Row:
    """The values of `statements` for a head, in its order."""
    finished = at if head.status.closed else None
    return (str(head.status), head.owner, head.lease_until, _word(head.waiting_for), head.due_at, at, finished, head.reason)


def _word(word: str | None) -> str | None:
    return None if word is None else str(word)


def _tell(run_id: bytes, seq: int, at: int, head: Head, rows: Rows) -> None:
    """Say in the feed that the run waits or died; other heads follow from the transition itself."""
    if head.status is Status.WAITING:
        rows[s.FEED].append((run_id, "waiting", seq, 0, at, note(waiting_for=_word(head.waiting_for), due_at=head.due_at)))
    elif head.status is Status.DEAD:
        rows[s.FEED].append((run_id, "dead", seq, 0, at, note(reason=head.reason)))


def _stow(text: str, rows: Rows) -> tuple[bytes | None, str | None]:
    """(hash, text) columns of a text: a long one goes to `payloads`, and the row keeps its hash."""
    size = len(text)
    if size <= INLINE_BYTES and (text.isascii() or len(text.encode()) <= INLINE_BYTES):
        return None, text
    name = digest(text)
    _put(Blob(name, text), rows)
    return name, None


def _put(blob: Blob, rows: Rows) -> None:
    rows[s.PAYLOAD].append((blob.hash, blob.body))


_MAKERS: dict[type, Callable[[Any, Rows], None]] = {Start: _start, Move: _move, Call: _call, Attempt: _attempt, Park: _park}


def waves(writes: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Split writes, in order, so that those of one wave may be done together whatever their order.

    Writes of one run keep their order, but for calls and attempts, which only add to a visit. What must look before
    it writes stands alone.
    """
    wave: list[Step] = []
    seen: dict[object, bool] = {}
    for write in writes:
        kind = type(write)
        if kind in _ALONE:
            if wave:
                yield wave
                wave, seen = [], {}
            yield [write]
            continue
        adds = kind is Call or kind is Attempt
        subjects = _subjects(write)
        for subject in subjects:
            if subject in seen and not (adds and seen[subject]):
                yield wave
                wave, seen = [], {}
                break
        wave.append(write)
        for subject in subjects:
            seen[subject] = adds
    if wave:
        yield wave


def _subjects(write: Any) -> tuple[object, ...]:
    """What a write is about: its run, and the key it claims."""
    if isinstance(write, Move):  # First, because most are.
        return (write.transition.run_id,)
    if isinstance(write, Start):
        run_id = write.transition.run_id
        return (run_id,) if write.key is None else (run_id, write.key)
    return (write.run_id,)
