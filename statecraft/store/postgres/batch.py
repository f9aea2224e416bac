"""One statement for all rows of a batch: the store's own statement, with a table of arrays in the place of its parameters.

`UPDATE runs SET seq = :p_seq WHERE run_id = :held_run_id` becomes `UPDATE runs SET seq = given.p_seq FROM
unnest(...) AS given(p_seq, held_run_id) WHERE run_id = given.held_run_id`. It is derived, so there is one text to get right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from statecraft.store.postgres.arrays import Column, array_of
from statecraft.store.skew import instants
from statecraft.store.statements import Row, Statement

_ALWAYS, _NEVER = -1, -2


@dataclass(frozen=True, slots=True)
class Batch:
    """A statement over arrays."""

    text: bytes
    columns: tuple[type[Column], ...]
    """How each column of its rows is sent."""
    instants: tuple[int, ...]
    """Which values of a row are leases or due times."""
    rouses: int
    """Which value of a row tells by `ready` that somebody may claim the run now; `_ALWAYS` if that is what it is for."""

    def wakes(self, rows: Sequence[Row]) -> bool:
        """Whether these rows, which were written, made something due."""
        if self.rouses < 0:
            return self.rouses == _ALWAYS
        return any(row[self.rouses] == "ready" for row in rows)


_MADE: dict[Statement, Batch] = {}


def batch(statement: Statement, dialect: sa.Dialect) -> Batch:
    """The statement over arrays; made once."""
    found = _MADE.get(statement)
    if found is None:
        found = _MADE[statement] = _batch(statement, dialect)
    return found


def _batch(statement: Statement, dialect: sa.Dialect) -> Batch:
    sql = statement.spoken(dialect.name)
    kinds = [array_of(kind) for kind in _types(statement, sql)]
    arrays = [sa.bindparam(name, type_=sa.ARRAY(kind)) for name, (_, kind) in zip(statement.order, kinds, strict=True)]
    columns = [sa.column(name, kind) for name, (_, kind) in zip(statement.order, kinds, strict=True)]
    given = sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived()
    compiled = _over(sql, given.c, statement.order).compile(dialect=dialect)
    assert tuple(compiled.positiontup) == statement.order, (statement.name, compiled.positiontup)
    sent = tuple(column for column, _ in kinds)
    return Batch(str(compiled).encode(), sent, instants(statement, dialect.name), _rouses(statement))


def _types(statement: Statement, sql: sa.Insert | sa.Update | sa.Delete) -> list[sa.types.TypeEngine[Any]]:
    if isinstance(sql, sa.Insert) and sql.select is None:
        return [sql.table.c[name].type for name in statement.order]
    types = {part.key: part.type for part in visitors.iterate(sql) if isinstance(part, sa.BindParameter)}
    return [types[name] for name in statement.order]


def _over(sql: sa.Insert | sa.Update | sa.Delete, given: Any, order: tuple[str, ...]) -> Any:
    if isinstance(sql, sa.Insert) and sql.select is None:
        return sql.from_select(list(order), sa.select(*(given[name] for name in order)))

    def column(part: Any, **_: Any) -> Any:
        return given[part.key] if isinstance(part, sa.BindParameter) and part.key in order else None

    return visitors.replacement_traverse(sql, {}, column)  # type: ignore[call-overload]  # any statement will do


def _rouses(statement: Statement) -> int:
    if statement.name.startswith("wake"):
        return _ALWAYS
    return next((place for place, name in enumerate(statement.order) if name in ("status", "p_status")), _NEVER)
