"""Making a database ready: create the schema in a new one, or check that an old one is ours and not newer than us."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from statecraft.errors import SchemaTooNew, StoreUnavailable
from statecraft.store import columns, tables
from statecraft.store.database import Database, Link


def prepare(database: Database) -> Link:
    """Open the writing connection of a database whose schema is whole and ours.

    Safe when several processes open a new database at once. Raises `StoreUnavailable` or `SchemaTooNew`; then nothing was
    changed.
    """
    database.check_place()
    link: Link | None = None
    try:
        link = database.writer()
        _check(link, database)
        database.settle(link)
        _create_if_new(link, database)
    except BaseException as error:
        if link is not None:
            link.close()
        database.dispose()
        if isinstance(error, database.errors):
            raise database.translate(error) from error
        raise
    return link


def _check(link: Link, database: Database) -> bool:
    """Whether the schema is there. Raises if what is there is newer, or somebody else's."""
    target, names = database.target, set(sa.inspect(link.sql).get_table_names())
    if database.shared:
        names &= set(columns.metadata.tables)
    if not names:
        return False
    if not {"schema_version", "transitions"} <= names:
        raise StoreUnavailable(f"{target} holds another program's tables ({', '.join(sorted(names)[:3])}); choose another path")
    version = link.sql.execute(sa.select(tables.schema_version.c.version)).scalar_one()
    if version > tables.VERSION:
        raise SchemaTooNew(
            f"{target} has schema {version}, written by a newer statecraft; this one knows {tables.VERSION}: upgrade statecraft"
        )
    if version < tables.VERSION:
        raise StoreUnavailable(
            f"{target} has schema {version}, made before the first release; this statecraft needs {tables.VERSION} and cannot "
            "carry it over: choose another path"
        )
    return True


_CREATION: dict[str, tuple[str, ...]] = {}


def _creation(dialect: sa.Dialect) -> tuple[str, ...]:
    """The statements that make the tables and their indexes, compiled once for each sort of database."""
    if dialect.name not in _CREATION:
        parts: list[CreateTable | CreateIndex] = []
        for table in columns.metadata.sorted_tables:
            indexes = sorted(table.indexes, key=lambda index: str(index.name))
            parts += [CreateTable(table), *map(CreateIndex, indexes)]
        _CREATION[dialect.name] = tuple(str(part.compile(dialect=dialect)) for part in parts)
    return _CREATION[dialect.name]


def _create_if_new(link: Link, database: Database) -> None:
    link.begin()
    database.hold_schema(link)
    if not _check(link, database):
        for statement in (*_creation(link.sql.dialect), *database.rules()):
            link.execute(statement)
        link.sql.execute(sa.insert(tables.schema_version), [{"id": 1, "version": tables.VERSION}])
    link.commit()
