"""Proving a stored history: every hash computed again, every row where it must be, the head at the journal's end.

What needs the machine's code (the fold of the data, the answers of guards) is looked at by `engine.proof`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from statecraft.errors import NotFound
from statecraft.ids import digest
from statecraft.store import chain, older, rows, witnesses
from statecraft.store import tables as t
from statecraft.store.reads import conversation
from statecraft.store.versions import MIGRATED

Visits = dict[int, list[rows.Row]]
"""Rows by the step whose visit they belong to."""


@dataclass(slots=True)
class Journal:
    """All that is stored of one run, as it is checked."""

    run: rows.Row
    links: list[rows.Row]
    calls: Visits
    attempts: Visits
    questions: Visits
    aged: set[int] = field(default_factory=set)
    """Steps whose links were written before schema 3: what belongs to their visits may have no hash."""
    damaged: set[int] = field(default_factory=set)
    """Visits with a call that does not hold."""

    @property
    def left(self) -> set[int]:
        """The visits that a move has ended."""
        return {link.seq - 1 for link in self.links if link.event != MIGRATED}


def verify(sql: sa.Connection, run_id: bytes) -> list[str]:
    """What is wrong with the run, the first bad row of each sort first; an empty list if all holds.

    A bad row is named once: what follows it is checked against the hash that is stored. Raises `NotFound`.
    """
    journal = _read(sql, run_id)
    calls = list(_calls(journal))
    links = list(_links(journal))  # They find out how old the rows are, and whose calls are damaged.
    return [
        *_texts(sql, run_id),
        *calls,
        *_messages(sql, journal.calls),
        *witnesses.of_visits(journal),
        *links,
        *witnesses.of_people(sql, journal),
        *witnesses.of_head(sql, journal),
    ]


def _read(sql: sa.Connection, run_id: bytes) -> Journal:
    def visits(query: sa.Select[*tuple[object, ...]]) -> Visits:
        found: Visits = {}
        for row in sql.execute(query):
            found.setdefault(row.seq, []).append(row)
        return found

    run, asked = sql.execute(sa.select(t.runs).where(t.runs.c.run_id == run_id)).first(), t.call_reviews.c
    if run is None:
        raise NotFound(f"no run {run_id.hex()} in this database; list them with `statecraft runs`")
    return Journal(
        run=run,
        links=list(sql.execute(rows.TRANSITIONS.where(t.transitions.c.run_id == run_id))),
        calls=visits(rows.CALLS.where(t.calls.c.run_id == run_id)),
        attempts=visits(sa.select(t.attempts).where(t.attempts.c.run_id == run_id).order_by(t.attempts.c.no)),
        questions=visits(sa.select(t.call_reviews).where(asked.run_id == run_id).order_by(asked.seq, asked.round)),
    )


def _links(journal: Journal) -> Iterator[str]:
    run, stood = journal.run, ""
    forked = (run.forked_from, run.forked_step, run.forked_by, run.forked_note)
    origin = (run.key, run.tenant, run.parent, run.draws, None if set(forked) == {None} else forked)
    previous, before = chain.origin(*origin), chain.GENESIS
    for seq, link in enumerate(journal.links):
        if link.seq != seq:
            yield f"transition {seq}: missing"
            return
        if link.source != stood:
            yield f"transition {seq}: leaves {link.source!r}, but the run stood in {stood!r}"
        done = journal.calls.get(seq - 1, [])
        if link.calls != len(done):
            yield f"transition {seq}: counts {link.calls} calls, but {len(done)} are stored"
        spent = tuple(sum(getattr(call, name) for call in done) for name in ("input_tokens", "output_tokens"))
        if (link.input_tokens, link.output_tokens) != spent and seq - 1 not in journal.damaged:
            told = f"{link.input_tokens} + {link.output_tokens}"
            yield f"transition {seq}: counts {told} tokens, but its calls used {spent[0]} + {spent[1]}"
        if link.payload is not None and not _holds(journal, link, previous, before):
            yield f"transition {seq}: hash differs"
        previous = before = link.hash
        stood = link.target


def _holds(journal: Journal, link: rows.Row, previous: bytes, before: bytes) -> bool:
    run_id, last = journal.run.run_id, link.seq - 1
    calls = [call.hash for call in journal.calls.get(last, [])]
    marks = [row.hash for row in (*journal.attempts.get(last, []), *journal.questions.get(last, [])) if row.hash is not None]
    place = (link.source, link.event, link.target)
    rest = (link.at, link.payload, link.guards, link.actor)
    if link.hash == chain.link(previous, run_id, link.seq, link.machine, *place, link.epoch, *rest, calls, marks):
        return True
    if link.hash == older.link(before, run_id, link.seq, *place, *rest, calls):
        journal.aged.add(link.seq)
        return True
    return False


def _calls(journal: Journal) -> Iterator[str]:
    """In a visit that goes on, a number may be open: of calls made side by side, the store may have refused one and kept a
    later one. The visit's next call takes that number, unless a migration carried the visit on."""
    left = journal.left
    for seq, done in journal.calls.items():
        for idx, call in enumerate(done):
            if call.idx != idx and seq in left:
                yield f"call {seq}.{idx}: missing"
                break
            if call.request is None or call.result is None:
                continue  # Named with the missing text.
            if call.hash not in (chain.call_hash(call), older.call_hash(call)):
                journal.damaged.add(seq)
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
    """Transcripts of the model's calls and the parts of their requests that are kept by name, each once."""
    seen: set[bytes] = set()
    for done in visits.values():
        for call in done:
            where = f"call {call.seq}.{call.idx}"
            for part, name in _parts_of(call):
                if name not in seen and (found := _blob(sql, name)) != name:
                    yield f"{where}: its {part} {'are missing' if found is None else 'differ from their hash'}"
                seen.add(name)
            last = transcript_of(call)
            if last is None or last in seen:
                continue
            stored = conversation(sql, last)
            if not stored or stored[0][1] is not None:
                yield f"{where}: its transcript is not whole"
            for name, parent, body in stored:
                if name not in seen and chain.message_hash(parent, body) != name:
                    yield f"{where}: message {name.hex()[:12]} of its transcript differs from its hash"
                seen.add(name)


def _blob(sql: sa.Connection, name: bytes) -> bytes | None:
    """What the text kept under this hash really hashes to; None if there is none."""
    body = sql.execute(sa.select(t.payloads.c.body).where(t.payloads.c.hash == name)).scalar()
    return None if body is None else digest(body)


def _parts_of(call: rows.Row) -> Sequence[tuple[str, bytes]]:
    """(what, hash) of the parts of a model's request that are kept by name."""
    told = _request(call)
    named = (("tools", told.get("tools")), ("output rules", told.get("output")))
    return [(what, name) for what, text in named if (name := _named(text)) is not None and len(name) == len(chain.GENESIS)]


def transcript_of(call: rows.Row) -> bytes | None:
    """The last message of a model call's transcript, which its request names as `head`."""
    return _named(_request(call).get("head"))


def _request(call: rows.Row) -> dict[str, object]:
    if call.kind != "llm" or call.request is None:
        return {}
    try:
        told = json.loads(call.request)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _named(text: object) -> bytes | None:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else None
    except ValueError:
        return None
