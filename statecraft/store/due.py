"""Which runs are due, and taking them: expired leases first, then what waits and whose time has come, then what is ready.

Each of the three is found in an index of its own, by equality on machine and queue, so that taking one run costs the
same however many wait. Several machines and queues are merged: first it is seen how many runs of each come next, then
exactly so many are taken from each. (Where several writers work at once, `FOR UPDATE SKIP LOCKED` passes over what
another one has in hand; SQLite has one writer, and the words are left out.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import Any

import sqlalchemy as sa

from statecraft.records import RunRecord, Status
from statecraft.store import tables as t
from statecraft.store.claims import chunks, skip_locked, take
from statecraft.store.port import ClaimDue
from statecraft.store.rows import RUNS, Row, run_record
from statecraft.store.statements import Query
from statecraft.store.writes import Rows

Pair = tuple[int, str]
"""A machine's number and a queue."""

_HERE = (t.runs.c.machine == sa.bindparam("machine"), t.runs.c.queue == sa.bindparam("queue"))
_MOST: sa.BindParameter[int] = sa.bindparam("most")
_ONE, _ZERO = sa.literal_column("1", sa.Integer), sa.literal_column("0", sa.Integer)
"""A LIMIT of SQLite comes with an OFFSET; written out, neither is a parameter."""
_SOME = (
    t.runs.c.machine.in_(sa.bindparam("machines", expanding=True)),
    t.runs.c.run_id.in_(sa.bindparam("run_ids", expanding=True)),
)


class Reason:
    """One reason for which runs may be taken: which they are, when they may be, and who comes first."""

    def __init__(self, which: sa.ColumnElement[bool], time: sa.Column[Any], *rank: sa.Column[Any], timed: bool = True) -> None:
        self._timed = timed
        self._rank = [column.name for column in rank]
        order = [column.desc() if column.name == "priority" else column for column in rank]
        where = (which, time <= sa.bindparam("now")) if timed else (which,)
        given = ("machine", "queue", *(("now",) if timed else ()), "most")
        self.peek = Query(sa.select(*rank).where(*_HERE, *where).order_by(*order).limit(_MOST).offset(_ZERO), *given)
        """Only how urgent the next runs of a pair are."""
        free = skip_locked(RUNS)
        self.next = Query(free.where(*_HERE, *where).order_by(*order).limit(_MOST).offset(_ZERO), *given)
        self.some = free.where(*_SOME, *where).order_by(*order).limit(_MOST).offset(_ZERO)
        self.first = Query(
            sa.select(time.label("at")).where(*_HERE, which).order_by(*order).limit(_ONE).offset(_ZERO), "machine", "queue"
        )
        """When the first one of a pair may be taken."""
        self.first_some = sa.select(time.label("at")).where(*_SOME, which).order_by(time).limit(1)

    def ask(self, query: Query, sql: sa.Connection, pair: Pair, now: int, most: int) -> list[Row]:
        return query.ask(sql, *pair, *((now,) if self._timed else ()), most)

    def key(self, row: Row) -> tuple[int, ...]:
        """Sorts what is more urgent first."""
        return tuple(-getattr(row, name) if name == "priority" else getattr(row, name) for name in self._rank)


def _status(status: Status) -> sa.ColumnElement[bool]:
    return t.runs.c.status == sa.literal_column(f"'{status}'")


_runs = t.runs.c
_EXPIRED = Reason(_runs.lease_until.is_not(None), _runs.lease_until, _runs.lease_until)
_DUE = Reason(sa.and_(_status(Status.WAITING), _runs.due_at.is_not(None)), _runs.due_at, _runs.due_at)
_READY = Reason(_status(Status.READY), _runs.due_at, _runs.priority, _runs.turn, timed=False)
_REASONS = (_EXPIRED, _DUE, _READY)


def claim_due(sql: sa.Connection, write: ClaimDue, rows: Rows) -> list[RunRecord]:
    """Take what is due, as far as there is room."""
    orphaned = write.now - (write.lease_until - write.now)
    room = Room(sql, write.limits, orphaned)
    found = _ripe(sql, _EXPIRED, write, write.limit, Room(sql, ()))
    # Whose lease has expired is held already, as far as a limit is concerned, but for those that were not counted.
    for row in found:
        if row.lease_until <= orphaned:
            room.held(row.machine)
    for reason in (_DUE, _READY):
        most = write.limit - len(found)
        if most > 0:
            found += _ripe(sql, reason, write, most, room)
    return [take(run_record(row), write, rows) for row in found]


def _ripe(sql: sa.Connection, reason: Reason, write: ClaimDue, most: int, room: Room) -> list[Row]:
    """Up to `most` runs that may be taken for one reason, the most urgent first."""
    if write.only is not None:
        return _of_some(sql, reason, write, most, room)
    pairs = [(machine, queue) for machine in write.machines for queue in write.queues if room.left(machine, most) > 0]
    found: list[Row] = []
    for pair, many in _shares(sql, reason, pairs, write.now, most, room).items():
        taken = reason.ask(reason.next, sql, pair, write.now, many)
        room.take(pair[0], len(taken))
        found += taken
    return sorted(found, key=reason.key)


def _shares(sql: sa.Connection, reason: Reason, pairs: Sequence[Pair], now: int, most: int, room: Room) -> Counter[Pair]:
    """How many of the next runs belong to each pair."""
    if len(pairs) == 1:
        return Counter({pairs[0]: room.left(pairs[0][0], most)})
    lines = [
        [(reason.key(row), pair) for row in reason.ask(reason.peek, sql, pair, now, room.left(pair[0], most))] for pair in pairs
    ]
    chosen, ahead = Counter[Pair](), room.copy()
    for _, pair in merge(*lines):
        if ahead.left(pair[0], 1) > 0:
            ahead.take(pair[0], 1)
            chosen[pair] += 1
        if chosen.total() == most:
            break
    return chosen


def _of_some(sql: sa.Connection, reason: Reason, write: ClaimDue, most: int, room: Room) -> list[Row]:
    """As `_ripe`, of the runs named, whatever their queue."""
    found: list[Row] = []
    for some in chunks(list(write.only or ())):
        values = {"machines": list(write.machines), "run_ids": some, "now": write.now, "most": most}
        found += sql.execute(reason.some, values)
    fitting = (row for row in sorted(found, key=reason.key) if room.take(row.machine, 1))
    return list(islice(fitting, most))


def next_due(
    sql: sa.Connection,
    machines: Sequence[int],
    only: frozenset[bytes] | None,
    queues: Sequence[str],
    limits: Sequence[tuple[str, int]],
) -> int | None:
    """The earliest instant at which `claim_due` could take something; for a ready run, since when it has been due."""
    room = Room(sql, limits)
    times: list[int] = []
    for reason in _REASONS:
        able = [machine for machine in machines if reason is _EXPIRED or room.left(machine, 1) > 0]
        if only is None:
            rows = [row for machine in able for queue in queues for row in reason.first.ask(sql, machine, queue)]
        else:
            rows = [
                row for some in chunks(list(only)) for row in sql.execute(reason.first_some, {"machines": able, "run_ids": some})
            ]
        times += (row.at or 0 for row in rows)
    return min(times, default=None)


# --- limits of machines ----------------------------------------------------------------------------------------------

_VERSIONS = sa.select(t.machines.c.machine, t.machines.c.name).where(t.machines.c.name.in_(sa.bindparam("names", expanding=True)))
_HELD = Query(
    sa.select(sa.func.count().label("held")).where(
        _HERE[0], t.runs.c.lease_until.is_not(None), t.runs.c.lease_until > sa.bindparam("since")
    ),
    "machine",
    "since",
)


class Room:
    """How many more runs of each limited machine may be held, all its versions and all workers together.

    Leases that ended by `since` are not counted: nobody took these runs over for so long that nobody may be able to,
    as with a version of the machine whose last worker died. They must not keep its other versions from running.
    """

    def __init__(self, sql: sa.Connection, limits: Sequence[tuple[str, int]], since: int = 0) -> None:
        self._left = dict(limits)
        self._names: dict[int, str] = {}
        if limits:
            for machine, name in sql.execute(_VERSIONS, {"names": list(self._left)}):
                self._names[machine] = name
                self._left[name] -= _HELD.ask(sql, machine, since)[0].held

    def left(self, machine: int, most: int) -> int:
        """How many more runs of the machine, but at most `most`."""
        name = self._names.get(machine)
        return most if name is None else max(0, min(most, self._left[name]))

    def take(self, machine: int, many: int) -> bool:
        """Count runs of the machine that are taken, if there is room for them."""
        name = self._names.get(machine)
        if name is None:
            return True
        if self._left[name] < many:
            return False
        self._left[name] -= many
        return True

    def held(self, machine: int) -> None:
        """Count a run of the machine that is held again, whether there is room for it or not."""
        name = self._names.get(machine)
        if name is not None:
            self._left[name] -= 1

    def copy(self) -> Room:
        """To count ahead."""
        other = Room.__new__(Room)
        other._left, other._names = dict(self._left), self._names  # noqa: SLF001 - one of us
        return other
