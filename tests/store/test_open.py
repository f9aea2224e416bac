"""Opening: a new file, an old one, and everything that is no database of ours; one line says what is wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from statecraft.errors import ConfigError, SchemaTooNew, StatecraftError, StoreUnavailable
from statecraft.records import RunFilter
from statecraft.store import open_store, sqlite
from statecraft.store.migrate import OLDEST
from statecraft.store.sql import SqlStore
from statecraft.store.tables import VERSION
from tests.store.rig import ask, begun, opened, path_of, within

OPENER = """
import asyncio, sys
from statecraft.store import open_store
from statecraft.store.port import MachineSpec

async def go(url):
    print("ready", flush=True)
    sys.stdin.readline()
    store = open_store(url)
    await store.open()
    await store.register(MachineSpec("m", "1", "f" * 64, "{}", (("", "start", "a"),)))
    await store.close()

asyncio.run(go(sys.argv[1]))
"""


def refusal(url: str, error: type[StatecraftError]) -> str:
    """The one line that says why the store does not open."""

    async def go() -> None:
        async with opened(url):
            pass

    with pytest.raises(error) as told:
        asyncio.run(go())
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_new_file_gets_the_whole_schema(url: str) -> None:
    within(url, begun)
    assert ask(url, "SELECT version FROM schema_version") == [(VERSION,)]
    assert ask(url, "PRAGMA journal_mode") == [("wal",)]
    assert ask(url, "PRAGMA integrity_check") == [("ok",)]
    assert ask(url, "PRAGMA foreign_key_check") == []


def test_the_writer_waits_for_the_disk_and_checks_references(url: str) -> None:
    async def story(store: SqlStore) -> None:
        assert store._link is not None
        pragmas = [store._link.sql.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "foreign_keys")]
        assert pragmas == [2, 1]
        assert await store._read(lambda sql: sql.exec_driver_sql("PRAGMA query_only").scalar()) == 1

    within(url, story)


def test_an_old_file_opens_again_and_keeps_what_it_has(url: str) -> None:
    run = within(url, begun)
    assert [found.id for found in within(url, lambda store: store.runs(RunFilter()))] == [run.run_id.hex()]


def test_an_empty_file_is_a_new_database(url: str) -> None:
    path_of(url).touch()
    within(url, begun)


def test_opening_twice_and_closing_twice_do_no_harm(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await store.open()
        await begun(store)
        await store.close()
        await store.close()

    within(url, story)


def test_a_closed_store_leaves_one_file_behind(url: str) -> None:
    within(url, begun)
    assert [path.name for path in path_of(url).parent.iterdir()] == [path_of(url).name]


@pytest.mark.slow
def test_processes_that_open_a_new_file_at_once_all_find_it_whole(url: str) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", OPENER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.flush()
    for opener in openers:
        opener.communicate()
        assert opener.returncode == 0
    assert ask(url, "SELECT count(*) FROM machines") == [(1,)]
    assert ask(url, "SELECT count(*) FROM schema_version") == [(1,)]


def test_stores_that_open_a_new_file_at_once_all_find_it_whole(url: str) -> None:
    async def go() -> None:
        stores = [open_store(url) for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(go())
    assert ask(url, "SELECT count(*) FROM schema_version") == [(1,)]


# --- what does not open ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql+asyncpg://localhost/x",
        "mysql://x",
        "runs.db",
        "",
        "sqlite://host/x",
        "sqlite:///x?mode=ro",
        "sqlite+aiosqlite:///x",
    ],
)
def test_a_url_that_is_not_supported_says_what_is(wrong: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///") as told:
        open_store(wrong)
    assert "\n" not in str(told.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    said = refusal(f"sqlite:///{tmp_path}/nowhere/runs.db", StoreUnavailable)
    assert f"{tmp_path}/nowhere does not exist; create it" in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert f"{tmp_path}/file is not a folder" in refusal(f"sqlite:///{tmp_path}/file/runs.db", StoreUnavailable)


def test_a_path_that_is_a_folder_is_named(tmp_path: Path) -> None:
    assert "it is a folder" in refusal(f"sqlite:///{tmp_path}", StoreUnavailable)


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    # Who may do anything, may write there too; a folder of the kernel takes nobody's files.
    where = Path("/proc") if os.access(folder, os.W_OK) else folder
    if not where.is_dir():
        pytest.skip("this user may write everywhere")
    said = refusal(f"sqlite:///{where}/runs.db", StoreUnavailable)
    assert f"{where}/runs.db" in said
    assert "make its folder writable or choose another path" in said


def test_a_file_that_is_read_only_is_named(url: str) -> None:
    within(url, begun)
    path_of(url).chmod(0o400)
    if os.access(path_of(url), os.W_OK):
        pytest.skip("this user may write everywhere")
    assert f"{path_of(url)} is read-only" in refusal(url, StoreUnavailable)


def test_a_file_that_is_no_database_is_left_alone(url: str) -> None:
    path_of(url).write_text("Dear diary, " * 500)
    assert f"{path_of(url)} is not an SQLite database" in refusal(url, StoreUnavailable)
    assert path_of(url).read_text() == "Dear diary, " * 500


def test_another_programs_database_is_left_alone(url: str) -> None:
    with closing(sqlite3.connect(path_of(url))) as raw:
        raw.execute("CREATE TABLE recipes(name TEXT)")
    before = path_of(url).read_bytes()
    assert "holds another program's tables (recipes)" in refusal(url, StoreUnavailable)
    assert path_of(url).read_bytes() == before


@pytest.mark.parametrize(
    ("version", "error", "advice"),
    [(VERSION + 1, SchemaTooNew, "upgrade statecraft"), (OLDEST - 1, StoreUnavailable, "choose another path")],
    ids=["newer", "from before the first release"],
)
def test_a_schema_of_another_version_is_left_alone(url: str, version: int, error: type[StatecraftError], advice: str) -> None:
    within(url, begun)
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as raw:
        raw.execute(f"UPDATE schema_version SET version = {version}")
    before = path_of(url).read_bytes()
    said = refusal(url, error)
    assert f"has schema {version}" in said
    assert advice in said
    assert path_of(url).read_bytes() == before


def test_a_damaged_file_is_named(url: str) -> None:
    within(url, begun)
    content = bytearray(path_of(url).read_bytes())
    content[100:2_000] = b"\xff" * 1_900
    path_of(url).write_bytes(content)
    assert f"{path_of(url)} is damaged" in refusal(url, StoreUnavailable)


def test_a_file_that_somebody_locks_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as raw:
        raw.execute("CREATE TABLE schema_version(version INTEGER)")
        raw.execute("BEGIN EXCLUSIVE")
        assert f"{path_of(url)} is locked by another process" in refusal(url, StoreUnavailable)


def test_a_store_that_failed_to_open_can_be_opened_later(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/later/runs.db")

    async def go() -> None:
        with pytest.raises(StoreUnavailable):
            await store.open()
        (tmp_path / "later").mkdir()
        await store.open()
        await store.close()

    asyncio.run(go())
