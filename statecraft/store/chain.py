"""The hash chain of a run's journal: each transition's hash covers the one before it and the calls in between.

A changed byte in any stored transition or call therefore changes every hash after it (the construction is a plain
hash chain, as in RFC 6962's log entries without the tree).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

GENESIS = b"\0" * 32
"""What the first transition is chained to."""


def _hash(*parts: bytes | str | int | None) -> bytes:
    """SHA-256 over length-prefixed parts, so that no two different lists of parts read the same."""
    raw = [part if isinstance(part, bytes) else b"" if part is None else str(part).encode() for part in parts]
    return hashlib.sha256(b"%b|%b" % (b",".join([b"%d" % len(part) for part in raw]), b"".join(raw))).digest()


def call_hash(
    seq: int,
    kind: str,
    name: str,
    digest: bytes,
    occurrence: int,
    ok: bool,
    request: str,
    result: str,
    input_tokens: int,
    output_tokens: int,
) -> bytes:
    """The hash of one finished call."""
    return _hash(seq, kind, name, digest, occurrence, int(ok), request, result, input_tokens, output_tokens)


def link(
    previous: bytes,
    run_id: bytes,
    seq: int,
    source: str,
    event: str,
    target: str,
    at: int,
    payload: str,
    guards: str,
    actor: str | None,
    calls: Iterable[bytes],
) -> bytes:
    """The hash of one transition: `previous` is the hash of transition seq - 1 (`GENESIS` for the start), `calls` the
    hashes of the calls of the visit it ends, by index."""
    # One text with the length of each part in front, for the same reason as in `_hash`; written out because every move pays it.
    lengths = f"{len(source)},{len(event)},{len(target)},{len(payload)},{len(guards)},{-1 if actor is None else len(actor)}"
    facts = f"{seq},{at},{lengths}|{source}{event}{target}{payload}{guards}{actor or ''}"
    return hashlib.sha256(b"".join((previous, run_id, facts.encode(), *calls))).digest()


def message_hash(parent: bytes | None, body: str) -> bytes:
    """The name of a message in a transcript: it covers the message and, through its parent's name, all before it."""
    return hashlib.sha256((parent or b"") + body.encode()).digest()
