"""One query for many rows of values, as one statement: the query as a lateral subquery of a table of arrays.

`SELECT ... WHERE run_id = :run_id` becomes `SELECT given.no, found.* FROM unnest(...) WITH ORDINALITY AS given(run_id, no),
LATERAL (SELECT ... WHERE run_id = given.run_id) AS found`. A lateral subquery can only be run once for each row given, so the
rows of each come out together, in the order that the query itself asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from statecraft.store.postgres.arrays import Column, array_of
from statecraft.store.statements import Query, Row

_MADE: dict[Query, tuple[bytes, tuple[type[Column], ...]]] = {}


def ask_all(query: Query, sql: sa.Connection, values: Sequence[Row]) -> list[list[Any]]:
    """The rows of each, in the order of the values given."""
    text, columns = _MADE.get(query) or _MADE.setdefault(query, _make(query, sql.dialect))
    found: list[list[Any]] = [[] for _ in values]
    if not values:
        return found
    cursor: Any = sql.connection.cursor()
    cursor.execute(text, [send(column) for send, column in zip(columns, zip(*values, strict=True), strict=True)])
    for number, *row in cursor.fetchall():
        found[number - 1].append(query.row._make(row))
    cursor.close()
    return found


def _make(query: Query, dialect: sa.Dialect) -> tuple[bytes, tuple[type[Column], ...]]:
    types = {part.key: part.type for part in visitors.iterate(query.select) if isinstance(part, sa.BindParameter)}
    kinds = [array_of(types[name]) for name in query.order]
    arrays = [sa.bindparam(name, type_=sa.ARRAY(kind)) for name, (_, kind) in zip(query.order, kinds, strict=True)]
    columns = [sa.column(name, kind) for name, (_, kind) in zip(query.order, kinds, strict=True)]
    given: Any = sa.func.unnest(*arrays).table_valued(*columns, with_ordinality="no", name="given").render_derived()

    def column(part: Any, **_: Any) -> Any:
        return given.c[part.key] if isinstance(part, sa.BindParameter) and part.key in query.order else None

    once: Any = visitors.replacement_traverse(query.select, {}, column)  # type: ignore[call-overload]  # any statement will do
    found = once.lateral("found")
    compiled = sa.select(given.c.no, *found.c).select_from(given.join(found, sa.true())).compile(dialect=dialect)
    assert tuple(compiled.positiontup or ()) == query.order, (query.order, compiled.positiontup)
    return str(compiled).encode(), tuple(sent for sent, _ in kinds)
