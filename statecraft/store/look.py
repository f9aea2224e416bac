"""Writes that look before they write, and who does the looking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import sqlalchemy as sa

from statecraft.store import accounts, beats, claims, copying, dead, decisions, due, errands, rewriting, schedules
from statecraft.store import scheduling as sched
from statecraft.store.outbox import Telling
from statecraft.store.port import (
    Adjust,
    Beat,
    Cancel,
    Claim,
    ClaimDue,
    Decide,
    Drop,
    Fork,
    MachineSpec,
    Migrate,
    Redrive,
    Release,
    Renew,
    Reserve,
    Settle,
)
from statecraft.store.writes import Rows, Step


def look(sql: sa.Connection, write: Step, rows: Rows) -> object:
    """Look at the database for a write of `writes.ALONE`, add its rows, and answer what its class says.

    Raises `Refused`, `NotFound` or `Fenced`; then nothing was added.
    """
    return _LOOKERS[type(write)](sql, write, rows)


_LOOKERS: dict[type, Callable[[sa.Connection, Any, Rows], object]] = {
    Claim: claims.claim,
    ClaimDue: due.claim_due,
    Renew: claims.renew,
    Release: claims.release,
    Cancel: claims.cancel,
    Reserve: accounts.reserve,
    Settle: accounts.settle,
    Adjust: accounts.adjust,
    Decide: decisions.decide,
    Redrive: dead.redrive,
    Drop: dead.drop,
    Fork: copying.fork,
    Migrate: rewriting.migrate,
    Beat: lambda sql, write, _: beats.beat(sql, write),
    MachineSpec: lambda sql, write, _: claims.register(sql, write),
    **dict.fromkeys(get_args(Telling), errands.act),
    **dict.fromkeys(
        (sched.PutSchedule, sched.Fired, sched.PauseSchedule, sched.ResumeSchedule, sched.DropSchedule),
        lambda sql, write, _: schedules.change(sql, write),
    ),
}
