"""Writes by which runs come into somebody's hands, stay there, and are let go of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """Take one run for `owner`: epoch + 1, attempts + 1, status running. Answers the run as claimed.

    Allowed when the run is ready, is waiting (whatever its due time), or is running under an expired lease. With
    `epoch` given, also when it is running under exactly that epoch (the caller knows that owner to be gone).
    Otherwise: `RunClosed`, `RunHeld` or `NotFound`.
    """

    run_id: bytes
    owner: str
    now: int
    lease_until: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class ClaimDue:
    """Take up to `limit` claimable runs: expired leases first, then what waits and is due (by due time), then what is
    ready (by priority, higher first, then by turn).

    Only runs of the machine numbers and queues given; if `only` is given, only those ids, whatever their queue. Answers the
    list of runs as claimed.
    """

    owner: str
    now: int
    lease_until: int
    machines: tuple[int, ...]
    limit: int
    only: frozenset[bytes] | None = None
    queues: tuple[str, ...] = ("default",)
    limits: tuple[tuple[str, int], ...] = ()
    """(machine's name, most runs of it that may be held at once by anybody, all versions together). Exact among claims
    that name it; `Claim` and `Start` do not ask."""


@dataclass(frozen=True, slots=True)
class Release:
    """Make every run that `owner` holds ready for others. Answers how many there were.

    For the store that claims in the name of `owner`, which applies its writes in order: a claim in the same name through
    another store at the same moment may be released or not.
    """

    owner: str
    at: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Extend the leases of (run_id, epoch) pairs. Answers the run ids that are no longer held so."""

    held: tuple[tuple[bytes, int], ...]
    lease_until: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker is there, holds so much, and has done so much since it started.

    Written with the renewal of its leases. It also removes rows of workers that were silent for a day.
    """

    owner: str
    at: int
    lease: int
    """Microseconds. A worker silent for longer counts as lost."""
    concurrency: int
    held: int
    moves: int
    """Transitions it committed since its start."""
    fenced: int
    """Writes of it that a fence refused since its start."""
    recovered: int
    """Runs it took over from others since its start."""
    queues: tuple[str, ...]
    """What it takes runs from; none given means all."""
    machines: tuple[str, ...]
    stopped: bool = False
    """It ended in order, and this is its last beat."""
