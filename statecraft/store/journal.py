"""What writes are made of: the head of a run, links of its journal, its finished calls with their texts, its attempts."""

from __future__ import annotations

from dataclasses import dataclass

from statecraft.records import Status, Waiting
from statecraft.store.meters import Charge


@dataclass(frozen=True, slots=True)
class Head:
    """Where a run stands and how it is held, as of a write."""

    status: Status
    owner: str | None = None
    """Only while running."""
    lease_until: int | None = None
    waiting_for: Waiting | None = None
    """Only while waiting."""
    due_at: int | None = None
    """When time makes it claimable: now for `ready`, the wake-up time for `waiting`, None if only a person can."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One link of the journal, ready to be written."""

    run_id: bytes
    seq: int
    machine: int
    """The store's number for the definition (`Store.register`)."""
    source: str
    event: str
    target: str
    epoch: int
    at: int
    payload: str
    guards: str
    """JSON list of [name, answer]; `[]` if none were asked."""
    actor: str | None
    input_tokens: int
    output_tokens: int
    calls: int
    """Calls journaled in the visit this move ended."""
    hash: bytes
    """`chain.link` of the previous hash, this row and the hashes of the visit's calls."""


@dataclass(frozen=True, slots=True)
class MessageNode:
    """A message of a transcript, named by the hash of its parent and its content. Stored once."""

    hash: bytes
    parent: bytes | None
    body: str


@dataclass(frozen=True, slots=True)
class Blob:
    """A text named by its hash (tool schemas, output schemas). Stored once."""

    hash: bytes
    body: str


@dataclass(frozen=True, slots=True)
class Call:
    """A finished call of the current visit. Fenced by (run_id, epoch, seq); unique by (digest, occurrence)."""

    run_id: bytes
    seq: int
    idx: int
    epoch: int
    kind: str
    name: str
    digest: bytes
    occurrence: int
    ok: bool
    request: str
    result: str
    attempts: int
    started_at: int
    finished_at: int
    input_tokens: int
    output_tokens: int
    model: str | None
    hash: bytes
    """`chain.call_hash` of the fields above."""
    nodes: tuple[MessageNode, ...] = ()
    blobs: tuple[Blob, ...] = ()
    cost: int | None = None
    """Billionths of a dollar, if a price is known."""
    price_source: str | None = None
    charges: tuple[Charge, ...] = ()
    """What it used of budgets. Its reservation, if any, ends with this write."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A failed attempt that will be repeated, or the intent (`kind="begun"`) of a `once` call. Fenced like `Call`."""

    run_id: bytes
    seq: int
    epoch: int
    digest: bytes
    occurrence: int
    attempt: int
    name: str
    kind: str
    message: str
    at: int
    due_at: int | None
