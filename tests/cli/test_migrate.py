"""`statecraft migrate` says which schema a database has, and brings it up; `--check` only looks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from statecraft.cli.config import Database
from statecraft.store.tables import VERSION
from tests.cli.support import cli, fields
from tests.store.old_runs import OLD


@pytest.fixture
def old(place: Path) -> Path:
    path = place / "statecraft.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(OLD)
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute("SELECT version FROM schema_version").fetchone()[0])


def test_check_tells_by_its_exit_code_and_changes_nothing(old: Path) -> None:
    before = old.read_bytes()
    done = cli("migrate", "--check")
    assert done.exit_code == 1
    assert done.stderr == f"schema 2; this statecraft needs {VERSION}: run `statecraft migrate`\n"
    assert old.read_bytes() == before


def test_migrate_brings_it_up_and_says_from_where_to_where(old: Path) -> None:
    done = cli("migrate")
    assert (done.exit_code, done.stderr) == (0, f"schema 2 before, {VERSION} now\n")
    assert version(old) == VERSION
    assert cli("migrate", "--check").exit_code == 0
    assert cli("migrate").stderr == f"schema {VERSION}: nothing to do\n"


def test_the_answer_is_there_for_programs_too(old: Path) -> None:
    assert fields(cli("migrate", "--check", "--json")) == {"v": 1, "from": 2, "to": VERSION, "due": True}
    assert fields(cli("migrate", "--json")) == {"v": 1, "from": 2, "to": VERSION, "due": False}


def test_a_database_that_is_not_there_is_not_made(place: Path) -> None:
    done = cli("migrate")
    assert done.exit_code == 2
    assert "there is no database at statecraft.db" in done.stderr
    assert not (place / "statecraft.db").exists()


def test_other_verbs_bring_a_file_up_by_themselves_and_a_shared_database_never(old: Path) -> None:
    assert cli("check").stdout.count("run `statecraft migrate` on it") == 1
    assert cli("runs").exit_code == 0
    assert version(old) == VERSION
    assert not Database("postgresql://db.example/runs", "--db").migrate
