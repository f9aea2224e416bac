"""Bringing an older schema up to the present one: forward only, in one transaction, so that a kill in the middle changes nothing.

The steps are the files of `statecraft/store/migrations`. Whoever comes second waits for the transaction and finds it done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources

import sqlalchemy as sa

from statecraft import trace
from statecraft.errors import WriteRefused
from statecraft.store.columns import metadata
from statecraft.store.database import Database, Link
from statecraft.store.tables import VERSION, schema_version

OLDEST = 2
"""The first schema that can be brought up; the one before was never released."""

Probe = Callable[[str], None]
"""Called with the number of each statement just before it runs, and with `commit`; for tests that crash there."""


def version_of(sql: sa.Connection) -> int:
    """The number of the schema that the database has."""
    return int(sql.execute(sa.select(schema_version.c.version)).scalar_one())


def bring_up(link: Link, database: Database, probe: Probe | None = None) -> None:
    """Run the steps that the database lacks.

    Raises what the database raises, and `WriteRefused` if its rows break a reference; nothing was changed then.
    """
    probe = probe or _unprobed
    with _unreferenced(link):
        link.begin()
        try:
            database.hold_schema(link)
            found = version_of(link.sql)
            if found < VERSION:
                _run(link, found, database.rules(), probe)
            probe("commit")
            link.commit()
        except BaseException:
            link.rollback()
            raise
    if found < VERSION:
        trace.emit("store.migrated", {"from_schema": found, "to_schema": VERSION})


def _run(link: Link, found: int, rules: Sequence[str], probe: Probe) -> None:
    dialect = link.sql.dialect.name
    wanted = [step for number in range(found + 1, VERSION + 1) for step in steps(dialect, number)]
    for number, statement in enumerate([*_unruled(link.sql), *wanted, *rules]):
        probe(str(number))
        link.execute(statement)
    if dialect == "sqlite":
        _check(link.sql)
    link.sql.execute(sa.update(schema_version).values(version=VERSION))


def steps(dialect: str, number: int) -> list[str]:
    """The statements that lead to a schema from the one before it."""
    file = resources.files("statecraft.store").joinpath("migrations", dialect, f"{number:04}.sql")
    return [part.strip() for part in file.read_text(encoding="utf-8").split(";\n") if part.strip()]


@contextmanager
def _unreferenced(link: Link) -> Iterator[None]:
    """SQLite changes a table by putting a copy in its place, which it allows only while it checks no references. The switch
    works outside a transaction only; `_check` makes up for it before the commit."""
    if link.sql.dialect.name != "sqlite":
        yield
        return
    link.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        link.execute("PRAGMA foreign_keys=ON")


def _check(sql: sa.Connection) -> None:
    broken = sql.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise WriteRefused(
            f"the database was not brought up to schema {VERSION}: row {broken[1]} of {broken[0]} refers to a row of {broken[2]} "
            "that is not there; restore it from a copy"
        )


def _unruled(sql: sa.Connection) -> list[str]:
    """Statements that take our triggers away: a step moves rows that they would hold fast."""
    if sql.dialect.name == "sqlite":
        made = sql.exec_driver_sql("SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'")
        return [f'DROP TRIGGER "{name}"' for table, name in made if table in metadata.tables]
    found = sql.execute(_TRIGGERS).all()
    dropped = [f"DROP TRIGGER {name} ON {table}" for table, name, _ in found]
    return dropped + [f"DROP FUNCTION {function}" for function in sorted({function for _, _, function in found})]


_TRIGGERS = sa.text(
    "SELECT tgrelid::regclass::text, quote_ident(tgname), p.oid::regprocedure::text"
    " FROM pg_trigger JOIN pg_proc AS p ON p.oid = tgfoid"
    " WHERE NOT tgisinternal AND starts_with(proname, 'statecraft_') AND pronamespace = current_schema()::regnamespace"
    " ORDER BY 1, 2"
)


def _unprobed(_: str) -> None: ...
