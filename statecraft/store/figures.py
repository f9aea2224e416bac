"""Operating figures, read so that looking every few seconds costs a fleet nothing it would notice.

What is counted is in an index of just the runs in question, so the cost grows with what is open and never with what has
ended. What no index holds is read from a bounded number of rows: the states of open runs (`LOOKED` of each sort), and the
pace of the last minutes (the newest `TAIL` entries of the feed).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from statecraft.clock import instant
from statecraft.records import Status, Waiting
from statecraft.stats.figures import Backlog, Figures, Pace, Place, QueueDepth, Stats
from statecraft.store import crew
from statecraft.store import fleet as f
from statecraft.store import tables as t

LOOKED = 20_000
"""Most open runs of a sort that are looked at one by one."""

TAIL = 10_000
"""Entries of the feed that tell the pace."""

WINDOWS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 60))

_run = t.runs.c
_NOW = sa.bindparam("now", type_=sa.BigInteger)


def _is(status: Status) -> sa.ColumnElement[bool]:
    # Spelled out: a partial index is found by its condition, and not by a parameter that happens to have its value.
    return _run.status == sa.literal_column(f"'{status}'")


def _count(which: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((which, 1), else_=0))


_READY, _DEAD, _HELD = _is(Status.READY), _is(Status.DEAD), _run.lease_until.is_not(None)
_DUE = sa.and_(_is(Status.WAITING), _run.due_at.is_not(None))
_PARKED = sa.and_(_is(Status.WAITING), _run.due_at.is_(None))
STANDING = (
    (Status.READY, _READY),
    (Status.RUNNING, _HELD),
    (Status.WAITING, _DUE),
    (Status.WAITING, _PARKED),
    (Status.DEAD, _DEAD),
)
"""Runs that are open or dead: each sort is in an index of its own."""
_FOR_PERSON = _run.waiting_for == str(Waiting.REVIEW)

READY = (
    sa.select(_run.queue, sa.func.count().label("runs"), sa.func.min(_run.due_at).label("oldest"))
    .where(_READY)
    .group_by(_run.machine, _run.queue)
)
DUE = (
    sa.select(
        _run.queue,
        _run.waiting_for,
        sa.func.count().label("runs"),
        _count(_run.due_at <= _NOW).label("due"),
        sa.func.min(_run.due_at).label("oldest"),
        sa.func.min(sa.case((_run.due_at > _NOW, _run.due_at))).label("next"),
    )
    .where(_DUE)
    .group_by(_run.machine, _run.queue, _run.waiting_for)
)
PARKED = sa.select(_run.waiting_for, sa.func.count().label("runs")).where(_PARKED).group_by(_run.machine, _run.waiting_for)
LEASES = sa.select(sa.func.count().label("runs"), _count(_run.lease_until <= _NOW).label("overdue")).where(_HELD)
DEAD = sa.select(_run.machine, sa.func.count().label("runs")).where(_DEAD).group_by(_run.machine)
NAMES = sa.select(t.machines.c.machine, t.machines.c.name)


def _places(which: sa.ColumnElement[bool]) -> sa.Select[*tuple[Any, ...]]:
    some = sa.select(_run.machine, _run.state).where(which).limit(LOOKED + 1).subquery()
    return sa.select(some.c.machine, some.c.state, sa.func.count().label("runs")).group_by(some.c.machine, some.c.state)


PLACES = {
    which: (status, _places(where))
    for which, status, where in (
        ("ready", Status.READY, _READY),
        ("running", Status.RUNNING, _HELD),
        ("due", Status.WAITING, _DUE),
        ("parked", Status.WAITING, _PARKED),
    )
}


def _asked_since(which: sa.ColumnElement[bool]) -> sa.Select[*tuple[Any, ...]]:
    some = sa.select(_run.updated_at).where(which, _FOR_PERSON).limit(LOOKED).subquery()
    return sa.select(sa.func.min(some.c.updated_at))


REVIEWED = (_asked_since(_PARKED), _asked_since(sa.and_(_DUE, _run.due_at > _NOW)))
"""Since when the first run has waited for a person. A parked run changes no more, so it was parked when it last changed."""

_fed = t.feed.c
_SINCE = sa.bindparam("since", type_=sa.BigInteger)
LAST = sa.select(sa.func.max(_fed.pos))
_moved, _began = _fed.kind == "transition", _fed.kind == "started"
_from = [_fed.at >= sa.bindparam(f"from_{number}", type_=sa.BigInteger) for number in range(len(WINDOWS))]


def _by_window(*which: sa.ColumnElement[bool]) -> Iterator[sa.Label[int]]:
    return (_count(sa.and_(*which, come)).label(f"in_{number}") for number, come in enumerate(_from))


MOVED, BEGUN = (sa.select(*_by_window(kind)).where(_fed.pos > _SINCE) for kind in (_moved, _began))
FIRST = sa.select(sa.func.min(_fed.at)).where(_fed.pos > _SINCE)
_gave_up = sa.or_(_fed.kind == "cancelled", _fed.kind == "dead")
# A run that went on ended with a transition; one that was given up or cancelled says so itself.
_ended = sa.or_(
    sa.and_(_moved, _run.seq == _fed.seq, sa.or_(_is(Status.DONE), _is(Status.FAILED))),
    _gave_up,
)
ENDED = (
    sa.select(*_by_window())
    .select_from(t.feed.join(t.runs, _run.run_id == _fed.run_id))
    .where(_fed.pos > _SINCE, sa.or_(_moved, _gave_up), _ended)
)

_errand = f.deliveries.c
OUTBOX = (
    sa.select(_errand.channel, sa.func.count().label("deliveries"), sa.func.min(_errand.due_at).label("oldest"))
    .where(_errand.due_at.is_not(None))
    .group_by(_errand.channel)
)
SCHEDULES = sa.select(sa.func.count().label("active"), sa.func.min(f.schedules.c.next_at).label("next")).where(
    f.schedules.c.next_at.is_not(None)
)


def figures(sql: sa.Connection, now: int, shift: int = 0) -> Figures:
    """Everything, in one view of the database. `shift`: how far ahead of `now` the clock of leases and due times is."""
    return Figures(_stats(sql, now, now + shift), crew.tenants(sql), crew.circuits(sql))


def _stats(sql: sa.Connection, now: int, theirs: int) -> Stats:
    names = {row.machine: row.name for row in sql.execute(NAMES)}
    leases = sql.execute(LEASES, {"now": theirs}).one()
    ready, due = sql.execute(READY).all(), sql.execute(DUE, {"now": theirs}).all()
    parked = sql.execute(PARKED).all()
    open_runs = {
        str(Status.READY): sum(row.runs for row in ready),
        str(Status.RUNNING): leases.runs,
        str(Status.WAITING): sum(row.runs for row in (*due, *parked)),
    }
    places, sampled = _standing(sql, names)
    totals = crew.totals(sql)
    fired = sql.execute(SCHEDULES).one()
    return Stats(
        at=instant(now),
        runs=open_runs,
        places=places,
        sampled=sampled,
        waiting_for=_sum((row.waiting_for, row.runs) for row in (*due, *parked)),
        queues=_queues(ready, due, now, theirs),
        overdue=leases.overdue or 0,
        moves=int(totals.moves),
        refused=int(totals.fenced),
        taken_over=int(totals.recovered),
        pace=_pace(sql, now),
        **_reviews(sql, due, parked, now, theirs),
        dead=_sum((names[row.machine], row.runs) for row in sql.execute(DEAD)),
        outbox=tuple(Backlog(row.channel, row.deliveries, _late(row.oldest, now)) for row in sql.execute(OUTBOX)),
        schedules=fired.active,
        schedule_next=None if fired.next is None else instant(fired.next),
        schedule_late=_late(fired.next, now),
        workers=crew.workers(sql, now),
    )


def _queues(ready: Any, due: Any, now: int, theirs: int) -> tuple[QueueDepth, ...]:
    depth, delayed = Counter[str](), Counter[str]()
    oldest, following = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for row in ready:
        depth[row.queue] += row.runs
        oldest[row.queue].append(row.oldest)
    for row in due:
        depth[row.queue] += row.due
        delayed[row.queue] += row.runs - row.due
        oldest[row.queue].append(row.oldest)
        following[row.queue] += [] if row.next is None else [row.next]
    return tuple(
        QueueDepth(
            name,
            depth[name],
            _late(min(oldest[name]), theirs),
            delayed[name],
            instant(min(following[name]) - theirs + now) if following[name] else None,
        )
        for name in sorted(oldest)
    )


def _standing(sql: sa.Connection, names: Mapping[int, str]) -> tuple[tuple[Place, ...], bool]:
    """Where open runs stand, and whether more of them stand somewhere than were looked at."""
    found = Counter[tuple[str, str, str]]()
    sampled = False
    for status, query in PLACES.values():
        seen = 0
        for row in sql.execute(query):
            found[names[row.machine], row.state, str(status)] += row.runs
            seen += row.runs
        sampled = sampled or seen > LOOKED
    places = (Place(*place, runs) for place, runs in found.items())
    return tuple(sorted(places, key=lambda place: (-place.runs, place.machine, place.state, place.status))), sampled


def _reviews(sql: sa.Connection, due: Any, parked: Any, now: int, theirs: int) -> dict[str, Any]:
    """A review whose time has come is not for a person any more: it is due."""
    count = sum(row.runs - getattr(row, "due", 0) for row in (*due, *parked) if row.waiting_for == Waiting.REVIEW)
    since = [sql.execute(query, {"now": theirs}).scalar() for query in REVIEWED] if count else []
    first = min((at for at in since if at is not None), default=None)
    return {"reviews": count, "review_oldest": _late(first, now)}


def _pace(sql: sa.Connection, now: int) -> tuple[Pace, ...]:
    """What the newest entries of the feed say about the last minutes. Positions grow with hardly a gap, and times with them."""
    since = max(0, (sql.execute(LAST).scalar() or 0) - TAIL)
    first = sql.execute(FIRST, {"since": since}).scalar() if since else None
    begins = [now - window // timedelta(microseconds=1) for window in WINDOWS]
    begins = [begin if first is None else min(now - 1, max(begin, first)) for begin in begins]
    asked = {"since": since, **{f"from_{number}": begin for number, begin in enumerate(begins)}}
    moved, begun, ended = (sql.execute(query, asked).one() for query in (MOVED, BEGUN, ENDED))
    return tuple(
        Pace(window, over, *((counts[number] or 0) / over.total_seconds() for counts in (moved, begun, ended)))
        for number, window in enumerate(WINDOWS)
        if (over := timedelta(microseconds=now - begins[number]))
    )


def _late(at: int | None, now: int) -> timedelta:
    return timedelta(microseconds=max(0, now - at)) if at is not None else timedelta(0)


def _sum(pairs: Any) -> dict[str, int]:
    total = Counter[str]()
    for name, number in pairs:
        total[name] += number
    return dict(sorted(total.items()))
