"""A PostgreSQL database belongs to a fleet: only what is meant to changes its tables."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from statecraft.store import schema_of
from statecraft.store.tables import VERSION
from statecraft.testing.postgres import PostgresServer
from tests.cli.support import cli

pytestmark = pytest.mark.slow


@pytest.fixture
def shared(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STATECRAFT_URL", postgres_url)
    return postgres_url


def test_looking_makes_no_tables_in_an_empty_database_and_says_what_does(shared: str) -> None:
    for verb in (["runs"], ["stats"], ["dlq"], ["alerts"], ["schedule"], ["review"]):
        done = cli(*verb)
        assert done.exit_code == 2
        assert "has no tables of statecraft" in done.stderr
    checked = cli("check")
    assert checked.exit_code == 0
    assert "reachable, without tables; `statecraft migrate` or the first start makes them" in checked.stdout
    assert cli("migrate", "--check").exit_code == 1
    assert schema_of(shared)[0] is None
    assert cli("migrate").stderr == f"no schema yet before, {VERSION} now\n"
    assert cli("runs").stderr == "no runs\n"


def test_no_verb_but_migrate_brings_an_older_schema_up(shared: str) -> None:
    assert cli("migrate").exit_code == 0
    with psycopg.connect(shared, autocommit=True) as raw:
        raw.execute("UPDATE schema_version SET version = version - 1")
    for verb in (["runs"], ["stats"], ["worker", "post.py:letters", "--drain"], ["start", "post.py:letters", "--set", "to=Ann"]):
        done = cli(*verb)
        assert done.exit_code == 2, (verb, done.stderr)
        assert "run `statecraft migrate` on it" in done.stderr


def test_a_role_with_the_documented_grants_works_and_one_that_only_reads_may_look(
    shared: str, postgres_server: PostgresServer
) -> None:
    if not postgres_server.private:
        pytest.skip("roles belong to a whole server, and this one is not ours")
    assert cli("worker", "post.py:letters", "--drain").exit_code == 0
    page = Path(__file__).parents[2] / "docs" / "postgres.md"
    granted = re.findall(r"^GRANT .*?;", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(granted) == 3
    with psycopg.connect(shared, autocommit=True) as raw:
        for role in ("worker", "looker"):
            raw.execute(f"DROP ROLE IF EXISTS {role}")
            raw.execute(f"CREATE ROLE {role}")
        for grant in granted:
            raw.execute(grant)
    as_role = f"{shared}{'&' if '?' in shared else '?'}options=-crole%3D"
    started = cli("start", "post.py:letters", "--set", "to=Ann", "--detach", "--db", f"{as_role}worker")
    assert started.exit_code == 0, started.stderr
    assert cli("worker", "post.py:letters", "--drain", "--db", f"{as_role}worker").exit_code == 0
    looked = cli("runs", "--db", f"{as_role}looker")
    assert (looked.exit_code, started.stdout.strip() in looked.stdout) == (0, True), looked.stderr
    # A worker that cannot write is told so and ends; it does not look as if it were waiting.
    stuck = cli("worker", "post.py:letters", "--drain", "--db", f"{as_role}looker")
    assert stuck.exit_code == 2
    assert "does not let this user do that; GRANT it" in stuck.stderr
    assert "worker.started" not in stuck.stderr
