"""Databases that fail in the middle: nothing is lost, nothing happens twice, and the log says what happened."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from statecraft import Runtime, Settings
from statecraft.errors import StoreError
from statecraft.testing.postgres import PostgresServer
from tests.fleet.cargo import Cargo, cargo, notebook
from tests.fleet.soak import Judge, Outcome
from tests.fleet.trip import Log, Travel
from tests.fleet.wire import Cut, Wire
from tests.servers import make_tables

# --- a connection that is lost in the middle of a commit ---------------------------------------------------------------


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[PostgresServer, str]]:
    """A server that listens on loopback, and a database with our tables."""
    with PostgresServer(listen="127.0.0.1") as server:
        yield server, server.template_url("statecraft", make_tables)


Listening = tuple[PostgresServer, str]


def travel(listening: Listening, cuts: dict[int, Cut]) -> tuple[Travel, Wire]:
    """One trip with these cuts, counted from the first commit."""
    server, url = listening
    server.wipe(url, keep=["schema_version"])
    with Wire(url, cuts) as wire:
        travelled = Travel(wire.url, url)
        travelled()
    return travelled, wire


@pytest.fixture(scope="module")
def calm(listening: Listening) -> tuple[Travel, int]:
    """A trip without trouble, and its number of commits."""
    travelled, wire = travel(listening, {})
    assert travelled.log.records == []
    assert set(travelled.made.values()) == {1}
    return travelled, wire.commits


def judge(calm: Travel, travelled: Travel, wire: Wire) -> None:
    """As if nothing had been, but for what is made again because its record was not kept."""
    assert travelled.journal == calm.journal
    assert travelled.calls == calm.calls
    assert travelled.made["pay 12"] == 1
    assert travelled.made.keys() == calm.made.keys()
    told = travelled.log.of("store.resolved")
    assert len(told) == len(wire.cut)
    assert len(travelled.log.of("store.reconnected")) >= len(wire.cut)
    for record in told:
        assert travelled.ask("SELECT pg_xact_status(%s::text::xid8)", record.xid) == [(record.outcome,)]
    outcomes = [record.outcome for record in told]
    for how, outcome in zip(wire.cut, outcomes, strict=True):
        assert how == "meanwhile" or outcome == ("committed" if how == "after" else "aborted")
    assert sum(travelled.made.values()) <= sum(calm.made.values()) + outcomes.count("aborted")
    if "aborted" not in outcomes:
        assert travelled.log.of("store.failed") == []
        assert travelled.made == calm.made


@pytest.mark.slow
@pytest.mark.parametrize(("how", "step"), [("before", 3), ("after", 3), ("meanwhile", 7), ("unheard", 7)])
def test_a_connection_lost_at_any_commit_changes_nothing(
    listening: Listening, calm: tuple[Travel, int], how: Cut, step: int
) -> None:
    expected, commits = calm
    number = 0
    for number in count(0, step):  # How many commits there are depends a little on which writes meet in one.
        travelled, wire = travel(listening, {number: how})
        judge(expected, travelled, wire)
        if not wire.cut:
            break
    assert number > commits / 2 > 8


@pytest.mark.slow
def test_connections_lost_at_two_commits_change_nothing(listening: Listening, calm: tuple[Travel, int]) -> None:
    expected, commits = calm
    chance = random.Random(1)
    for _ in range(5):
        first = chance.randrange(commits)
        cuts: dict[int, Cut] = {
            first: chance.choice(["before", "after", "unheard"]),
            first + chance.randint(1, 5): chance.choice(["before", "after", "meanwhile"]),
        }
        travelled, wire = travel(listening, cuts)
        judge(expected, travelled, wire)


# --- a server that goes away -------------------------------------------------------------------------------------------


def ended(url: str) -> tuple[int, int]:
    """How many runs have ended, and how many there are; while the server is away, nothing is known to have."""
    try:
        with psycopg.connect(url, autocommit=True) as sql:
            row = sql.execute("SELECT count(finished_at), count(*) FROM runs").fetchone()
    except psycopg.Error:
        return 0, 1
    assert row is not None
    return row[0], row[1]


async def insist(rt: Runtime, number: int) -> None:
    """Start a run, as a caller does who gave it a key and is refused now and then."""
    while True:
        try:
            await rt.start(cargo, Cargo(seconds=0.02, parcels=2 * (number % 3 == 0)), key=f"run {number}", detach=True)
        except StoreError:
            await asyncio.sleep(0.02)
        else:
            return


async def under_fire(url: str, notes: Path, runs: int, fire: Callable[[], Coroutine[Any, Any, None]]) -> Outcome:
    """One runtime that drives `runs` runs while `fire` rages; what is found when all have ended."""
    notebook.path = notes
    settings = Settings(lease=timedelta(seconds=2), poll=timedelta(milliseconds=100), concurrency=40)
    try:
        async with asyncio.timeout(90), Runtime(url, machines=[cargo], settings=settings) as rt:
            raging = asyncio.ensure_future(fire())
            await asyncio.gather(*(insist(rt, number) for number in range(runs)), raging)
            while len(set(await asyncio.to_thread(ended, url))) > 1:
                await asyncio.sleep(0.05)
    finally:
        notebook.path = None
    outcome = Outcome()
    await Judge(url, notes, outcome).judge()
    return outcome


@pytest.mark.slow
def test_a_runtime_whose_server_crashes_five_times_ends_every_run(tmp_path: Path) -> None:
    with PostgresServer() as server:
        url, log = server.create_database(), Log()

        async def fire() -> None:
            for number in range(5):
                while (await asyncio.to_thread(ended, url))[0] < 6 * number or len(log.of("store.reconnected")) < number:
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(server.restart, "immediate")

        with log.heard():
            outcome = asyncio.run(under_fire(url, tmp_path / "notes", 60, fire))
    print(outcome)
    assert outcome.wrong == []
    assert outcome.ended == Counter({"done": 100})
    assert len(log.of("store.reconnected")) >= 5
    # A server whose recovery takes longer than a commit is asked after leaves that open; nothing may go wrong by it.
    assert {record.outcome for record in log.of("store.resolved")} <= {"committed", "aborted", "unknown"}


@pytest.mark.slow
def test_a_runtime_whose_connections_are_ended_again_and_again_ends_every_run(tmp_path: Path) -> None:
    """The writer's, the readers', that of the listener and that of the notifier, whichever chance takes."""
    chance, kinds = random.Random(5), Counter[str]()
    with PostgresServer() as server:
        url = server.create_database()

        def shoot() -> None:
            with psycopg.connect(url, autocommit=True, application_name="fire") as sql:
                found = sql.execute(SESSIONS).fetchall()
                if found:
                    pid, query = chance.choice(found)
                    sql.execute("SELECT pg_terminate_backend(%s)", (pid,))
                    kinds[query.split()[0].strip(";").upper() if query else ""] += 1

        async def fire() -> None:
            while kinds.total() < 120:
                await asyncio.to_thread(shoot)
                await asyncio.sleep(chance.uniform(0, 0.04))

        log = Log()
        with log.heard():
            outcome = asyncio.run(under_fire(url, tmp_path / "notes", 200, fire))
    print(outcome, kinds)
    assert outcome.wrong == []
    assert outcome.ended == Counter({"done": 334})
    assert kinds["LISTEN"] > 0
    assert len(log.of("store.reconnected")) > 5
    assert {record.outcome for record in log.of("store.resolved")} <= {"committed", "aborted"}


SESSIONS = "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'statecraft'"


# --- a disk that fills -------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 32 MB of its own. Skips the test where the system lets us make none."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small disk here: mount says {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as full, suppress(OSError):
        while full.write(bytes(4096)):
            pass


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mount") is None, reason="no program `mount`")
def test_a_disk_that_is_full_for_a_while_stops_runs_and_loses_none() -> None:
    """Only the tables are on it: where the log of PostgreSQL has no space either, the server stops, as in a crash."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place, PostgresServer() as server:
        Path(place).chmod(0o755)
        with small_disk(Path(place) / "disk") as disk:
            home = disk / "tables"
            home.mkdir()
            os.chown(home, server.folder.stat().st_uid, server.folder.stat().st_gid)
            with psycopg.connect(server.url(), autocommit=True) as sql:
                sql.execute(f"CREATE TABLESPACE small LOCATION '{home}'".encode())
                sql.execute("CREATE DATABASE small TEMPLATE template0 TABLESPACE small")
            url, log = server.url("small"), Log()

            async def fire() -> None:
                while await asyncio.to_thread(lambda: ended(url)[0]) < 6:
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(fill, disk / "ballast")
                while not any("StoreFull" in record.error for record in log.of("store.failed")):
                    await asyncio.sleep(0.02)
                (disk / "ballast").unlink()

            with log.heard():
                outcome = asyncio.run(under_fire(url, Path(place) / "notes", 60, fire))
            server.drop_database("small")
    print(outcome)
    assert outcome.wrong == []
    assert outcome.ended == Counter({"done": 100})
