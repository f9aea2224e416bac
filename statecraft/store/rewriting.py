"""Putting a run under another definition, and finding the definitions of a name.

The function that writes runs inside a write transaction, so what it saw still holds when it writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa

from statecraft.errors import Fenced
from statecraft.records import Status
from statecraft.store import chain
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.claims import head_row
from statecraft.store.versions import Migrate, Version
from statecraft.store.writes import Rows, charge, journal, snapshot_row

_VERSIONS = sa.select(t.machines.c.machine, t.machines.c.name, t.machines.c.version, t.machines.c.fingerprint).order_by(
    t.machines.c.machine
)
_HELD, _PARKED = frozenset({Status.RUNNING}), frozenset({Status.WAITING, Status.DEAD})


def versions(sql: sa.Connection, names: Sequence[str]) -> list[Version]:
    """All definitions of the machines with these names, in the order in which they were made known."""
    return [Version(*row) for row in sql.execute(_VERSIONS.where(t.machines.c.name.in_(names)))]


def known(sql: sa.Connection, fingerprint: str) -> list[Version]:
    """All definitions whose fingerprint begins so, in the order in which they were made known."""
    begins = t.machines.c.fingerprint.startswith(fingerprint, autoescape=True)
    return [Version(*row) for row in sql.execute(_VERSIONS.where(begins))]


def migrate(sql: sa.Connection, write: Migrate, rows: Rows) -> None:
    """Put a run under another definition. Raises `Fenced` or `NotFound`; then nothing was added."""
    link, row = write.transition, head_row(sql, write.transition.run_id)
    before = link.seq - 1
    if (row.epoch, row.seq) != (link.epoch, before) or row.status not in (_HELD if write.held else _PARKED):
        raise Fenced(
            f"the migration of run {link.run_id.hex()} was refused: it expects epoch {link.epoch} at step {before}, but the run "
            f"has epoch {row.epoch} at step {row.seq} and is {row.status}"
        )
    journal(link, "transition", rows)
    place = (link.machine, link.seq, link.target, link.at, row.extra_steps + 1)
    rows[s.MIGRATE].append((*place, link.run_id, link.epoch, before))
    rows[s.SNAPSHOT].append(snapshot_row(link.run_id, link.seq, write.snapshot))
    if write.events is not None:
        _ask_again(sql, write, write.events, rows)
    charge(write.charges, (link.run_id, link.seq), link.at, rows)


def _ask_again(sql: sa.Connection, write: Migrate, events: Sequence[str], rows: Rows) -> None:
    """The open question of the run's state, under the name and with the decisions of the new one. The old row keeps what was
    asked; nobody can decide it any more, since a decision is made together with the step after it."""
    link, review = write.transition, t.reviews.c
    where = (review.run_id == link.run_id, review.seq == link.seq - 1, review.decision.is_(None))
    for row in sql.execute(sa.select(t.reviews).where(*where)):
        times, texts = (row.requested_at, row.expires_at), (json.dumps(list(events)), row.question, row.show)
        mark = chain.review_hash(link.seq, link.target, *times, *texts)
        rows[s.REVIEW].append((link.run_id, link.seq, link.target, *times, mark, *texts, link.run_id, link.seq))
