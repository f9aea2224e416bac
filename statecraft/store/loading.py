"""What an engine needs to go on with runs, read for many of them at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from statecraft.errors import NotFound
from statecraft.records import Usage
from statecraft.store import rows
from statecraft.store import tables as t
from statecraft.store.accounts import OWN, own_bounds
from statecraft.store.asked import OF_VISIT
from statecraft.store.counting import Counted, counted, counted_before
from statecraft.store.each import ask_each
from statecraft.store.port import Loaded
from statecraft.store.statements import Query
from statecraft.store.versions import MIGRATED

_RUN_ID: sa.BindParameter[bytes] = sa.bindparam("run_id")
_SEQ: sa.BindParameter[int] = sa.bindparam("seq")
_SNAPSHOT = Query(sa.select(t.snapshots.c.seq, t.snapshots.c.data).where(t.snapshots.c.run_id == _RUN_ID), "run_id")
_LINKS = Query(rows.TRANSITIONS.where(t.transitions.c.run_id == _RUN_ID, t.transitions.c.seq >= _SEQ), "run_id", "seq")
_INPUT = Query(
    sa.select(rows.PAYLOAD.label("payload"))
    .select_from(rows.LINKED)
    .where(t.transitions.c.run_id == _RUN_ID, t.transitions.c.seq == sa.literal_column("0")),
    "run_id",
)
_PAST = Query(
    sa.select(
        t.transitions.c.target,
        t.transitions.c.event,
        sa.func.count().label("times"),
        sa.func.sum(t.transitions.c.input_tokens).label("input_tokens"),
        sa.func.sum(t.transitions.c.output_tokens).label("output_tokens"),
    )
    .where(t.transitions.c.run_id == _RUN_ID, t.transitions.c.seq < _SEQ)
    .group_by(t.transitions.c.target, t.transitions.c.event),
    "run_id",
    "seq",
)
_CALLS = Query(rows.CALLS.where(t.calls.c.run_id == _RUN_ID, t.calls.c.seq >= _SEQ), "run_id", "seq")
_ATTEMPTS = Query(
    sa.select(t.attempts).where(t.attempts.c.run_id == _RUN_ID, t.attempts.c.seq >= _SEQ).order_by(t.attempts.c.no),
    "run_id",
    "seq",
)


def load(sql: sa.Connection, run_ids: Sequence[bytes]) -> list[Loaded | Exception]:
    """All that is needed to go on with each of these runs, or why it cannot be had: `NotFound`, or what reading it raised."""
    found = dict(zip(run_ids, ask_each(rows.RUN, sql, [(run_id,) for run_id in run_ids]), strict=True))
    known = [head for heads in found.values() for head in heads]
    parts = dict(zip((head.run_id for head in known), _parts(sql, known), strict=True))
    return [_loaded(run_id, parts.get(run_id)) for run_id in run_ids]


@dataclass(frozen=True, slots=True)
class _Parts:
    """The rows about one run."""

    head: rows.Row
    since: int
    kept: rows.Row | None
    links: list[rows.Row]
    past: list[rows.Row]
    input: str
    calls: list[rows.Row]
    attempts: list[rows.Row]
    used: list[rows.Row]
    reviews: list[rows.Row]
    moved: Mapping[str, Any]
    """Of a visit that a migration carried on, what its step says; else empty."""
    before: Counted
    """Visits up to the snapshot, if a migration came before it."""


def _parts(sql: sa.Connection, heads: Sequence[rows.Row]) -> list[_Parts]:
    ids = [(head.run_id,) for head in heads]
    kept = [next(iter(found), None) for found in ask_each(_SNAPSHOT, sql, ids)]
    since = [(head.run_id, 0 if row is None else row.seq) for head, row in zip(heads, kept, strict=True)]
    later = [each for each in since if each[1]]
    past = dict(zip(later, ask_each(_PAST, sql, later), strict=True))
    first = dict(zip(later, ask_each(_INPUT, sql, [each[:1] for each in later]), strict=True))
    links = ask_each(_LINKS, sql, since)
    moved = [json.loads(found[-1].payload) if found[-1].event == MIGRATED else {} for found in links]
    visits = [(head.run_id, told.get("first", head.seq)) for head, told in zip(heads, moved, strict=True)]
    of_visit = [ask_each(query, sql, visits) for query in (_CALLS, _ATTEMPTS, OF_VISIT)]
    used = ask_each(OWN, sql, [own_bounds(head.run_id) for head in heads])
    out: list[_Parts] = []
    for head, each, row, found, calls, attempts, reviews, meters, told in zip(
        heads, since, kept, links, of_visit[0], of_visit[1], of_visit[2], used, moved, strict=True
    ):
        start = first[each][0] if each in first else found[0]
        far = past.get(each, [])
        before = counted_before(sql, head.run_id, each[1], far)
        out.append(_Parts(head, each[1], row, found, far, start.payload, calls, attempts, meters, reviews, told, before))
    return out


def _loaded(run_id: bytes, parts: _Parts | None) -> Loaded | Exception:
    if parts is None:
        return NotFound(f"no run {run_id.hex()} in this database; list them with `statecraft runs`")
    try:
        return _record(parts)
    except Exception as error:  # noqa: BLE001  # The others may be well.
        return error


def _record(parts: _Parts) -> Loaded:
    head, links, kept = parts.head, parts.links, parts.kept
    visits, events, usage = _past(parts)
    return Loaded(
        run=rows.run_record(head),
        machine=links[-1].machine,
        input=parts.input,
        snapshot=None if kept is None else (kept.seq, kept.data),
        tail=tuple((link.seq, link.event, link.payload) for link in links[1:]),
        visits=visits,
        events=events,
        entered_at=parts.moved.get("entered_at", links[-1].at),
        hash=links[-1].hash,
        usage=sum((Usage(call.input_tokens, call.output_tokens) for call in parts.calls if call.seq == head.seq), usage),
        calls=tuple(rows.call_record(call) for call in parts.calls),
        call_hashes=tuple(call.hash for call in parts.calls),
        marks=tuple(row.hash for row in (*parts.attempts, *parts.reviews) if row.seq == head.seq and row.hash is not None),
        attempts=tuple(rows.attempt_record(row) for row in parts.attempts),
        payload_bytes=sum(len(link.payload.encode()) for link in links[1:]),
        snapshot_at=parts.since,
        draws=head.draws,
        used={row.meter: row.used for row in parts.used},
        reviews=tuple(rows.call_review_record(row, head.state) for row in parts.reviews),
        extra_steps=head.extra_steps,
        first=parts.moved.get("first"),
    )


def _past(parts: _Parts) -> tuple[dict[str, int], frozenset[str], Usage]:
    """(visits by state, events seen, tokens of the visits that ended): summed up to the snapshot, then by the links at hand."""
    events: set[str] = set()
    inputs = outputs = 0
    for row in (*parts.past, *parts.links):
        events.add(row.event)
        inputs += row.input_tokens
        outputs += row.output_tokens
    return counted(parts.before, parts.links), frozenset(events), Usage(int(inputs), int(outputs))
