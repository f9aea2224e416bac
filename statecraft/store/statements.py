"""The statements of the hot path. Each is compiled once and run with ready-made tuples."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from statecraft.records import Status
from statecraft.store import tables as t
from statecraft.store.sqlite import insert_or_leave, insert_or_replace

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One SQL statement and the order of the values in its rows."""

    name: str
    sql: sa.Insert | sa.Update
    order: tuple[str, ...]
    exact: bool = False
    """Each row must touch exactly one row of the database; anything less means that the write is refused."""

    def compile(self, dialect: sa.Dialect) -> str:
        """The SQL text, once the order of its placeholders is known to be ours."""
        keys = self.order if isinstance(self.sql, sa.Insert) and self.sql.select is None else None
        compiled = self.sql.compile(dialect=dialect, column_keys=keys)
        assert tuple(getattr(compiled, "positiontup", ())) == self.order, (self.name, self.order, compiled.positiontup)
        return str(compiled)


class Query:
    """A SELECT that is asked often. Compiled once per connection and run by the driver alone, since building and
    compiling a statement costs many times what running it does."""

    def __init__(self, select: sa.Select[*tuple[Any, ...]], *order: str) -> None:
        self._select = select
        self._order = order
        self._row: Any = namedtuple("Row", select.selected_columns.keys())  # type: ignore[misc]  # noqa: PYI024  # the select names them

    def ask(self, sql: sa.Connection, *values: object) -> list[Any]:
        """Its rows, with a field for each column; `values` in the order given to the query."""
        text = sql.info.get(self) or self._compile(sql)
        cursor = sql.connection.cursor()
        cursor.execute(text, values)
        found = [self._row(*row) for row in cursor.fetchall()]
        cursor.close()
        return found

    def _compile(self, sql: sa.Connection) -> str:
        compiled = self._select.compile(dialect=sql.dialect)
        assert tuple(getattr(compiled, "positiontup", ())) == self._order, self._order
        sql.info[self] = str(compiled)
        return str(compiled)


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


def _update(name: str, columns: Sequence[str], where: sa.ColumnElement[bool], *, fresh: bool) -> Statement:
    """An UPDATE of a run's head. `fresh`: a transition was committed, so the count of claims starts again."""
    values: dict[str, object] = {column: _param(column, t.runs) for column in columns}
    if fresh:
        values["attempts"] = sa.literal_column("0")
    in_table = [column.name for column in t.runs.columns if column.name in columns]
    order = (*(f"p_{column}" for column in in_table), *_HELD)
    return Statement(name, sa.update(t.runs).values(values).where(where), order, exact=True)


def _fenced_insert(name: str, table: sa.Table, columns: tuple[str, ...]) -> Statement:
    chosen = sa.select(*(_param(column, table) for column in columns)).select_from(t.runs).where(_held(Status.RUNNING))
    order = (*(f"p_{column}" for column in columns), *_HELD)
    return Statement(name, sa.insert(table).from_select(list(columns), chosen), order, exact=True)


def _insert(table: sa.Table, *skip: str) -> Statement:
    return Statement(table.name, sa.insert(table), _written(table, *skip))


def _review() -> Statement:
    """The first question of a visit stays."""
    columns = ("run_id", "seq", "state", "requested_at", "expires_at", "events", "question", "show")
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

PAYLOAD = Statement("payload", insert_or_leave(t.payloads), ("hash", "body"))
MESSAGE = Statement("message", insert_or_leave(t.messages), ("hash", "parent", "body"))
RUN = _insert(t.runs, "no")
ADVANCE = _update("advance", ("seq", "state", "updated_at"), _held(Status.RUNNING), fresh=True)
"""A move that goes on under the same lease. It touches no indexed column."""
SETTLE = _update("settle", ("seq", "state", *_HEAD), _held(Status.RUNNING), fresh=True)
"""A move that ends the run or gives it up."""
DECIDE = _update("decide", ("seq", "state", *_HEAD), _held(Status.RUNNING, Status.WAITING), fresh=True)
"""A move by a decision: of a person, while the run waits, or of time, while somebody holds it."""
PARK = _update("park", _HEAD, _held(Status.RUNNING), fresh=False)
TRANSITION = _insert(t.transitions)
DECISION = _decision()
SNAPSHOT = Statement("snapshot", insert_or_replace(t.snapshots), ("run_id", "seq", "data"))
CALL = _fenced_insert("call", t.calls, _written(t.calls))
ATTEMPT = _fenced_insert("attempt", t.attempts, _written(t.attempts, "no"))
REVIEW = _review()
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
RENEW = _claimed("renew", _params("lease_until"), Status.RUNNING)
CANCEL = _claimed(
    "cancel",
    _FREED
    | {"status": sa.literal_column(f"'{Status.CANCELLED}'"), "epoch": t.runs.c.epoch + sa.literal_column("1")}
    | {"owner": sa.null(), "lease_until": sa.null()}
    | _params("updated_at", "finished_at", "reason"),
)

IN_ORDER = (
    PAYLOAD, MESSAGE, TRANSITION, RUN, ADVANCE, SETTLE, DECIDE, DECISION, SNAPSHOT, CALL, ATTEMPT, PARK, REVIEW, DEATH,
    TAKE, RENEW, CANCEL, FEED,
)  # fmt: skip
"""What a row refers to is written before it. So a head finds its link of the journal, and no check is left for later."""
