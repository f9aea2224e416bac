"""`statecraft check TARGET --against URL`: what a deploy pipeline asks before it lets a new definition near old runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from statecraft import GatePolicy, Machine
from statecraft.cli.app import app
from tests.versions.releases import Bill, Office

NEW = """
from statecraft import Migration
from tests.versions.releases import Office

office = Office("")
strange = office.renamed()
half = office.renamed(Migration(since="1", states={"paying": "settling"}))
whole = office.renamed(Migration(since="1", states={"paying": "settling", "checking": "auditing"}))
same = office.first()
"""


async def _fill(office: Office, machine: Machine[Bill]) -> None:
    """Two runs that ask about a payment, and one that was paid and waits for a person's look."""
    async with office.open(machine) as runtime:
        for _ in range(2):
            await runtime.wait((await runtime.start(machine, Bill())).id)
    async with office.open(machine, gate=GatePolicy()) as runtime:
        await runtime.wait((await runtime.start(machine, Bill())).id)


@pytest.fixture
def office(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Office:
    (tmp_path / "clerks.py").write_text(NEW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    office = Office(url)
    asyncio.run(_fill(office, office.first()))
    return office


def check(target: str, *more: str) -> Result:
    return CliRunner().invoke(app, ["check", f"clerks.py:{target}", *more])


def words(done: Result) -> str:
    """What was written, without the breaks of its lines."""
    return " ".join(done.stdout.split())


@pytest.mark.slow
def test_what_could_not_go_on_fails_the_pipeline_with_the_state_the_reason_and_examples(office: Office) -> None:
    done = check("strange", "--against", office.url)
    assert done.exit_code == 1, done.output
    assert "SC140 error paying 2 runs of version 1 could not go on: no migration begins with its definition" in words(done)
    assert "state paying is gone" in words(done)
    assert "SC140 error checking 1 run of version 1" in words(done)
    assert "clerk version 2: 3 runs in flight at sqlite:" in words(done)
    assert "0 would migrate, 3 could not go on" in words(done)

    half = check("half", "--against", office.url)
    assert half.exit_code == 1
    assert "2 runs of version 1 would migrate: in paying, then settling" in words(half)
    assert "SC140 error checking 1 run of version 1 could not go on: clerk version 2 has no state checking" in words(half)


@pytest.mark.slow
def test_what_would_migrate_or_is_of_this_definition_passes(office: Office) -> None:
    whole = check("whole", "--against", office.url)
    assert whole.exit_code == 0, whole.output
    assert "0 of this definition, 3 would migrate, 0 could not go on" in whole.stdout
    same = check("same", "--against", office.url)
    assert same.exit_code == 0
    assert "3 of this definition, 0 would migrate" in same.stdout


def test_a_program_reads_the_same_as_json(office: Office) -> None:
    done = check("half", "--against", office.url, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["in_flight"], told["stranded"], told["hosted"]) == (3, 1, False)
    stranded, migrating = told["groups"]
    assert (stranded["state"], stranded["fate"], len(stranded["runs"])) == ("checking", "stranded", 1)
    assert (migrating["state"], migrating["target"], migrating["count"]) == ("paying", "settling", 2)


def test_it_makes_no_database_and_needs_a_target(office: Office, tmp_path: Path) -> None:
    missing = check("whole", "--against", "nowhere.db")
    assert missing.exit_code == 2
    assert "there is no database at nowhere.db" in missing.output
    assert not (tmp_path / "nowhere.db").exists()
    nothing = CliRunner().invoke(app, ["check", "--against", office.url])
    assert nothing.exit_code == 2
    assert "name their TARGETs" in nothing.output


@pytest.mark.slow
def test_the_command_line_answers_a_review_whose_state_a_migration_renames(office: Office) -> None:
    listed = json.loads(CliRunner().invoke(app, ["runs", "--db", office.url, "--json"]).stdout)
    (run,) = [run["id"] for run in listed["runs"] if run["state"] == "checking"]

    def send(event: str, target: str) -> Result:
        return CliRunner().invoke(app, ["send", run, event, "-m", f"clerks.py:{target}", "--db", office.url, "--detach"])

    refused = send("approved", "half")
    assert refused.exit_code != 0
    assert "clerk version 2 has no state checking" in refused.stderr
    assert "clerk version 2 takes no event 'nice'" in send("nice", "whole").stderr
    done = send("approved", "whole")
    assert (done.exit_code, "recorded approved by" in done.stderr) == (0, True), done.output
