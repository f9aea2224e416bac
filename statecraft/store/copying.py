"""Forking in the database: the shared history is copied under the new run's id, its hashes chained anew, in one transaction.

Payloads, messages and other texts are kept by their hashes, so that the two runs share them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from statecraft.errors import NotFound
from statecraft.records import Status
from statecraft.store import chain, fairness
from statecraft.store import rows as r
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.claims import head_row, owners_of
from statecraft.store.forks import Fork
from statecraft.store.journal import Head, Transition
from statecraft.store.port import Start
from statecraft.store.spending import own_use
from statecraft.store.versions import FORKED, MIGRATED
from statecraft.store.writes import Rows, call_row, link_row, note, snapshot_row


@dataclass(slots=True)
class _Shared:
    """What is copied: links, and the rows of the visits that had ended, by visit."""

    links: Sequence[r.Row]
    open_from: int
    """The step that began the visit that had not ended. It is begun anew, so nothing of it is copied."""
    calls: Sequence[r.Row]
    attempts: Sequence[r.Row]
    questions: Sequence[r.Row]
    reviews: Sequence[r.Row]


def fork(sql: sa.Connection, write: Fork, rows: Rows) -> bytes:
    """Write a run that shares the history of another. Raises `NotFound`; then nothing was added."""
    owner = None if write.key is None else owners_of(sql, [write.key]).get(write.key)
    if owner is not None:
        return owner
    source = head_row(sql, write.source)
    shared = _read(sql, write)
    last = _copy(write, source, shared, rows)
    _head(sql, write, source, shared, last, rows)
    if write.snapshot is not None:
        rows[s.SNAPSHOT].append(snapshot_row(write.run_id, last.seq, write.snapshot))
    used = own_use(sql, write.source, shared.open_from)
    rows[s.CHARGE] += ((meter.replace(write.source.hex(), write.run_id.hex()), amount, None) for meter, amount in used)
    told = note(run=write.source.hex(), step=write.step, by=write.by, note=write.note)
    rows[s.FEED].append((write.run_id, "forked", last.seq, 0, write.at, told))
    return write.run_id


def _read(sql: sa.Connection, write: Fork) -> _Shared:
    def of(table: sa.Table, query: sa.Select[*tuple[object, ...]], before: int) -> list[r.Row]:
        return list(sql.execute(query.where(table.c.run_id == write.source, table.c.seq < before)))

    links = of(t.transitions, r.TRANSITIONS, write.step + 1)
    if len(links) <= write.step:
        raise NotFound(
            f"run {write.source.hex()} has no step {write.step} in this database any more, so it cannot be forked there"
        )
    begun = write.step
    if links[-1].event == MIGRATED:
        begun = json.loads(links[-1].payload).get("first", begun)
    return _Shared(
        links,
        begun,
        of(t.calls, r.CALLS, begun),
        of(t.attempts, sa.select(t.attempts).order_by(t.attempts.c.no), begun),
        of(t.call_reviews, sa.select(t.call_reviews), begun),
        of(t.reviews, sa.select(t.reviews), begun),
    )


def _copy(write: Fork, source: r.Row, shared: _Shared, rows: Rows) -> Transition:
    """Add the shared rows; answers the fork's last link."""
    marks: dict[int, list[bytes]] = defaultdict(list)
    for seq, mark in _beside(write, shared, rows):
        marks[seq].append(mark)
    calls: dict[int, list[r.Row]] = defaultdict(list)
    for call in shared.calls:
        calls[call.seq].append(call)
    rows[s.NOTED] += ((write.run_id, *call_row(call, rows)[1:]) for call in shared.calls)
    origin = (write.source, write.step, write.by, write.note)
    previous = chain.origin(write.key, source.tenant, forked=origin)
    made = None
    for link in shared.links:
        made = _link(write, link, previous, calls[link.seq - 1], marks[link.seq - 1])
        previous = made.hash
        link_row(made, rows)
    assert made is not None
    if write.data is not None:
        made = _changed(write, made)
        link_row(made, rows)
    return made


def _link(write: Fork, link: r.Row, previous: bytes, calls: Sequence[r.Row], marks: Sequence[bytes]) -> Transition:
    place = (link.seq, link.machine, link.source, link.event, link.target, link.epoch, link.at)
    told = (link.payload, link.guards, link.actor)
    mark = chain.link(previous, write.run_id, *place, *told, [call.hash for call in calls], marks)
    tokens = [sum(getattr(call, name) for call in calls) for name in ("input_tokens", "output_tokens")]
    return Transition(write.run_id, *place, *told, tokens[0], tokens[1], len(calls), mark)


def _changed(write: Fork, last: Transition) -> Transition:
    """The move that puts other data in place."""
    actor, payload = write.by or None, write.data or ""
    place = (last.seq + 1, last.machine, last.target, FORKED, last.target, last.epoch, write.at)
    mark = chain.link(last.hash, write.run_id, *place, payload, "[]", actor, ())
    return Transition(write.run_id, *place, payload, "[]", actor, 0, 0, 0, mark)


def _beside(write: Fork, shared: _Shared, rows: Rows) -> Iterator[tuple[int, bytes]]:
    """Add attempts, questions and reviews. Answers (visit, hash) of what links cover; what was written without a hash gets
    one."""
    for row in shared.attempts:
        mark = chain.attempt_hash(row)
        rows[s.TRIED].append(_values(s.TRIED, row, run_id=write.run_id, hash=mark))
        yield row.seq, mark
    for row in shared.questions:
        mark = chain.question_hash(row.seq, row, row.decisions)
        facts = (row.decision, row.decided_by, row.decided_at, row.decided_epoch, row.note, row.answer)
        answer = None if row.decision is None else chain.answer_hash(mark, *facts)
        rows[s.QUESTIONED].append(_values(s.QUESTIONED, row, run_id=write.run_id, hash=mark, answer_hash=answer))
        yield row.seq, mark
    for row in shared.reviews:
        asked = (row.seq, row.state, row.requested_at, row.expires_at, row.events, row.question, row.show)
        rows[s.REVIEWED].append(_values(s.REVIEWED, row, run_id=write.run_id, hash=chain.review_hash(*asked)))


def _values(statement: s.Statement, row: r.Row, **other: object) -> s.Row:
    return tuple(other[name] if name in other else getattr(row, name) for name in statement.order)


def _head(sql: sa.Connection, write: Fork, source: r.Row, shared: _Shared, last: Transition, rows: Rows) -> None:
    head, place = Head(Status.READY, due_at=write.at), {"queue": source.queue, "priority": source.priority}
    start = Start(last, head, None, None, "", source.tenant, share=write.share, **place)
    values: dict[str, object] = {
        "run_id": write.run_id,
        "machine": last.machine,
        "seq": last.seq,
        "state": last.target,
        "status": str(head.status),
        "epoch": max(link.epoch for link in shared.links),
        "attempts": 0,
        "due_at": head.due_at,
        "deadline_at": write.deadline_at,
        "created_at": write.at,
        "updated_at": write.at,
        "key": write.key,
        "trace_id": write.trace_id,
        "tenant": source.tenant,
        **place,
        "turn": fairness.turns(sql, [start])[write.run_id],
        "degraded": int(write.degraded),
        "extra_steps": _extra_steps(write, shared),
        "forked_from": write.source,
        "forked_step": write.step,
        "forked_by": write.by,
        "forked_note": write.note,
    }
    rows[s.FORK].append(tuple(values.get(name) for name in s.FORK.order))


def _extra_steps(write: Fork, shared: _Shared) -> int:
    """Steps beyond the machine's bound: what redrives had granted by then, and the moves that are no steps."""
    extra = 0
    for link in shared.links:
        extra += link.event in (FORKED, MIGRATED)
        for call in shared.calls:
            if call.seq == link.seq and call.kind == "redrive":
                wish = json.loads(call.request)
                if wish.get("steps") is not None:
                    made = link.seq + (wish.get("event") is not None)
                    extra = max(extra, made + wish["steps"] - write.max_steps)
    return extra + (write.data is not None)
