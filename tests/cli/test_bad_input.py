"""What people get wrong: one line that says what and how to fix it, the right exit code, nothing half-written."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli.support import cli, fields, in_own_process, one_error, start

TARGET = ("-m", "post.py:letters")


def rows(path: Path) -> int:
    """Rows of journal and calls together."""
    with closing(sqlite3.connect(path)) as db, db:
        return sum(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "transitions", "calls"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("show",), ("watch",), ("resume",), ("replay",), ("send",), ("cancel",), ("review", "approve")]
)
def test_an_unknown_run_is_not_found(place: Path, words: tuple[str, ...]) -> None:
    start()
    more = {"send": ("approved",), "cancel": ("--reason", "x")}.get(words[0], ())
    done = cli(*words, "ffff", *more)
    assert done.exit_code == 3
    assert "no run 'ffff'" in one_error(done)
    assert rows(place / "statecraft.db") == 4


def test_looking_into_a_database_that_is_not_there_does_not_make_one(place: Path) -> None:
    done = cli("show", "@last")
    assert done.exit_code == 2
    assert "there is no database at statecraft.db" in one_error(done)
    assert not (place / "statecraft.db").exists()


@pytest.mark.slow
def test_an_event_that_the_state_does_not_take_is_refused(place: Path) -> None:
    run_id = start()
    done = cli("send", run_id, "written", "--set", "text=x", *TARGET)
    assert done.exit_code == 2
    assert "takes approved" in one_error(done)
    assert rows(place / "statecraft.db") == 4


@pytest.mark.slow
def test_a_payload_that_does_not_validate_is_refused(place: Path) -> None:
    run_id = start()
    done = cli("review", "reject", run_id, *TARGET)
    assert done.exit_code == 2
    assert "reason: is required (add --set reason=...)" in one_error(done)
    wrong = cli("review", "approve", run_id, "--set", "colour=red", *TARGET)
    assert wrong.exit_code == 2
    assert "colour: there is no such field (fields: note)" in one_error(wrong)
    assert rows(place / "statecraft.db") == 4


def test_input_that_does_not_validate_starts_nothing(place: Path) -> None:
    done = cli("start", "post.py:letters", "--set", "copies=many")
    assert done.exit_code == 2
    assert "to: is required" in one_error(done)
    assert "copies: " in one_error(done)
    assert not (place / "statecraft.db").exists()


@pytest.mark.slow
def test_a_closed_run_takes_nothing_more(place: Path) -> None:
    run_id = start()
    assert cli("send", run_id, "approved", *TARGET).exit_code == 0
    before = rows(place / "statecraft.db")
    for words in (("send", run_id, "approved"), ("review", "approve", run_id), ("resume", run_id)):
        done = cli(*words, *TARGET)
        assert done.exit_code == 2
        assert "done" in one_error(done)
    done = cli("cancel", run_id, "--reason", "late")
    assert done.exit_code == 2
    one_error(done)
    assert rows(place / "statecraft.db") == before


def test_a_run_that_waits_for_nobody_has_no_review() -> None:
    run_id = cli("start", "post.py:letters", "--set", "to=Ann", "--detach").stdout.strip()
    done = cli("review", "approve", run_id, *TARGET)
    assert done.exit_code == 2
    assert "waits for no decision" in one_error(done)


def test_a_key_of_another_input_is_refused() -> None:
    start("--key", "a")
    done = cli("start", "post.py:letters", "--set", "to=Bob", "--key", "a")
    assert done.exit_code == 2
    assert "'a'" in one_error(done)


def test_a_run_whose_machine_is_not_at_hand_says_how_to_name_it() -> None:
    run_id = start()
    done = cli("resume", run_id)
    assert done.exit_code == 2
    assert "add -m TARGET" in one_error(done)


def test_a_database_of_a_newer_schema_is_left_alone(place: Path) -> None:
    start()
    with closing(sqlite3.connect(place / "statecraft.db")) as db, db:
        db.execute("UPDATE schema_version SET version = 999")
    before = rows(place / "statecraft.db")
    for words in (("runs",), ("start", "post.py:letters", "--set", "to=Ann")):
        done = cli(*words)
        assert done.exit_code == 2
        assert "newer" in one_error(done)
    assert rows(place / "statecraft.db") == before


def test_a_file_that_is_no_database_is_left_alone(place: Path) -> None:
    (place / "notes.txt").write_text("These are my notes, not a database.\n" * 100)
    for words in (("runs",), ("start", "post.py:letters", "--set", "to=Ann")):
        done = cli(*words, "--db", "notes.txt")
        assert done.exit_code == 2
        assert "notes.txt" in one_error(done)
    assert (place / "notes.txt").read_text().startswith("These are my notes")


def test_a_folder_that_cannot_be_written_is_named(place: Path) -> None:
    locked = place / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if os.access(locked, os.W_OK):  # an administrator writes everywhere but here
        locked = Path("/proc/self")
    if not locked.exists():
        pytest.skip("every folder of this system can be written")
    done = cli("start", "post.py:letters", "--set", "to=Ann", "--db", f"{locked}/runs.db")
    assert done.exit_code == 2
    assert str(locked) in one_error(done)
    assert not (locked / "runs.db").exists()


def test_a_folder_that_is_not_there_is_named() -> None:
    done = cli("start", "post.py:letters", "--set", "to=Ann", "--db", "nowhere/runs.db")
    assert done.exit_code == 2
    assert "nowhere" in one_error(done)


@pytest.mark.parametrize("url", ["oracle://host/name", "sqlite:", "://"])
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    done = cli("start", "post.py:letters", "--set", "to=Ann", "--db", f"{url}//x" if url == "sqlite:" else url)
    assert done.exit_code == 2
    one_error(done)


ASKING = """
from statecraft import Data, Event, Failure, Machine, Run


class Said(Event):
    said: str


asking = Machine("asking", data=Data)


@asking.state(start=True)
async def question(run: Run[Data]) -> Said:
    return Said(said=await run.llm.ask("Say hello."))


happy = asking.final("happy", ok=True)
unhappy = asking.final("unhappy")
asking.transitions(question.on(Said) >> happy, asking.anywhere.on(Failure) >> unhappy)
"""


def test_a_missing_key_is_told_before_anything_is_written(place: Path) -> None:
    (place / "asking.py").write_text(ASKING)
    done = cli("start", "asking.py:asking")
    assert done.exit_code == 2
    assert "ANTHROPIC_API_KEY" in one_error(done)
    assert cli("start", "research", "--set", "question=x", "--model", "claude-of-tomorrow").exit_code == 2
    assert not (place / "statecraft.db").exists()


class NoSuchKey(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = b'{"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}'
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a provider that knows no key."""
    server = HTTPServer(("127.0.0.1", 0), NoSuchKey)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.slow
def test_a_bad_key_fails_the_run_with_one_line_that_says_so(place: Path, refusing: str) -> None:
    (place / "asking.py").write_text(ASKING)
    env = {"ANTHROPIC_API_KEY": "not-a-key", "ANTHROPIC_BASE_URL": refusing}
    done = in_own_process("start", "asking.py:asking", env=env)
    assert done.returncode == 1, done.stderr
    told = [line for line in done.stderr.splitlines() if "key" in line]
    assert len(told) == 1
    assert "Traceback" not in done.stderr
    assert "not-a-key" not in done.stdout + done.stderr
    assert fields(cli("show", done.stdout.strip(), "--json"))["run"]["state"] == "unhappy"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("starr",), "No such command 'starr'"),
        (("start",), "Missing argument 'TARGET'"),
        (("show", "@last", "--colour"), "No such option"),
        (("cancel", "@last"), "Missing option '--reason'"),
        (("runs", "--status", "asleep"), "'asleep' is not one of"),
        (("runs", "--limit", str(10**20)), "is not in the range"),
        (("dlq", "list", "--limit", str(10**20)), "is not in the range"),
        (("alerts", "list", "--limit", str(10**20)), "is not in the range"),
        (("dlq", "redrive", "--all", "--deadline", "1e30"), "is no length of time"),
        (("start", "post.py:letters", "--set", "to=Ann", "--in", "3000000d"), "is too long"),
        (("start", "post.py:letters", "--set", "to=Ann", "--at", "9999-12-31T23:59-12:00"), "begins after the year 9999"),
        (("diagram",), "give either TARGET or --run RUN or --diff OLD NEW"),
        (("diagram", "post.py:letters", "--run", "@last"), "give either TARGET or --run RUN or --diff OLD NEW"),
        (("diagram", "--run", "@last", "--fleet"), "--fleet needs a TARGET"),
        (("diagram", "post.py:letters", "--hours", "2"), "--hours belongs to --fleet"),
        (("diagram", "post.py:letters", "--fleet", "--hours", "nan"), "'nan' is no number"),
        (("diagram", "post.py:letters", "--fleet", "--hours", "1e300"), "is not in the range"),
        (("eval", "bar.py:suite", "--fail-under", "nan"), "'nan' is no number"),
        (("start", "post.py:letters", "--set", "to=Ann", "--pace", "nan"), "'nan' is no number"),
        (("diagram", "post.py:letters", "-f", "png", "--json"), "a png is no text for JSON: add -o FILE"),
        (("diagram", "post.py:letters", "-o", "letters.gif"), "no format is written as .gif: name one with -f"),
        (("start", "post.py:letters", "--set", "to"), "--set 'to' is not name=value"),
    ],
)
def test_a_wrong_command_line_is_told_on_one_line(words: tuple[str, ...], said: str) -> None:
    done = cli(*words)
    assert done.exit_code == 2
    assert said in one_error(done)


@pytest.mark.slow
def test_only_debug_shows_a_traceback() -> None:
    start()
    assert "Traceback" not in cli("show", "ffff").stderr
    assert "Traceback" in cli("show", "ffff", "--debug").stderr
