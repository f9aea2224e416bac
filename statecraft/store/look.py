"""Writes that look before they write, and who does the looking."""

from __future__ import annotations

import sqlalchemy as sa

from statecraft.store import accounts, claims, decisions, errands
from statecraft.store.outbox import Telling
from statecraft.store.port import Adjust, Cancel, Claim, ClaimDue, Decide, MachineSpec, Renew, Reserve, Settle
from statecraft.store.writes import Rows, Step


def look(sql: sa.Connection, write: Step, rows: Rows) -> object:
    """Look at the database for a write of `writes.ALONE`, add its rows, and answer what its class says.

    Raises `Refused`, `NotFound` or `Fenced`; then nothing was added.
    """
    match write:
        case Claim():
            return claims.claim(sql, write, rows)
        case ClaimDue():
            return claims.claim_due(sql, write, rows)
        case Renew():
            return claims.renew(sql, write, rows)
        case Cancel():
            claims.cancel(sql, write, rows)
            return None
        case Reserve():
            return accounts.reserve(sql, write, rows)
        case Settle():
            accounts.settle(sql, write, rows)
            return None
        case Adjust():
            return accounts.adjust(sql, write, rows)
        case Decide():
            decisions.decide(sql, write, rows)
            return None
        case MachineSpec():
            return claims.register(sql, write)
        case _ if isinstance(write, Telling):
            return errands.act(sql, write, rows)
        case _:
            raise TypeError(f"{type(write).__name__} is not a write")
