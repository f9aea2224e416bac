"""Budgets that are reserved and charged, and the small states that several processes share.

Each function runs inside a write transaction, so what it saw still holds when it writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from statecraft.errors import Fenced, WriteRefused
from statecraft.records import Status
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store import telling
from statecraft.store.claims import head
from statecraft.store.port import Adjust, Amount, Reserve, Reserved, Settle
from statecraft.store.statements import Query
from statecraft.store.writes import Rows, charge

_USED = Query(sa.select(t.meters.c.used).where(t.meters.c.meter == sa.bindparam("meter")), "meter")
_STATE = Query(sa.select(t.meters.c.state).where(t.meters.c.meter == sa.bindparam("meter")), "meter")
_kept = t.reservations.c
_charged = sa.select(t.meters.c.used).where(t.meters.c.meter == sa.bindparam("charged_to"))
_reserved = sa.select(sa.func.sum(_kept.amount)).where(_kept.meter == sa.bindparam("reserved_of"))
_own = sa.select(_kept.amount).where(
    *(_kept[name] == sa.bindparam(f"of_{name}", type_=_kept[name].type) for name in s.CALL_KEY),
    _kept.meter == sa.bindparam("own_of"),
)
_parts = {"used": _charged, "reserved": _reserved, "own": _own}
_TAKEN = Query(
    sa.select(*(part.scalar_subquery().label(name) for name, part in _parts.items())),
    "charged_to",
    "reserved_of",
    *(f"of_{name}" for name in s.CALL_KEY),
    "own_of",
)
"""What a meter has been charged, what is reserved of it, and how much of that by this call; NULL for nothing. (A sum over
the index and a look at one row: leaving the call out of the sum would look at every row.)"""
_STANDS = Query(
    sa.select(t.runs.c.epoch, t.runs.c.seq, t.runs.c.status).where(t.runs.c.run_id == sa.bindparam("run_id")), "run_id"
)
"""Where a run stands."""


def reserve(sql: sa.Connection, write: Reserve, rows: Rows) -> Reserved:
    """Set amounts aside for a call, all or none. Raises `Fenced` or `NotFound`."""
    _held(sql, write)
    key = (write.run_id, write.seq, write.digest, write.occurrence)
    used: dict[str, int] = {}
    asked: dict[str, int] = {}
    refused: Amount | None = None
    for amount in write.amounts:
        meter = amount.meter
        taken = _TAKEN.ask(sql, meter, meter, *key, meter)[0]
        used[meter] = taken.used or 0
        asked[meter] = asked.get(meter, 0) + amount.amount
        others = (taken.reserved or 0) - (taken.own or 0)
        if refused is None and used[meter] + others + asked[meter] > amount.limit:
            refused = amount
    if refused is None:
        rows[s.UNRESERVE].append(key)
        rows[s.RESERVE] += ((*key, meter, write.epoch, sum_) for meter, sum_ in asked.items())
    elif refused.told:
        telling.no_room(refused, (write.run_id, write.seq), write.at, rows)
    return Reserved(refused, used)


def settle(sql: sa.Connection, write: Settle, rows: Rows) -> None:
    """End a call's reservation and charge what it used. Raises `Fenced` or `NotFound`."""
    _held(sql, write)
    rows[s.UNRESERVE].append((write.run_id, write.seq, write.digest, write.occurrence))
    charge(write.charges, (write.run_id, write.seq), write.at, rows)


def adjust(sql: sa.Connection, write: Adjust, rows: Rows) -> object:
    """Change a meter's state and answer what the function answers, or what it raises."""
    found = _STATE.ask(sql, write.meter)
    try:
        state, answer = write.change(found[0].state if found else None)
    except Exception as error:  # noqa: BLE001  # It is the outcome of this write, whatever it is.
        return error
    if not isinstance(state, str):
        return WriteRefused(f"the state of meter {write.meter} must be a text, not {type(state).__name__}")
    rows[s.ADJUST].append((write.meter, 0, state))
    return answer


_meter = t.meters.c.meter
OWN = Query(
    sa.select(_meter, t.meters.c.used).where(
        sa.or_(
            *(sa.and_(_meter >= sa.bindparam(f"{what}_low"), _meter < sa.bindparam(f"{what}_high")) for what in ("run", "state"))
        )
    ),
    "run_low",
    "run_high",
    "state_low",
    "state_high",
)
"""What the meters of a run and of its states have been charged, by the meters' names; asked with `own_bounds`."""


def own_bounds(run_id: bytes) -> tuple[str, ...]:
    """Where the meters of a run and of its states lie in the primary key: `;` is the character after `:`."""
    return tuple(f"{what}:{run_id.hex()}{end}" for what in ("run", "state") for end in ":;")


def used(sql: sa.Connection, meters: Sequence[str]) -> dict[str, int]:
    """What each of these meters has been charged; 0 for one that is not known."""
    return {meter: _used(sql, meter) for meter in meters}


def _used(sql: sa.Connection, meter: str) -> int:
    found = _USED.ask(sql, meter)
    return int(found[0].used) if found else 0


def _held(sql: sa.Connection, write: Reserve | Settle) -> None:
    """Refuse the write unless its run still stands where the writer believes it does, under its epoch."""
    stands = _STANDS.ask(sql, write.run_id)
    if stands and stands[0] == (write.epoch, write.seq, Status.RUNNING):
        return
    run = head(sql, write.run_id)
    held = f"held by {run.owner}" if run.owner else str(run.status)
    what = f"{type(write).__name__.lower()} in step {write.seq} of run {run.id}"
    raise Fenced(
        f"{what} was refused: it expects epoch {write.epoch}, but the run has epoch {run.epoch} at step {run.seq} and is {held}"
    )
