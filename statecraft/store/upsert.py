"""INSERTs that do something else where the row exists already. Each database has its own words for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

Rule = Callable[[sa.ColumnElement[Any], sa.ColumnElement[Any]], object]
"""From the old value and the new one to what is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Upsert:
    """An INSERT by primary key, and what becomes of the other columns of a row that exists; none: it stays as it is."""

    table: sa.Table
    change: tuple[tuple[str, Rule], ...] = ()
    source: tuple[tuple[str, ...], sa.Select[*tuple[Any, ...]]] | None = None
    """Columns, and the SELECT that their values come from; None: they are given."""

    def build(self, dialect: str) -> sa.Insert:
        """The statement in the words of one database."""
        statement: Any = _insert(dialect)(self.table)
        if self.source is not None:
            statement = statement.from_select(list(self.source[0]), self.source[1])
        keys = list(self.table.primary_key.columns)
        if not self.change:
            return statement.on_conflict_do_nothing(index_elements=keys)  # type: ignore[no-any-return]
        values = {name: rule(self.table.c[name], statement.excluded[name]) for name, rule in self.change}
        return statement.on_conflict_do_update(index_elements=keys, set_=values)  # type: ignore[no-any-return]


def _insert(dialect: str) -> Callable[[sa.Table], sa.Insert]:
    # Each is loaded only where it is spoken.
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert
    from sqlalchemy.dialects.postgresql import insert as postgres_insert

    return postgres_insert


def insert_or_leave(table: sa.Table, *columns: str, source: sa.Select[*tuple[Any, ...]] | None = None) -> Upsert:
    """An INSERT, of given values or of what a SELECT answers for some columns, that does nothing where a row with the same
    primary key exists."""
    return Upsert(table, source=None if source is None else (columns, source))


def insert_or_replace(table: sa.Table) -> Upsert:
    """An INSERT that overwrites the other columns where a row with the same primary key exists."""
    return Upsert(table, tuple((column.name, _new) for column in table.columns if not column.primary_key))


def insert_or_update(table: sa.Table, **change: Rule) -> Upsert:
    """An INSERT that, where a row with the same primary key exists, changes only the columns named: each function is
    given the old value and the new one."""
    return Upsert(table, tuple(change.items()))


def _new(_: sa.ColumnElement[Any], new: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return new
