"""The statements of the hot path. Each is compiled once and run with ready-made tuples."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from statecraft.records import Status
from statecraft.store import fleet
from statecraft.store import tables as t
from statecraft.store.merging import Merge, first, last, ordered, summed
from statecraft.store.upsert import Upsert, insert_or_leave, insert_or_replace, insert_or_update
from statecraft.store.visits import of_open_visit

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One SQL statement and the order of the values in its rows."""

    name: str
    sql: sa.Insert | sa.Update | sa.Delete | Upsert
    order: tuple[str, ...]
    exact: bool = False
    """Each row must touch exactly one row of the database; anything less means that the write is refused."""
    merge: Merge | None = None
    """Makes several rows about the same thing one, where all rows are written at once."""

    def spoken(self, dialect: str) -> sa.Insert | sa.Update | sa.Delete:
        """The statement in the words of one sort of database."""
        return self.sql.build(dialect) if isinstance(self.sql, Upsert) else self.sql

    def compile(self, dialect: sa.Dialect) -> str:
        """The SQL text, once the order of its placeholders is known to be ours. Done once for each sort of database."""
        known = _COMPILED.get((self, dialect.name))
        if known is not None:
            return known
        sql = self.spoken(dialect.name)
        keys = self.order if isinstance(sql, sa.Insert) and sql.select is None else None
        compiled = sql.compile(dialect=dialect, column_keys=keys)
        assert tuple(getattr(compiled, "positiontup", ())) == self.order, (self.name, self.order, compiled.positiontup)
        return _COMPILED.setdefault((self, dialect.name), str(compiled))


_COMPILED: dict[tuple[object, str], str] = {}
"""Texts of statements and queries, by the name of the dialect: compiling them all costs more than opening a database."""


class Query:
    """A SELECT that is asked often. Compiled once and run by the driver alone, since building and compiling a statement
    costs many times what running it does."""

    def __init__(self, select: sa.Select[*tuple[Any, ...]], *order: str) -> None:
        self.select = select
        self.order = order
        self.row: Any = namedtuple("Row", select.selected_columns.keys())  # type: ignore[misc]  # noqa: PYI024  # the select names them

    def ask(self, sql: sa.Connection, *values: object) -> list[Any]:
        """Its rows, with a field for each column; `values` in the order given to the query."""
        text = _COMPILED.get((self, sql.dialect.name)) or self._compile(sql)
        cursor = sql.connection.cursor()
        cursor.execute(text, values)
        found = list(map(self.row._make, cursor.fetchall()))
        cursor.close()
        return found

    def _compile(self, sql: sa.Connection) -> str:
        compiled = self.select.compile(dialect=sql.dialect)
        assert tuple(getattr(compiled, "positiontup", ())) == self.order, self.order
        return _COMPILED.setdefault((self, sql.dialect.name), str(compiled))


def _written(table: sa.Table, *skip: str) -> tuple[str, ...]:
    """The columns that a writer gives, in the order of the table."""
    return tuple(column.name for column in table.columns if column.computed is None and column.name not in skip)


def _param(name: str, table: sa.Table) -> sa.BindParameter[Any]:
    return sa.bindparam(f"p_{name}", type_=table.c[name].type)


_HELD = ("held_run_id", "held_epoch", "held_seq")


def _held(*statuses: Status) -> sa.ColumnElement[bool]:
    """The fence: the run has the epoch and stands at the transition that the writer knows, and was not given up."""
    same = [t.runs.c[name] == sa.bindparam(f"held_{name}", type_=t.runs.c[name].type) for name in ("run_id", "epoch", "seq")]
    return sa.and_(*same, t.runs.c.status.in_([sa.literal_column(f"'{status}'") for status in statuses]))


_NONE: sa.ColumnElement[int] = sa.literal_column("0")
_SO_FAR = t.runs.c.attempts
_ONE_LESS = sa.case((_SO_FAR > _NONE, _SO_FAR - sa.literal_column("1")), else_=_NONE)


def _update(name: str, columns: Sequence[str], where: sa.ColumnElement[bool], claims: object = _NONE) -> Statement:
    """An UPDATE of a run's head. `claims`: what the count of claims becomes; it starts again when the run got on."""
    values: dict[str, object] = {column: _param(column, t.runs) for column in columns}
    values["attempts"] = claims
    in_table = [column.name for column in t.runs.columns if column.name in columns]
    order = (*(f"p_{column}" for column in in_table), *_HELD)
    return Statement(name, sa.update(t.runs).values(values).where(where), order, exact=True)


def _fenced_insert(name: str, table: sa.Table, columns: tuple[str, ...]) -> Statement:
    chosen = sa.select(*(_param(column, table) for column in columns)).select_from(t.runs).where(_held(Status.RUNNING))
    order = (*(f"p_{column}" for column in columns), *_HELD)
    return Statement(name, sa.insert(table).from_select(list(columns), chosen), order, exact=True)


_LATER = ("no", "degraded", "extra_steps", "forked_from", "forked_step", "forked_by", "forked_note")
"""Columns of a run that its start leaves at their defaults."""


def _child() -> Statement:
    """A start whose parent goes on: nobody would cancel the child of a run that has ended."""
    columns = _written(t.runs, *_LATER)
    going = t.runs.alias("going")
    open_parent = sa.select(going.c.no).where(going.c.run_id == sa.bindparam("of_parent"), going.c.finished_at.is_(None))
    chosen = sa.select(*(_param(column, t.runs) for column in columns)).where(open_parent.exists())
    order = (*(f"p_{column}" for column in columns), "of_parent")
    return Statement("child", sa.insert(t.runs).from_select(list(columns), chosen), order, exact=True)


def _insert(table: sa.Table, *skip: str) -> Statement:
    return Statement(table.name, sa.insert(table), _written(table, *skip))


def _review() -> Statement:
    """The first question of a visit stays."""
    columns = ("run_id", "seq", "state", "requested_at", "expires_at", "hash", "events", "question", "show")
    asked = sa.select(t.reviews.c.seq).where(t.reviews.c.run_id == _key("run_id"), t.reviews.c.seq == _key("seq"))
    chosen = sa.select(*(_param(column, t.reviews) for column in columns)).where(~asked.exists())
    order = (*(f"p_{column}" for column in columns), "of_run_id", "of_seq")
    return Statement("review", sa.insert(t.reviews).from_select(list(columns), chosen), order)


def _decision() -> Statement:
    columns = ("decision", "decided_by", "decided_at")
    undecided = (t.reviews.c.run_id == _key("run_id"), t.reviews.c.seq == _key("seq"), t.reviews.c.decision.is_(None))
    decide = sa.update(t.reviews).values({column: _param(column, t.reviews) for column in columns}).where(*undecided)
    return Statement("decision", decide, (*(f"p_{column}" for column in columns), "of_run_id", "of_seq"), exact=True)


def _key(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(f"of_{name}", type_=t.reviews.c[name].type)


_HEAD = ("status", "owner", "lease_until", "waiting_for", "due_at", "updated_at", "finished_at", "reason")

PAYLOAD = Statement("payload", insert_or_leave(t.payloads), ("hash", "body"), merge=last)
MESSAGE = Statement("message", insert_or_leave(t.messages), ("hash", "parent", "body"), merge=last)
RUN = replace(_insert(t.runs, *_LATER), merge=ordered(_written(t.runs, *_LATER).index("key")))
CHILD = _child()
ADVANCE = _update("advance", ("seq", "state", "updated_at"), _held(Status.RUNNING))
"""A move that goes on under the same lease. It touches no indexed column."""
SETTLE = _update("settle", ("seq", "state", *_HEAD), _held(Status.RUNNING))
"""A move that ends the run or gives it up."""
DECIDE = _update("decide", ("seq", "state", *_HEAD), _held(Status.RUNNING, Status.WAITING))
"""A move by a decision: of a person, while the run waits, or of time, while somebody holds it."""
PARK = _update("park", _HEAD, _held(Status.RUNNING))
"""A run that waits on purpose got on, however often it is claimed only to wait again."""
HAND_BACK = _update("hand back", _HEAD, _held(Status.RUNNING), _ONE_LESS)
"""A holder that closes takes its claim back."""
DIE = _update("die", _HEAD, _held(Status.RUNNING), _SO_FAR)
REVIVE = _update("revive", ("seq", "state", *_HEAD, "deadline_at", "extra_steps"), _held(Status.DEAD))
"""A dead run is ready again, or moved by an operator."""
MIGRATE = _update(
    "migrate",
    ("machine", "seq", "state", "updated_at", "extra_steps"),
    _held(Status.RUNNING, Status.WAITING, Status.DEAD),
    _SO_FAR,
)
"""A run goes on under another definition, whoever holds it."""
DEGRADE = Statement(
    "degrade",
    sa.update(t.runs).values(degraded=sa.literal_column("1")).where(t.runs.c.run_id == sa.bindparam("of_run_id")),
    ("of_run_id",),
)
"""Comes before the move it belongs to, which may close the run."""
TRANSITION = _insert(t.transitions)
DECISION = _decision()
SNAPSHOT = Statement("snapshot", insert_or_replace(t.snapshots), ("run_id", "seq", "hash", "data"), merge=last)
CALL = _fenced_insert("call", t.calls, _written(t.calls))
NOTED = Statement("noted", sa.insert(t.calls), _written(t.calls))
"""What a person did to a run that nobody holds, as a row of the visit's journal."""
ATTEMPT = _fenced_insert("attempt", t.attempts, _written(t.attempts, "no"))
REVIEW = _review()
FORK = Statement("fork", sa.insert(t.runs), _written(t.runs, "no"))
TRIED, REVIEWED, QUESTIONED = (
    Statement(f"shared {table.name}", sa.insert(table), _written(table, "no"))
    for table in (t.attempts, t.reviews, t.call_reviews)
)
"""What a fork takes over of the visits that had ended."""
DEATH = _insert(t.deaths)
FEED = _insert(t.feed, "pos")


def _claimed(name: str, values: dict[str, object], status: Status | None = None) -> Statement:
    """An UPDATE of a head that was looked at just before, under this epoch."""
    order = tuple(value.key for column in t.runs.columns if isinstance(value := values.get(column.name), sa.BindParameter))
    where = [t.runs.c[name] == sa.bindparam(f"held_{name}", type_=t.runs.c[name].type) for name in ("run_id", "epoch")]
    if status is not None:
        where.append(t.runs.c.status == sa.literal_column(f"'{status}'"))
    return Statement(name, sa.update(t.runs).values(values).where(*where), (*order, "held_run_id", "held_epoch"), exact=True)


def _params(*names: str) -> dict[str, object]:
    return {name: _param(name, t.runs) for name in names}


_FREED: dict[str, object] = {"waiting_for": sa.null(), "due_at": sa.null()}
TAKE = _claimed(
    "take",
    _FREED
    | {"status": sa.literal_column(f"'{Status.RUNNING}'"), "epoch": t.runs.c.epoch + sa.literal_column("1")}
    | {"attempts": t.runs.c.attempts + sa.literal_column("1")}
    | _params("owner", "lease_until", "updated_at"),
)
BEGIN = _claimed("begin", _params("created_at"))
"""A delayed start begins when it is claimed for the first time; before `TAKE`, which raises the epoch."""
RENEW = _claimed("renew", _params("lease_until"), Status.RUNNING)
CANCEL = _claimed(
    "cancel",
    _FREED
    | {"status": sa.literal_column(f"'{Status.CANCELLED}'"), "epoch": t.runs.c.epoch + sa.literal_column("1")}
    | {"owner": sa.null(), "lease_until": sa.null()}
    | _params("updated_at", "finished_at", "reason"),
)


def _of(table: sa.Table, *names: str) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == sa.bindparam(f"of_{name}", type_=table.c[name].type) for name in names]


def _drop(name: str, *columns: str) -> Statement:
    return Statement(name, sa.delete(t.reservations).where(*_of(t.reservations, *columns)), tuple(f"of_{c}" for c in columns))


CALL_KEY = ("run_id", "seq", "digest", "occurrence")

_METER = ("meter", "used", "state")
CHARGE = Statement("charge", insert_or_update(t.meters, used=lambda old, new: old + new), _METER, merge=summed)
ADJUST = Statement("adjust", insert_or_update(t.meters, state=lambda _, new: new), _METER, merge=last)
UNRESERVE = _drop("unreserve", *CALL_KEY)
RESERVE = _insert(t.reservations)
FREE = _drop("free", "run_id")
"""Nothing stays reserved for a run that was given up or claimed anew, or has ended."""


def _question() -> Statement:
    """A question about a call is asked once."""
    columns = _written(t.call_reviews, *t.ANSWER)
    asked = sa.select(t.call_reviews.c.seq).where(*_of(t.call_reviews, *CALL_KEY, "round"))
    chosen = sa.select(*(_param(column, t.call_reviews) for column in columns)).where(~asked.exists())
    order = (*(f"p_{column}" for column in columns), *(f"of_{column}" for column in (*CALL_KEY, "round")))
    return Statement("question", sa.insert(t.call_reviews).from_select(list(columns), chosen), order, merge=first)


QUESTION = _question()
ANSWER = Statement(
    "answer",
    sa.update(t.call_reviews)
    .values({column: _param(column, t.call_reviews) for column in t.ANSWER})
    .where(*_of(t.call_reviews, *CALL_KEY, "round"), t.call_reviews.c.decision.is_(None)),
    (*(f"p_{column}" for column in t.ANSWER), *(f"of_{column}" for column in (*CALL_KEY, "round"))),
    exact=True,
)


def _wake(name: str, which: sa.ColumnElement[bool], *order: str) -> Statement:
    """Make a run that waits due at once, unless it is due by then anyway."""
    at = sa.bindparam("p_due_at", type_=t.runs.c.due_at.type)
    waits = t.runs.c.status == sa.literal_column(f"'{Status.WAITING}'")
    later = sa.or_(t.runs.c.due_at.is_(None), t.runs.c.due_at > sa.bindparam("p_now", type_=t.runs.c.due_at.type))
    return Statement(name, sa.update(t.runs).values(due_at=at).where(which, waits, later), ("p_due_at", *order, "p_now"))


def _parent_of() -> sa.ColumnElement[bool]:
    ended = t.runs.alias("ended")
    parent = sa.select(ended.c.parent).where(ended.c.run_id == sa.bindparam("of_child")).scalar_subquery()
    return t.runs.c.run_id == parent


def _child_ended() -> sa.ColumnElement[bool]:
    child = t.runs.alias("child")
    ended = sa.select(child.c.no).where(child.c.run_id == sa.bindparam("of_child"), child.c.finished_at.is_not(None))
    return sa.and_(*_of(t.runs, "run_id"), ended.exists())


def _decided() -> sa.ColumnElement[bool]:
    asked = t.call_reviews.c
    same = (asked.run_id == t.runs.c.run_id, of_open_visit(asked.seq), asked.decided_epoch == t.runs.c.epoch)
    return sa.and_(*_of(t.runs, "run_id"), sa.select(asked.seq).where(*same).exists())


WAKE = _wake("wake", sa.and_(*_of(t.runs, "run_id", "seq")), "of_run_id", "of_seq")
WAKE_PARENT = _wake("wake parent", _parent_of(), "of_child")
WAKE_BY_CHILD = _wake("wake by child", _child_ended(), "of_run_id", "of_child")
"""A child that ended between its parent's last look and its parent's park woke nobody."""
WAKE_BY_DECISION = _wake("wake by decision", _decided(), "of_run_id")
"""So did a decision while the run was held."""


def _some_want() -> sa.ColumnElement[bool]:
    """Whether a channel that is told of what happens at an instant wants a kind."""
    mine, on = fleet.wants.c, fleet.channels.c
    told = sa.and_(on.channel == mine.channel, on.disabled_at.is_(None), on.since <= sa.bindparam("of_at", type_=on.since.type))
    wish = sa.select(mine.channel).join_from(fleet.wants, fleet.channels, told)
    return wish.where(mine.kind == sa.bindparam("of_kind", type_=mine.kind.type)).exists()


def _tell(name: str, *also: sa.ColumnElement[bool], order: tuple[str, ...] = ()) -> Statement:
    """An event for people, written once by its id, and only if a channel wants it: what nobody wants makes no rows."""
    columns = _written(fleet.outbox)
    chosen = sa.select(*(_param(column, fleet.outbox) for column in columns)).where(_some_want(), *also)
    made = insert_or_leave(fleet.outbox, *columns, source=chosen)
    return Statement(name, made, (*(f"p_{column}" for column in columns), "of_at", "of_kind", *order))


def _no_child() -> sa.ColumnElement[bool]:
    same = t.runs.c.run_id == sa.bindparam("of_run", type_=t.runs.c.run_id.type)
    return ~sa.select(t.runs.c.no).where(same, t.runs.c.parent.is_not(None)).exists()


def _reached() -> sa.ColumnElement[bool]:
    meter = t.meters.c
    mark = meter.used >= sa.bindparam("of_mark", type_=meter.used.type)
    return sa.select(meter.used).where(meter.meter == sa.bindparam("of_meter", type_=meter.meter.type), mark).exists()


def _deliver() -> Statement:
    """An event's errands, one for each channel that wants it. (From the event's row, so that there is one.)"""
    out, on, mine = fleet.outbox.c, fleet.channels.c, fleet.wants.c
    open_ones = sa.and_(on.channel == mine.channel, on.disabled_at.is_(None), on.since <= out.at)
    chosen = (
        sa.select(out.event, on.channel, sa.literal_column("0"), out.at)
        .join_from(fleet.outbox, fleet.wants, mine.kind == out.kind)
        .join(fleet.channels, open_ones)
        .where(out.event == sa.bindparam("of_event", type_=out.event.type))
    )
    made = insert_or_leave(fleet.deliveries, "event", "channel", "attempts", "due_at", source=chosen)
    return Statement("deliver", made, ("of_event",))


def _errand(name: str, values: dict[str, object], *where: sa.ColumnElement[bool], order: tuple[str, ...]) -> Statement:
    mine = fleet.deliveries.c
    key = [mine[column] == sa.bindparam(f"of_{column}", type_=mine[column].type) for column in ("channel", "event")]
    return Statement(name, sa.update(fleet.deliveries).values(values).where(*key, *where), order)


_way = fleet.deliveries.c
_TRIED = sa.bindparam("of_attempt", type_=_way.attempts.type)

TELL = _tell("tell")
TELL_END = _tell("tell an end", _no_child(), order=("of_run",))
"""Whoever started a child run hears of its end, and decides what it means."""
TELL_MARK = _tell("tell a mark", _reached(), order=("of_meter", "of_mark"))
DELIVER = _deliver()
CARRY = _errand(
    "carry",
    {
        "attempts": _way.attempts + sa.literal_column("1"),
        "due_at": sa.bindparam("p_due_at", type_=_way.due_at.type),
        "error": sa.null(),
    },
    _way.attempts == _TRIED,
    order=("p_due_at", "of_channel", "of_event", "of_attempt"),
)
CARRIED = _errand(
    "carried",
    {"due_at": sa.null(), "delivered_at": sa.bindparam("p_at", type_=_way.delivered_at.type), "error": sa.null()},
    _way.delivered_at.is_(None),
    _way.attempts >= _TRIED,
    order=("p_at", "of_channel", "of_event", "of_attempt"),
)
MISSED = _errand(
    "missed",
    {column: sa.bindparam(f"p_{column}", type_=_way[column].type) for column in ("due_at", "error")},
    _way.delivered_at.is_(None),
    _way.attempts == _TRIED,
    order=("p_due_at", "p_error", "of_channel", "of_event", "of_attempt"),
)

IN_ORDER = (
    PAYLOAD, MESSAGE, TRANSITION, RUN, CHILD, FORK, TRIED, REVIEWED, QUESTIONED,
    DEGRADE, ADVANCE, SETTLE, DECIDE, REVIVE, MIGRATE, DECISION, SNAPSHOT, CALL, NOTED,
    ATTEMPT, PARK, HAND_BACK, DIE, REVIEW, QUESTION, ANSWER, DEATH, BEGIN, TAKE, RENEW, CANCEL, UNRESERVE, FREE, RESERVE, CHARGE,
    ADJUST, WAKE, WAKE_PARENT, WAKE_BY_CHILD, WAKE_BY_DECISION, FEED,
    TELL, TELL_END, TELL_MARK, DELIVER, CARRY, CARRIED, MISSED,
)  # fmt: skip
"""What a row refers to is written before it. So a head finds its link of the journal, and no check is left for later."""
