"""The formulas of the hash chain as they were up to schema 2. What was journaled then is verified by them for ever.

They leave out who held the run, its machine, times and prices of calls, attempts, and questions about calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any


def call_hash(call: Any) -> bytes:
    """The hash of one finished call."""
    asked = (call.seq, call.kind, call.name, call.digest, call.occurrence, int(call.ok))
    parts = (*asked, call.request, call.result, call.input_tokens, call.output_tokens)
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return hashlib.sha256(b"%b|%b" % (b",".join([b"%d" % len(part) for part in raw]), b"".join(raw))).digest()


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
    """The hash of one transition, that of the start chained to `chain.GENESIS`."""
    lengths = f"{len(source)},{len(event)},{len(target)},{len(payload)},{len(guards)},{-1 if actor is None else len(actor)}"
    facts = f"{seq},{at},{lengths}|{source}{event}{target}{payload}{guards}{actor or ''}"
    return hashlib.sha256(b"".join((previous, run_id, facts.encode(), *calls))).digest()
