"""Making a database ready: create the schema in a new one, bring up an older one, refuse what is newer than us or not ours."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from statecraft.errors import SchemaTooNew, StoreUnavailable
from statecraft.store import columns, fleet, migrate, tables
from statecraft.store.database import Database, Link

DECLARED = (tables, fleet)
"""Where tables are declared; `columns.metadata` holds them all once these are imported."""


def prepare(database: Database, *, bring_up: bool = True, probe: migrate.Probe | None = None) -> Link:
    """Open the writing connection of a database whose schema is whole and ours.

    A new database gets its tables; one of an older schema is brought up, unless `bring_up` says to refuse it. Safe when several
    processes open one at once: the others wait. Raises `StoreUnavailable` or `SchemaTooNew`; then nothing was changed.
    """
    database.check_place()
    link: Link | None = None
    try:
        link = database.writer()
        _check(link, database, bring_up)
        database.settle(link)
        _create_if_new(link, database)
        if migrate.version_of(link.sql) < tables.VERSION:
            migrate.bring_up(link, database, probe)
            _check(link, database)  # Whoever was faster may have been newer than us.
    except BaseException as error:
        if link is not None:
            link.close()
        database.dispose()
        if isinstance(error, database.errors):
            raise database.translate(error) from error
        raise
    return link


def found(database: Database) -> int | None:
    """The schema that a database has; None if it has none yet. Raises as `prepare` does; nothing is changed."""
    database.check_place()
    try:
        link = database.writer()
        try:
            return migrate.version_of(link.sql) if _check(link, database) else None
        finally:
            link.close()
    except database.errors as error:
        raise database.translate(error) from error
    finally:
        database.dispose()


def _check(link: Link, database: Database, bring_up: bool = True) -> bool:
    """Whether a schema is there. Raises if what is there is newer, too old, or somebody else's."""
    target, names = database.target, set(sa.inspect(link.sql).get_table_names())
    if database.shared:
        names &= set(columns.metadata.tables)
    if not names:
        return False
    if not {"schema_version", "transitions"} <= names:
        raise StoreUnavailable(f"{target} holds another program's tables ({', '.join(sorted(names)[:3])}); choose another path")
    version = migrate.version_of(link.sql)
    if version > tables.VERSION:
        raise SchemaTooNew(
            f"{target} has schema {version}, written by a newer statecraft; this one knows {tables.VERSION}: upgrade statecraft"
        )
    if version < migrate.OLDEST:
        raise StoreUnavailable(
            f"{target} has schema {version}, made before the first release; this statecraft needs {tables.VERSION} and cannot "
            "carry it over: choose another path"
        )
    if version < tables.VERSION and not bring_up:
        raise StoreUnavailable(
            f"{target} has schema {version}; this statecraft needs {tables.VERSION}: run `statecraft migrate` on it"
        )
    return True


_CREATION: dict[str, tuple[str, ...]] = {}


def creation(dialect: sa.Dialect) -> tuple[str, ...]:
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
        for statement in (*creation(link.sql.dialect), *database.rules()):
            link.execute(statement)
        link.sql.execute(sa.insert(tables.schema_version), [{"id": 1, "version": tables.VERSION}])
    link.commit()
