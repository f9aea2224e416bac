"""What a batch keeps from changing under it, so that looking first and then writing stays true among many writers.

Heads of runs by row locks, budgets and other meters by advisory locks, each in one order that all writers share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from statecraft.store.port import (
    Adjust,
    Call,
    Cancel,
    ClaimDue,
    Drop,
    Fork,
    Migrate,
    Move,
    Park,
    Redrive,
    Renew,
    Reserve,
    Settle,
    Start,
)
from statecraft.store.writes import Step

HEADS = "SELECT count(*) FROM (SELECT FROM runs WHERE run_id = ANY(%s::bytea[]) ORDER BY run_id FOR NO KEY UPDATE) AS held"

HEADS_AND_FAMILIES = """
WITH RECURSIVE given AS (SELECT unnest(%s::bytea[]) AS run_id), below AS (
    SELECT runs.run_id FROM runs JOIN given ON runs.parent = given.run_id WHERE finished_at IS NULL
    UNION ALL SELECT runs.run_id FROM runs JOIN below ON runs.parent = below.run_id WHERE finished_at IS NULL
)
SELECT count(*) FROM (SELECT FROM runs WHERE run_id IN (
    SELECT unnest(%s::bytea[]) UNION SELECT parent FROM runs JOIN given USING (run_id) UNION SELECT run_id FROM below
) ORDER BY run_id FOR NO KEY UPDATE) AS held
"""
"""Also the parents of the runs that end: whether they wait already decides who wakes whom. And all that runs below them, which
ends with them: taken later, out of order, these would deadlock with a batch of somebody who ends them at the same time."""

CHARGED = "SELECT count(*) FROM (SELECT FROM meters WHERE meter = ANY(%s::text[]) ORDER BY meter FOR NO KEY UPDATE) AS held"
"""Two batches that charge the same meters write them in other orders, call by call; they would wait for each other crosswise.
(Rows, since there are many, and the server has room for only so many advisory locks.)"""

METERS = "SELECT count(pg_advisory_xact_lock(number)) FROM unnest(%s::bigint[]) AS number"


def heads(writes: Sequence[Step]) -> list[bytes]:
    """The runs that the writes name, in order."""
    return sorted({run_id for write in writes for run_id in _named(write)})


def ending(writes: Sequence[Step]) -> list[bytes]:
    """Those of them that end."""
    return [run_id for write in writes if _ends(write) for run_id in _named(write)]


def meters(writes: Sequence[Step]) -> list[int]:
    """Numbers for the meters that the writes look at, in order. That two meters may share one only makes them wait."""
    names = {name for write in writes for name in _metered(write)}
    return sorted(int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True) for name in names)


def charged(writes: Sequence[Step]) -> list[str]:
    """The meters that the writes charge."""
    return sorted({charge.meter for write in writes if isinstance(write, Call | Settle | Migrate) for charge in write.charges})


def _named(write: Step) -> Iterator[bytes]:
    match write:
        case Start():
            if write.parent is not None:
                yield write.parent
        case Move() | Migrate():
            yield write.transition.run_id
        case Fork():  # So that nobody charges its meters while they are read.
            yield write.source
        case Renew():
            yield from (run_id for run_id, _ in write.held)
        case _:
            run_id = getattr(write, "run_id", None)
            if isinstance(run_id, bytes):
                yield run_id


def _ends(write: Step) -> bool:
    match write:
        case Cancel() | Drop() | Redrive():  # A child is redriven only while its parent still waits.
            return True
        case Move() | Park():
            return write.head is not None and write.head.status.closed
        case _:
            return False


def _metered(write: Step) -> Iterator[str]:
    match write:
        case Reserve():
            yield from (amount.meter for amount in write.amounts)
        case Adjust():
            yield write.meter
        case ClaimDue():
            yield from (f"machine:{name}" for name, _ in write.limits)
        case _:
            pass
