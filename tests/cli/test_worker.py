"""`statecraft worker`, and starts that leave the work to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from statecraft import Runtime, Settings
from statecraft.cli.target import load_target
from tests.cli.support import MACHINE, cli, fields, one_error

SLOW = '''
import os, time
from pathlib import Path
from statecraft import Data, Event, Failure, Machine, Run, Settings, seconds, tool


class Item(Data):
    name: str = ""


class Done(Event):
    pass


@tool(effect="once", risk="low")
def act(name: str, number: int) -> str:
    """Leave a line."""
    with Path("acts.txt").open("a") as file:
        file.write(f"{name} {number}\\n")
    time.sleep(0.05)
    return "done"


items = Machine("items", data=Item)


@items.state(start=True, tools=[act])
async def first(run: Run[Item]) -> Done:
    for number in range(3):
        await run.tool(act, run.data.name, number)
    return Done()


@items.state(tools=[act])
async def second(run: Run[Item]) -> Done:
    await run.tool(act, run.data.name, 3)
    return Done()


items.transitions(
    first.on(Done) >> second, second.on(Done) >> items.final("done", ok=True), items.anywhere.on(Failure) >> items.final("failed")
)
settings = Settings(concurrency=5, poll=seconds(0.2))
'''


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "post.py").write_text(MACHINE)


def start(*words: str) -> str:
    done = cli("start", "post.py:letters", "--set", "to=nobody", "--detach", *words)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_a_worker_drains_its_queues_and_leaves_what_is_for_later() -> None:
    low, high = start("--queue", "bulk"), start("--queue", "bulk", "--priority", "5", "--tenant", "ann")
    other, later = start(), start("--queue", "bulk", "--in", "3d")
    done = cli("worker", "post.py:letters", "--queue", "bulk", "--concurrency", "1", "--drain")
    assert done.exit_code == 0, done.stderr
    assert [run["id"] for run in fields(cli("runs", "--queue", "bulk", "--status", "failed", "--json"))["runs"]] == [high, low]
    claimed = [line.split("run_id=")[1].split()[0] for line in done.stderr.splitlines() if " run.claimed " in line]
    assert claimed == [high, low]
    told = [line.split()[1] for line in done.stderr.splitlines()]
    assert (told[0], told[-1], Counter(told)["run.ended"]) == ("worker.started", "worker.stopped", 2)
    assert "claimed=2 ended=2" in done.stderr.splitlines()[-1]
    shown = cli("show", high).stdout
    assert "bulk, priority 5, for ann" in shown
    assert "waiting for start" in cli("show", later).stdout
    assert fields(cli("show", other, "--json"))["run"]["status"] == "ready"


@pytest.mark.slow
def test_a_delayed_run_is_resumed_at_once_by_hand() -> None:
    run = start("--at", "2999-01-01T00:00")
    assert fields(cli("show", run, "--json"))["run"]["due_at"] == "2999-01-01T00:00:00.000Z"
    assert cli("resume", run, "-m", "post.py:letters").exit_code == 1  # Nobody to write to.
    assert fields(cli("show", run, "--json"))["run"]["status"] == "failed"


def test_a_worker_makes_the_schema_and_takes_the_machines_of_the_project_file() -> None:
    Path("statecraft.toml").write_text('machines = ["post.py:letters"]\nurl = "sqlite:///mine.db"\n')
    done = cli("worker", "--drain", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[0])["machines"] == "letters"
    assert Path("mine.db").exists()


def test_a_worker_without_machines_is_told_how_to_name_them() -> None:
    done = cli("worker", "--drain")
    assert done.exit_code == 2
    assert "name TARGETs" in one_error(done)


def test_a_worker_whose_database_is_away_at_the_start_says_so_and_leaves_to_be_started_again() -> None:
    done = cli("worker", "post.py:letters", "--db", "postgresql://ann@127.0.0.1:1/letters")
    assert done.exit_code == 2
    assert "postgresql://ann@127.0.0.1:1/letters is not there: no server listens; start it" in one_error(done)


def test_modules_that_disagree_about_settings_are_refused_by_name() -> None:
    for name, lease in (("a", 30), ("b", 40), ("c", 30)):
        ending = f"\nfrom statecraft import Settings, seconds\nsettings = Settings(lease=seconds({lease}), concurrency=3)\n"
        Path(f"{name}.py").write_text(MACHINE.replace('"letters"', f'"letters_{name}"') + ending)
    done = cli("worker", "a.py:letters", "b.py:letters", "--drain")
    assert done.exit_code == 2
    assert "a.py:letters and b.py:letters have different settings (lease)" in one_error(done)
    assert cli("worker", "a.py:letters", "c.py:letters", "post.py:letters", "--drain").exit_code == 0


@pytest.mark.parametrize(("option", "value"), [("--grace", "soon"), ("--lease", "10 years"), ("--poll", "")])
def test_a_length_of_time_that_is_none_is_refused(option: str, value: str) -> None:
    done = cli("worker", "post.py:letters", option, value)
    assert done.exit_code == 2
    assert "no length of time" in one_error(done)


@pytest.mark.parametrize("name", ["lease", "poll"])
def test_no_time_at_all_is_refused_and_not_taken_for_the_default(name: str) -> None:
    done = cli("worker", "post.py:letters", "--drain", f"--{name}", "0s")
    assert done.exit_code == 2
    assert f"settings.{name} is a time greater than 0" in one_error(done)


async def start_all(names: list[str]) -> None:
    """Record a run of `slow.py` for each name."""
    machine = load_target("slow.py:items").machine
    async with Runtime("sqlite:///statecraft.db", machines=[machine], settings=Settings(take="none")) as rt:
        items = [machine.definition.data_type.model_validate({"name": name}) for name in names]
        await asyncio.gather(*(rt.start(machine, item, detach=True) for item in items))


@pytest.mark.slow
def test_two_workers_share_a_file_and_one_that_is_told_to_stop_hands_its_runs_back() -> None:
    Path("slow.py").write_text(SLOW)
    names = [f"run{number}" for number in range(40)]
    asyncio.run(start_all(names))
    command = [sys.executable, "-m", "statecraft", "worker", "slow.py:items", "--drain"]
    one, two = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) for _ in range(2)]
    assert one.stderr is not None
    lines = [next(line for line in one.stderr if " run.ended " in line)]
    one.send_signal(signal.SIGTERM)
    began = time.monotonic()
    lines += one.communicate(timeout=30)[1].splitlines()
    assert one.returncode == 0, lines
    assert time.monotonic() - began < 10
    assert any(" worker.draining " in line for line in lines)
    _, told = two.communicate(timeout=60)
    assert two.returncode == 0, told
    runs = fields(cli("runs", "--limit", "100", "--json"))["runs"]
    assert Counter(run["status"] for run in runs) == {"done": 40}
    acts = Counter(Path("acts.txt").read_text().splitlines())
    assert acts == Counter(f"{name} {number}" for name in names for number in range(4))
    stopped = next(line for line in lines if " worker.stopped " in line)
    assert "handed_back=" in stopped
    assert "handed_back=0" not in stopped
