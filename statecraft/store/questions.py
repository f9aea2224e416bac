"""Writes about calls that a person must decide: a question bound to one exact call, and the decision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


def review_id(seq: int, call: tuple[bytes, int, int] | None = None) -> str:
    """The name of a review among those of its run: 12 hex digits. `call` is (digest, occurrence, round) for a question
    about a call, None for that of a review state."""
    named = f"{seq}" if call is None else f"{seq}:{call[0].hex()}:{call[1]}:{call[2]}"
    return hashlib.sha256(named.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class CallReview:
    """A question about one call of a visit, written with the `Park` that waits for the answer. Asked once: a second
    question of the same (digest, occurrence, round) changes nothing."""

    digest: bytes
    """The call's digest in its visit."""
    occurrence: int
    round: int
    """Questions about this call before: a modified call, or a second doubt, is a new question."""
    kind: str
    """`gate` or `doubt`."""
    tool: str
    arguments: str
    """JSON: what would run, or began."""
    action: bytes
    """SHA-256 of tool and arguments: what an approval is bound to."""
    question: str
    show: str
    """JSON: risk, reasons, cost, idempotency key, what is known of an attempt."""
    decisions: tuple[str, ...]
    """The decisions it takes."""
    requested_at: int
    remind_at: int | None
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Decide:
    """A person's decision about a call. Wakes the run in the same transaction.

    Raises `NotFound` (no such question), `AlreadyDecided`, `DecisionLate` (it has expired), `Superseded` (the run left
    the visit, the call has an outcome, or `action` is not the one of the question), `IllegalEvent` (the question does not
    take this decision) or `RunClosed`; then nothing was written.
    """

    run_id: bytes
    seq: int
    digest: bytes
    occurrence: int
    round: int
    action: bytes
    decision: str
    by: str
    at: int
    note: str = ""
    answer: str | None = None
    """JSON: the arguments of `modify`, the result of `happened`."""
