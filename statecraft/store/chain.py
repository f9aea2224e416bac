"""The hash chain of a run's journal: each transition's hash covers the one before it and all that its visit left behind.

A changed byte in any stored transition or call therefore changes every hash after it (the construction is a plain
hash chain, as in RFC 6962's log entries without the tree). The first link is chained to the run's origin: on whose behalf it
was started, and what it was forked from. Attempts and questions about calls are covered by the link that ends their visit;
answers to questions, questions of review states, snapshots and deaths have a hash of their own, kept in their row.
`store.older` has the formulas of journals that were begun by older versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

GENESIS = b"\0" * 32
"""What an origin is chained to."""


def _hash(*parts: bytes | str | int | None) -> bytes:
    """SHA-256 over length-prefixed parts, so that no two different lists of parts read the same."""
    raw = [_raw(part) for part in parts]
    return hashlib.sha256(b"%b|%b" % (b",".join([b"%d" % len(part) for part in raw]), b"".join(raw))).digest()


def _raw(part: bytes | str | int | None) -> bytes:
    if part is None:
        return b""
    if isinstance(part, bytes):
        return part
    # As PostgreSQL keeps a text, which has no zero byte; what no database keeps is refused there, not here.
    return str(part).replace("\0", "\ufffd").encode(errors="surrogatepass")


def _or(part: bytes | str | int | None) -> bytes:
    """Told apart from the empty text, where both can be."""
    return b"-" if part is None else b"+" + _raw(part)


def call_hash(call: Any) -> bytes:
    """The hash of one finished call: a `journal.Call`, or a row of `calls` with its texts."""
    asked = (call.seq, call.kind, call.name, call.digest, call.occurrence, call.request)
    times = (call.attempts, call.started_at, call.finished_at, call.epoch)
    spent = (call.input_tokens, call.output_tokens, _or(call.model), _or(call.cost), _or(call.price_source))
    return _hash(*asked, int(call.ok), call.result, *times, *spent)


def attempt_hash(row: Any) -> bytes:
    """The hash of one failed or begun attempt: a `journal.Attempt`, or a row of `attempts`."""
    which = (row.seq, row.digest, row.occurrence, row.attempt, row.kind, row.name)
    return _hash("attempt", *which, row.epoch, row.at, row.due_at, row.message)


def question_hash(seq: int, asked: Any, decisions: str) -> bytes:
    """The hash of a question about a call, a `questions.CallReview` or a row of `call_reviews`; `decisions` as JSON."""
    which = (seq, asked.digest, asked.occurrence, asked.round, asked.kind, asked.tool, asked.action)
    times = (asked.requested_at, asked.remind_at, asked.expires_at)
    return _hash("question", *which, *times, decisions, asked.question, asked.arguments, asked.show)


def answer_hash(question: bytes, decision: str, by: str, at: int, epoch: int, note: str, answer: str | None) -> bytes:
    """The hash of a decision about a call, chained to that of the question."""
    return _hash("answer", question, decision, by, at, epoch, note, _or(answer))


def review_hash(seq: int, state: str, requested_at: int, expires_at: int | None, events: str, question: str, show: str) -> bytes:
    """The hash of the question of a review state. Its decision is the move that follows, which the chain covers."""
    return _hash("review", seq, state, requested_at, expires_at, events, question, show)


def death_hash(seq: int, epoch: int, at: int, state: str | None, error: str | None, call: str | None, diagnosis: str) -> bytes:
    """The hash of what is kept of a death."""
    return _hash("death", seq, epoch, at, _or(state), _or(error), _or(call), diagnosis)


def snapshot_hash(seq: int, data: str) -> bytes:
    """The hash of a snapshot."""
    return _hash("snapshot", seq, data)


def origin(
    key: str | None = None,
    tenant: str | None = None,
    parent: bytes | None = None,
    draws: str | None = None,
    forked: tuple[bytes, int, str, str] | None = None,
) -> bytes:
    """What the first transition is chained to. `forked` is (run, step, by, note)."""
    if key is None and tenant is None and parent is None and draws is None and forked is None:
        return GENESIS  # Most runs; and this is part of every start.
    facts = [_or(key), _or(tenant), _or(parent), _or(draws)]
    return _hash("origin", *facts, *(() if forked is None else forked))


def link(
    previous: bytes,
    run_id: bytes,
    seq: int,
    machine: int,
    source: str,
    event: str,
    target: str,
    epoch: int,
    at: int,
    payload: str,
    guards: str,
    actor: str | None,
    calls: Sequence[bytes],
    marks: Sequence[bytes] = (),
) -> bytes:
    """The hash of one transition: `previous` is the hash of transition seq - 1 (the `origin` for the start), `calls` the
    hashes of the calls of the visit it ends, by index, `marks` those of its attempts and questions."""
    # One text with the length of each part in front, for the same reason as in `_hash`; written out because every move pays it.
    lengths = f"{len(source)},{len(event)},{len(target)},{len(payload)},{len(guards)},{-1 if actor is None else len(actor)}"
    numbers = f"{seq},{machine},{epoch},{at},{len(calls)},{lengths}"
    facts = f"{numbers}|{source}{event}{target}{payload}{guards}{actor or ''}"
    left = (*calls, *sorted(marks)) if marks else calls
    return hashlib.sha256(b"".join((previous, run_id, facts.encode(), *left))).digest()


def message_hash(parent: bytes | None, body: str) -> bytes:
    """The name of a message in a transcript: it covers the message and, through its parent's name, all before it."""
    return hashlib.sha256((parent or b"") + body.encode()).digest()
