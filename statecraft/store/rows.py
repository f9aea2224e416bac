"""From rows to records: the shapes in which the rest of the library sees what is stored."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from statecraft.clock import instant
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    FeedEntry,
    Json,
    ReviewRecord,
    RunRecord,
    Status,
    TransitionRecord,
    Usage,
    Waiting,
)
from statecraft.store import tables as t
from statecraft.store.questions import review_id
from statecraft.store.statements import Query

_payload, _request, _result = (t.payloads.alias(name) for name in ("payload_text", "request_text", "result_text"))

RUNS = sa.select(
    t.runs, t.machines.c.name.label("machine_name"), t.machines.c.version.label("machine_version"), t.machines.c.fingerprint
).join_from(t.runs, t.machines)
"""Heads of runs with their machines; for `run_record`."""

RUN = Query(RUNS.where(t.runs.c.run_id == sa.bindparam("run_id")), "run_id")
"""One head."""

LINKED = t.transitions.outerjoin(_payload, t.transitions.c.payload_hash == _payload.c.hash)
PAYLOAD = sa.func.coalesce(t.transitions.c.payload, _payload.c.body)

TRANSITIONS = (
    sa.select(*(column for column in t.transitions.c if not column.name.startswith("payload")), PAYLOAD.label("payload"))
    .select_from(LINKED)
    .order_by(t.transitions.c.seq)
)
"""Links of the journal with their payloads, long ones put back; for `transition_record`."""

CALLS = (
    sa.select(
        *(column for column in t.calls.c if not column.name.startswith(("request", "result"))),
        sa.func.coalesce(t.calls.c.request, _request.c.body).label("request"),
        sa.func.coalesce(t.calls.c.result, _result.c.body).label("result"),
    )
    .select_from(
        t.calls.outerjoin(_request, t.calls.c.request_hash == _request.c.hash).outerjoin(
            _result, t.calls.c.result_hash == _result.c.hash
        )
    )
    .order_by(t.calls.c.seq, t.calls.c.idx)
)
"""Finished calls with their texts, long ones put back; for `call_record`."""

Row = Any
"""A row with a field for each column that was asked for."""


def run_record(row: Row) -> RunRecord:
    """A row of `RUNS`."""
    return RunRecord(
        id=row.run_id.hex(),
        machine=row.machine_name,
        version=row.machine_version,
        fingerprint=row.fingerprint,
        status=Status(row.status),
        state=row.state,
        seq=row.seq,
        epoch=row.epoch,
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
        key=row.key,
        owner=row.owner,
        lease_until=_maybe(row.lease_until),
        waiting_for=None if row.waiting_for is None else Waiting(row.waiting_for),
        due_at=_maybe(row.due_at),
        deadline_at=_maybe(row.deadline_at),
        attempts=row.attempts,
        reason=row.reason,
        trace_id=row.trace_id,
        tenant=row.tenant,
        parent=None if row.parent is None else row.parent.hex(),
        queue=row.queue,
        priority=row.priority,
        degraded=bool(row.degraded),
        forked_from=None if row.forked_from is None else row.forked_from.hex(),
        forked_step=row.forked_step,
        forked_by=row.forked_by or "",
        forked_note=row.forked_note or "",
    )


def transition_record(row: Row) -> TransitionRecord:
    """A row of `TRANSITIONS`."""
    return TransitionRecord(
        run_id=row.run_id.hex(),
        seq=row.seq,
        source=row.source,
        event=row.event,
        target=row.target,
        at=instant(row.at),
        epoch=row.epoch,
        payload=json.loads(row.payload),
        guards=tuple((name, bool(answer)) for name, answer in json.loads(row.guards)),
        actor=row.actor,
        usage=Usage(row.input_tokens, row.output_tokens),
        calls=row.calls,
        hash=row.hash,
    )


def call_record(row: Row) -> CallRecord:
    """A row of `CALLS`."""
    return CallRecord(
        run_id=row.run_id.hex(),
        seq=row.seq,
        idx=row.idx,
        kind=row.kind,
        name=row.name,
        digest=row.digest.hex(),
        occurrence=row.occurrence,
        ok=bool(row.ok),
        request=json.loads(row.request),
        result=json.loads(row.result),
        attempts=row.attempts,
        started_at=instant(row.started_at),
        finished_at=instant(row.finished_at),
        epoch=row.epoch,
        usage=Usage(row.input_tokens, row.output_tokens),
        model=row.model,
        cost=row.cost,
        price_source=row.price_source,
    )


def attempt_record(row: Row) -> AttemptRecord:
    """A row of `attempts`."""
    return AttemptRecord(
        run_id=row.run_id.hex(),
        seq=row.seq,
        digest=row.digest.hex(),
        occurrence=row.occurrence,
        attempt=row.attempt,
        name=row.name,
        kind=row.kind,
        message=row.message,
        at=instant(row.at),
        due_at=_maybe(row.due_at),
    )


def review_record(row: Row) -> ReviewRecord:
    """A row of `reviews`."""
    return ReviewRecord(
        run_id=row.run_id.hex(),
        seq=row.seq,
        state=row.state,
        question=row.question,
        show=json.loads(row.show),
        events=tuple(json.loads(row.events)),
        requested_at=instant(row.requested_at),
        expires_at=_maybe(row.expires_at),
        decision=row.decision,
        decided_by=row.decided_by,
        decided_at=_maybe(row.decided_at),
        id=review_id(row.seq),
    )


CALL_REVIEWS = sa.select(t.call_reviews, t.transitions.c.target.label("state")).join_from(
    t.call_reviews,
    t.transitions,
    sa.and_(t.transitions.c.run_id == t.call_reviews.c.run_id, t.transitions.c.seq == t.call_reviews.c.seq),
)
"""Questions about calls with the states they were asked in; for `call_review_record`."""


def call_review_record(row: Row, state: str) -> ReviewRecord:
    """A row of `call_reviews`, asked in `state`."""
    return ReviewRecord(
        run_id=row.run_id.hex(),
        seq=row.seq,
        state=state,
        question=row.question,
        show=json.loads(row.show),
        events=tuple(json.loads(row.decisions)),
        requested_at=instant(row.requested_at),
        expires_at=_maybe(row.expires_at),
        decision=row.decision,
        decided_by=row.decided_by,
        decided_at=_maybe(row.decided_at),
        id=review_id(row.seq, (row.digest, row.occurrence, row.round)),
        kind=row.kind,
        tool=row.tool,
        arguments=json.loads(row.arguments),
        action=row.action.hex(),
        remind_at=_maybe(row.remind_at),
        note=row.note or "",
        answer=None if row.answer is None else json.loads(row.answer),
        call=(row.digest.hex(), row.occurrence, row.round),
    )


_link, _done = t.transitions.alias("link"), t.calls.alias("done")
_MOVED = sa.and_(t.feed.c.kind.in_(("started", "transition")), _link.c.run_id == t.feed.c.run_id, _link.c.seq == t.feed.c.seq)
_CALLED = sa.and_(
    t.feed.c.kind == "call", _done.c.run_id == t.feed.c.run_id, _done.c.seq == t.feed.c.seq, _done.c.idx == t.feed.c.idx
)

FEED = (
    sa.select(
        t.feed,
        *(_link.c[name] for name in ("source", "event", "target", "actor")),
        _link.c.input_tokens.label("moved_input"),
        _link.c.output_tokens.label("moved_output"),
        _done.c.kind.label("call_kind"),
        *(_done.c[name] for name in ("name", "ok", "attempts", "input_tokens", "output_tokens", "started_at", "finished_at")),
    )
    .select_from(t.feed.outerjoin(_link, _MOVED).outerjoin(_done, _CALLED))
    .order_by(t.feed.c.pos)
)
"""The feed with what it speaks of; for `feed_entry`."""


def feed_entry(row: Row) -> FeedEntry:
    """A row of `FEED`."""
    return FeedEntry(row.pos, row.run_id.hex(), row.kind, row.seq, row.idx, instant(row.at), _detail(row))


def _detail(row: Row) -> dict[str, Json]:
    match row.kind:
        case "started" | "transition":
            place = {"source": row.source, "event": row.event, "target": row.target, "actor": row.actor}
            return {**place, "input_tokens": row.moved_input, "output_tokens": row.moved_output}
        case "call":
            seconds = (row.finished_at - row.started_at) / 1_000_000
            tokens = row.input_tokens + row.output_tokens
            what = {"kind": row.call_kind, "name": row.name, "ok": bool(row.ok), "attempts": row.attempts}
            return {**what, "tokens": tokens, "seconds": seconds}
        case _:
            facts: dict[str, Json] = json.loads(row.note) if row.note else {}
            if facts.get("due_at") is not None:
                facts["due_at"] = instant(facts["due_at"]).isoformat()
            return facts


def _maybe(micros: int | None) -> Any:
    return None if micros is None else instant(micros)
