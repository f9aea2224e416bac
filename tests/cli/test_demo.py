"""The demo, end to end, as people run it; and Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import cli, fields, in_own_process

pytestmark = pytest.mark.slow


def test_the_demo_kills_resumes_approves_by_flag_and_proves(place: Path) -> None:
    done = in_own_process("demo")
    assert done.returncode == 0, done.stderr + done.stdout
    text = done.stdout
    for said in (
        "offline model",
        "kill -9",
        "The process is dead (SIGKILL), in the middle of gathering.",
        "Another process",
        "the demo approves by flag (--yes)",
        "once; then recalled, not run",
        "Recorded twice: 0.",
        "The chain of hashes holds.",
        "every move agrees",
        "statecraft show @last --steps --db",
        "statecraft explain @last --step 1 --db",
    ):
        assert said in text
    for line in (line for line in text.partition("Look further")[2].splitlines() if " --db " in line):
        tried = cli(*shlex.split(line.partition("statecraft ")[2]))
        assert (tried.exit_code, tried.stdout != "") == (0, True), line
    assert "[1]" in text
    assert "Traceback" not in done.stderr
    run = fields(cli("show", "@last", "--db", "statecraft-demo/runs.db", "--json"))
    assert run["run"]["status"] == "done"
    assert {move["epoch"] for move in run["path"]} >= {1, 2}
    assert len([path for path in (place / "statecraft-demo").iterdir() if path.suffix in {".svg", ".mmd"}]) == 1


def test_the_demo_as_json_is_one_object(place: Path) -> None:
    done = in_own_process("demo", "--json", "--yes", "--dir", "here", "--question", "How do I copy a folder?")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["v"], found["lost"], found["twice"], found["replay_agrees"]) == (1, 0, 0, True)
    assert found["killed"]["calls"] > 0
    assert found["recalled"] > 0
    assert Path(found["database"]).exists()
    assert Path(found["picture"]).exists()


def test_a_demo_in_a_place_that_cannot_be_written_is_one_line(place: Path) -> None:
    (place / "taken").write_text("")
    done = in_own_process("demo", "--dir", "taken/inside")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_leaves_a_run_that_goes_on_with_the_line_it_prints() -> None:
    words = ["start", "research", "--set", "question=How do I copy a folder?", "--pace", "60"]
    started = subprocess.Popen(
        [sys.executable, "-m", "statecraft", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert started.stdout is not None
    run_id = started.stdout.readline().strip()
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=30)
    assert started.returncode == 130, said
    line = next(line for line in said.splitlines() if "the run goes on with: " in line and "statecraft resume" in line)
    assert "Traceback" not in said
    resumed = in_own_process(*line.partition("statecraft ")[2].split())
    assert resumed.returncode == 0, resumed.stderr
    assert fields(cli("show", run_id, "--json"))["run"]["status"] == "done"


def test_a_run_whose_process_was_killed_is_taken_over_at_once() -> None:
    words = ["start", "research", "--set", "question=How do I copy a folder?", "--pace", "60"]
    started = subprocess.Popen(
        [sys.executable, "-m", "statecraft", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    run_id = started.stdout.readline().strip()
    started.kill()
    started.communicate()
    assert fields(cli("show", run_id, "--json"))["run"]["status"] == "running"
    done = cli("resume", run_id)
    assert done.exit_code == 0, done.stderr
    assert fields(cli("show", run_id, "--json"))["run"]["epoch"] == 2
