"""`statecraft fork`, `diff` and `verify`: from a run that went one way to one that went another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import cli, fields
from tests.store.rig import tampered

MODULE = """
from statecraft import Data, Event, Machine, Run, tool

class Trip(Data):
    city: str
    plan: str = ""
    days: int = 0

class Planned(Event):
    plan: str

class Counted(Event):
    days: int

@tool(effect="read", risk="safe")
def look(what: str) -> str:
    "Look it up."
    return what.upper()

machine = Machine("trip", data=Trip)

@machine.state(start=True, tools=[look])
async def planning(run: Run[Trip]) -> Planned:
    return Planned(plan=await run.tool(look, run.data.city))

@machine.state(tools=[look])
async def counting(run: Run[Trip]) -> Counted:
    return Counted(days=len(await run.tool(look, run.data.plan)))

machine.transitions(planning.on(Planned) >> counting, counting.on(Counted) >> machine.final("done", ok=True))
"""
TRIP = ("-m", "trip.py:machine")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trip.py").write_text(MODULE)
    started = cli("start", "trip.py:machine", "--set", "city=rome")
    return str(started.stdout.strip())


@pytest.mark.slow
def test_a_run_is_rewound_with_other_data_and_compared(run: str) -> None:
    made = cli("fork", run, "--rewind", "counting", "--set", "plan=42", "--by", "bob", "--note", "shorter", *TRIP)
    assert made.exit_code == 0
    fork = made.stdout.strip()
    assert f"diff {run} {fork}" in made.stderr
    assert f"show {fork}" in made.stderr
    shown = cli("show", fork).stdout
    assert f"from {run} at step 1 by bob: shorter" in shown
    diff = cli("diff", run, fork, *TRIP)
    assert diff.exit_code == 1
    assert "the same up to step 1; then, at step 2" in diff.stdout
    assert [line.split() for line in diff.stdout.splitlines() if "→" in line][-1] == ["days", "4", "→", "2"]
    assert len(diff.stdout.splitlines()) <= 24
    told = fields(cli("diff", run, fork, *TRIP, "--json"))
    assert (told["equal"], told["diff"]["shared"], told["diff"]["fields"]["plan"]) == (False, 2, ["ROME", "42"])
    same = cli("diff", run, run, *TRIP)
    assert (same.exit_code, "the same 3 moves" in same.stdout) == (0, True)
    assert "(ends before)" in cli("diff", f"{run}:1", f"{run}:2").stdout


@pytest.mark.slow
def test_a_fork_that_is_only_recorded_is_run_later(run: str) -> None:
    made = cli("fork", run, "--at", "0", "--detach", "--json", *TRIP)
    fork = fields(made)["run"]
    assert (fork["status"], fork["forked_from"], fork["forked_step"]) == ("ready", run, 0)
    assert cli("resume", fork["id"], *TRIP).exit_code == 0


@pytest.mark.slow
def test_a_fork_says_where_and_of_what(run: str) -> None:
    for words, code, said in (
        ((), 2, "either --at STEP or --rewind STATE"),
        (("--at", "1", "--rewind", "planning"), 2, "either --at STEP or --rewind STATE"),
        (("--at", "2"), 2, "had ended in done at step 2"),
        (("--at", "9"), 3, "steps 0 to 2"),
        (("--rewind", "nowhere"), 3, "never was in 'nowhere'"),
        (("--at", "1", "--set", "town=oslo"), 2, "town"),
    ):
        refused = cli("fork", run, *words, *TRIP)
        assert (refused.exit_code, said in refused.stderr) == (code, True), refused.stderr


@pytest.mark.slow
def test_a_history_that_was_changed_is_named_with_its_row(run: str) -> None:
    fork = cli("fork", run, "--at", "1", *TRIP).stdout.strip()
    good = cli("verify", "--all", *TRIP)
    assert (good.exit_code, good.stdout) == (0, "")
    assert "2 runs hold, 0 not; states, data and guards of 2 were worked out again" in good.stderr
    without = cli("verify", run)
    assert (without.exit_code, "without its code" in without.stderr) == (0, True)
    tampered("sqlite:///statecraft.db", f"UPDATE calls SET finished_at = finished_at + 1 WHERE run_id = x'{fork}' AND seq = 0")
    bad = cli("verify", "--all")
    assert bad.exit_code == 1
    assert [line.strip() for line in bad.stdout.splitlines()] == [f"{fork} does not hold", "call 0.0: hash differs"]
    told = fields(cli("verify", fork, run, "--json"))["runs"]
    assert [each["problems"] for each in told] == [["call 0.0: hash differs"], []]
    assert cli("verify").exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("waiting_for = 'reviev'", "head: waits for the unknown 'reviev'"),
        ("status = 'donf'", "head: has the unknown status 'donf'"),
        ("machine = 99", "head: is of machine 99, but step 2 was made by machine 1"),
    ],
)
def test_a_run_whose_head_cannot_be_read_any_more_is_named_and_hides_no_other(run: str, change: str, said: str) -> None:
    fork = cli("fork", run, "--at", "1", *TRIP).stdout.strip()
    tampered("sqlite:///statecraft.db", f"UPDATE runs SET {change} WHERE run_id = x'{fork}'")
    for words in (["--all"], [fork, run]):
        bad = cli("verify", *words, "--json")
        told = {each["run"]: each["problems"] for each in fields(bad)["runs"]}
        assert (bad.exit_code, told) == (1, {fork: [said], run: []})
