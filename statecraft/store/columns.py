"""What every table is made of: types, strictness, lists of words."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import SchemaItem

metadata = sa.MetaData()

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def words(*parts: str) -> str:
    """The parts as a list of SQL literals."""
    return ", ".join(f"'{part}'" for part in parts)


def table(name: str, *parts: SchemaItem, narrow: bool = False) -> sa.Table:
    """A table of our schema. `narrow`: its rows are short, so SQLite keeps them in the index itself."""
    return sa.Table(name, metadata, *parts, sqlite_strict=True, sqlite_with_rowid=not narrow)


def index_where(name: str, where: sa.ColumnElement[bool], *columns: sa.ColumnElement[object], unique: bool = False) -> None:
    """An index of some rows only."""
    sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
