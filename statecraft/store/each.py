"""One query for many rows of values: the same as asking it once for each of them, with fewer trips to a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from statecraft.store.statements import Query, Row


def ask_each(query: Query, sql: sa.Connection, values: Sequence[Row]) -> list[list[Any]]:
    """The rows of each, in the order of the values given."""
    if sql.dialect.name != "postgresql" or len(values) == 1:
        return [query.ask(sql, *row) for row in values]
    from statecraft.store.postgres.each import ask_all  # where it runs, psycopg is there

    return ask_all(query, sql, values)
