"""What `test_migrate` says of SQLite, on PostgreSQL: a schema is brought up whole or not at all, by one of all who open it."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from statecraft.errors import SchemaTooNew, StoreUnavailable
from statecraft.store import database_of, open_store, schema, schema_of
from statecraft.store.migrate import Probe
from statecraft.store.tables import VERSION
from statecraft.testing.postgres import PostgresServer
from tests.store import draft_migration
from tests.store.old_runs import OLD, go_on
from tests.store.test_migrate import opener

pytestmark = pytest.mark.slow

Rows = dict[str, list[dict[str, Any]]]

CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, a.attidentity,
               pg_get_expr(d.adbin, d.adrelid), l.collname
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped""",
    "tables": """
        SELECT relname, relkind, reloptions FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), condeferrable, condeferred, convalidated
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "triggers": "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
}
"""What PostgreSQL keeps of a schema, but for the order of a table's columns, which says nothing to anybody."""


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    raw = psycopg.Connection[dict[str, Any]].connect(url, autocommit=True, row_factory=dict_row)
    with closing(raw):
        yield raw


def catalog(url: str) -> dict[str, list[str]]:
    with connected(url) as raw:
        found = {what: raw.execute(ask.encode()).fetchall() for what, ask in CATALOG.items()}
    return {what: sorted(str(tuple(row.values())) for row in rows) for what, rows in found.items()}


def rows_of(url: str) -> Rows:
    with connected(url) as raw:
        names = raw.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        read = sql.SQL("SELECT * FROM {} ORDER BY 1, 2")
        return {name["tablename"]: raw.execute(read.format(sql.Identifier(name["tablename"]))).fetchall() for name in names}


def fill(url: str) -> None:
    """Make what the code of schema 2 would have made, with the rows that it left in SQLite."""
    with connected(url) as raw, raw.transaction(), closing(sqlite3.connect(":memory:")) as old:
        for statement in draft_migration.frozen(2, "postgresql"):
            raw.execute(statement.encode())
        old.executescript(OLD)
        old.row_factory = sqlite3.Row
        for made in draft_migration.frozen(2, "postgresql"):
            if name := re.match(r"CREATE TABLE (\w+)", made):
                copy(raw, old, name[1], draft_migration.columns(made))
        for table, column in (("runs", "no"), ("feed", "pos"), ("machines", "machine")):
            raw.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), (SELECT max({column}) FROM {table}))".encode()
            )


def copy(raw: psycopg.Connection[dict[str, Any]], old: sqlite3.Connection, table: str, columns: dict[str, str]) -> None:
    names = [name for name, line in columns.items() if "GENERATED ALWAYS" not in line]
    into = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(sql.Placeholder() * len(names))
    )
    for row in old.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):
        raw.execute(into, [row[name] for name in names])


@pytest.fixture
def old(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of schema 2 with runs in it."""
    url = postgres_server.template_url("schema 2", fill)
    yield url
    postgres_server.drop_database(url)


def upgrade(url: str, probe: Probe | None = None) -> None:
    database = database_of(url)
    schema.prepare(database, probe=probe).close()
    database.dispose()


def test_a_schema_that_was_brought_up_is_the_one_that_a_new_database_gets(old: str, postgres_url: str) -> None:
    upgrade(old)
    upgrade(postgres_url)
    assert catalog(old) == catalog(postgres_url)
    assert all(catalog(old).values())


def test_every_row_is_kept_as_it_was_and_new_columns_have_their_defaults(old: str) -> None:
    before = rows_of(old)
    upgrade(old)
    after = rows_of(old)
    assert after.pop("schema_version") == [{"id": 1, "version": VERSION}]
    del before["schema_version"]
    assert sum(map(len, before.values())) > 80
    for name, rows in before.items():
        assert [{column: row[column] for column in rows[0]} for row in after[name]] == rows if rows else after[name] == []
    assert {(run["queue"], run["priority"], run["turn"]) for run in after["runs"]} == {("default", 0, 0)}


def test_runs_of_the_old_schema_are_sound_and_go_on_where_they_stood(old: str) -> None:
    asyncio.run(asyncio.wait_for(go_on(old), 30))


def test_what_may_never_change_is_refused_afterwards(old: str) -> None:
    upgrade(old)
    with connected(old) as raw, pytest.raises(psycopg.errors.RestrictViolation, match="transitions is append-only"):
        raw.execute("UPDATE transitions SET at = 0")


def test_a_trigger_of_somebody_else_is_left_alone(old: str) -> None:
    with connected(old) as raw:
        raw.execute("CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
        raw.execute("CREATE TRIGGER audited BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION audit()")
    upgrade(old)
    assert [line for line in catalog(old)["triggers"] if "audited" in line]


def test_whoever_asked_not_to_bring_it_up_is_told_how_and_nothing_changes(old: str) -> None:
    assert schema_of(old) == (2, VERSION)
    before = rows_of(old), catalog(old)
    with pytest.raises(StoreUnavailable, match=r"has schema 2; this statecraft needs .*: run `statecraft migrate` on it"):
        asyncio.run(open_store(old, migrate=False).open())
    assert (rows_of(old), catalog(old)) == before


def test_a_newer_schema_is_left_alone(postgres_url: str) -> None:
    upgrade(postgres_url)
    with connected(postgres_url) as raw:
        raw.execute("UPDATE schema_version SET version = 999")
    before = rows_of(postgres_url), catalog(postgres_url)
    with pytest.raises(SchemaTooNew, match="has schema 999, written by a newer statecraft"):
        asyncio.run(open_store(postgres_url).open())
    assert (rows_of(postgres_url), catalog(postgres_url)) == before


def test_of_processes_that_open_an_old_database_at_once_one_brings_it_up(old: str) -> None:
    openers = [opener(old) for _ in range(4)]
    for one in openers:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate()[0] for one in openers]
    assert [one.returncode for one in openers] == [0] * 4
    assert sorted(line == "ran 0 statements\n" for line in said) == [False, True, True, True]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_process_killed_in_the_middle_leaves_an_old_database_that_works(
    old: str, postgres_server: PostgresServer, share: float
) -> None:
    points: list[str] = []
    twin = postgres_server.template_url("schema 2", fill)
    upgrade(twin, points.append)
    before = rows_of(old), catalog(old)

    killed = opener(old, points[int(share * (len(points) - 1))])
    killed.communicate("\n")
    assert killed.returncode == -signal.SIGKILL
    assert (rows_of(old), catalog(old)) == before

    upgrade(old)
    assert catalog(old) == catalog(twin)
    assert rows_of(old) == rows_of(twin)
    postgres_server.drop_database(twin)
