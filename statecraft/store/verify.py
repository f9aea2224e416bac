"""Proving a stored history: every hash computed again, every row where it must be, the head at the journal's end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from statecraft.ids import digest
from statecraft.records import RunRecord
from statecraft.store import chain, rows
from statecraft.store import tables as t
from statecraft.store.claims import head
from statecraft.store.reads import conversation
from statecraft.store.versions import MIGRATED

Visits = dict[int, list[rows.Row]]
"""Calls by the step whose visit they belong to."""


def verify(sql: sa.Connection, run_id: bytes) -> list[str]:
    """What is wrong with the run, the first bad row of each sort first; an empty list if all holds.

    A bad row is named once: what follows it is checked against the hash that is stored. Raises `NotFound`.
    """
    run = head(sql, run_id)
    links = list(sql.execute(rows.TRANSITIONS.where(t.transitions.c.run_id == run_id)))
    visits: Visits = {}
    for call in sql.execute(rows.CALLS.where(t.calls.c.run_id == run_id)):
        visits.setdefault(call.seq, []).append(call)
    return [
        *_texts(sql, run_id),
        *_calls(visits, ended={link.seq - 1 for link in links if link.event != MIGRATED}),
        *_messages(sql, visits),
        *_links(run_id, links, visits),
        *_head(run, links),
    ]


def _links(run_id: bytes, links: Sequence[rows.Row], visits: Visits) -> Iterator[str]:
    previous, stood = chain.GENESIS, ""
    for seq, link in enumerate(links):
        if link.seq != seq:
            yield f"transition {seq}: missing"
            return
        if link.source != stood:
            yield f"transition {seq}: leaves {link.source!r}, but the run stood in {stood!r}"
        ended = visits.get(seq - 1, [])
        if link.calls != len(ended):
            yield f"transition {seq}: counts {link.calls} calls, but {len(ended)} are stored"
        hashes = [call.hash for call in ended]
        place = (link.source, link.event, link.target, link.at)
        if link.payload is not None and link.hash != chain.link(
            previous, run_id, seq, *place, link.payload, link.guards, link.actor, hashes
        ):
            yield f"transition {seq}: hash differs"
        previous, stood = link.hash, link.target


def _calls(visits: Visits, *, ended: set[int]) -> Iterator[str]:
    """`ended`: the visits that a move has ended. In one that goes on, a number may be open: of calls made side by side,
    the store may have refused one and kept a later one. The visit's next call takes that number, unless a migration
    carried the visit on."""
    for seq, done in visits.items():
        for idx, call in enumerate(done):
            if call.idx != idx and seq in ended:
                yield f"call {seq}.{idx}: missing"
                break
            if call.request is None or call.result is None:
                continue  # Named with the missing text.
            asked = (call.seq, call.kind, call.name, call.digest, call.occurrence)
            answered = (bool(call.ok), call.request, call.result, call.input_tokens, call.output_tokens)
            if call.hash != chain.call_hash(*asked, *answered):
                yield f"call {seq}.{idx}: hash differs"


def _texts(sql: sa.Connection, run_id: bytes) -> Iterator[str]:
    """Texts that were moved out of their rows."""
    places = (
        ("transition", t.transitions.c.seq, t.transitions.c.payload_hash),
        ("call", t.calls.c.seq, t.calls.c.request_hash),
        ("call", t.calls.c.seq, t.calls.c.result_hash),
    )
    for what, seq, name in places:
        query = sa.select(seq, name, t.payloads.c.body).outerjoin_from(name.table, t.payloads, name == t.payloads.c.hash)
        owner: sa.Column[bytes] = name.table.c.run_id
        for step, kept, body in sql.execute(query.where(owner == run_id, name.is_not(None)).order_by(seq)):
            if body is None:
                yield f"{what} {step}: its {name.name.removesuffix('_hash')} is missing"
            elif digest(body) != kept:
                yield f"{what} {step}: its {name.name.removesuffix('_hash')} differs from its hash"


def _messages(sql: sa.Connection, visits: Visits) -> Iterator[str]:
    """Transcripts of the model's calls, each message once."""
    seen: set[bytes] = set()
    for done in visits.values():
        for call in done:
            last = transcript_of(call)
            if last is None or last in seen:
                continue
            stored = conversation(sql, last)
            if not stored or stored[0][1] is not None:
                yield f"call {call.seq}.{call.idx}: its transcript is not whole"
            for name, parent, body in stored:
                if name not in seen and chain.message_hash(parent, body) != name:
                    yield f"call {call.seq}.{call.idx}: message {name.hex()[:12]} of its transcript differs from its hash"
                seen.add(name)


def transcript_of(call: rows.Row) -> bytes | None:
    """The last message of a model call's transcript, which its request names as `head`."""
    if call.kind != "llm" or call.request is None:
        return None
    try:
        named = json.loads(call.request).get("head")
        return None if named is None else bytes.fromhex(named)
    except (ValueError, AttributeError, TypeError):
        return None


def _head(run: RunRecord, links: Sequence[rows.Row]) -> Iterator[str]:
    last = links[-1] if links else None
    if last is None or (run.seq, run.state) != (last.seq, last.target):
        where = "empty" if last is None else f"at step {last.seq} in {last.target}"
        yield f"head: says step {run.seq} in {run.state}, but the journal is {where}"
    elif last.epoch > run.epoch:
        yield f"head: has epoch {run.epoch}, but step {last.seq} was written under epoch {last.epoch}"
