"""`statecraft dlq`: from the list of dead letters to the run that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import cli, fields

MODULE = """
import os
from pathlib import Path
from statecraft import Data, Event, Machine, OperatorEvent, Run, days

class Order(Data):
    item: str = "tea"
    note: str = ""

class Bought(Event): ...

class Settle(OperatorEvent):
    note: str = ""

machine = Machine("shop", data=Order)

@machine.state(start=True)
async def buying(run: Run[Order]) -> Bought:
    if not Path("up").exists():
        raise ConnectionError("the shop is closed")
    return Bought()

done = machine.final("done", ok=True)
machine.transitions(buying.on(Bought) >> done, buying.on(Settle) >> done)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(MODULE)
    return tmp_path


def started(times: int = 1) -> list[str]:
    return [fields(cli("start", "shop.py:machine", "--json"))["run"]["id"] for _ in range(times)]


@pytest.mark.slow
def test_a_dead_letter_is_listed_shown_and_redriven(shop: Path) -> None:
    (run,) = started()
    assert [each["run_id"] for each in fields(cli("dlq", "--json"))["letters"]] == [run]
    shown = cli("dlq", "show", run)
    assert "the shop is closed" in shown.stdout
    assert f"dlq redrive {run}" in shown.stderr
    again = cli("dlq", "redrive", run, "-m", "shop.py:machine", "--by", "ann")
    assert (again.exit_code, "dlq show" in again.stderr) == (1, True)
    (shop / "up").touch()
    done = cli("dlq", "redrive", run, "-m", "shop.py:machine", "--by", "ann", "--note", "open again")
    assert done.exit_code == 0
    assert "no dead letters" in cli("dlq", "list").stderr
    refused = cli("dlq", "redrive", run, "-m", "shop.py:machine")
    assert (refused.exit_code, "only a dead run" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_many_are_redriven_after_a_look_and_with_yes(shop: Path) -> None:
    runs = started(3)
    (pattern,) = fields(cli("dlq", "patterns", "--json"))["patterns"]
    assert (pattern["count"], pattern["error"], sum(pattern["hours"])) == (3, "ConnectionError", 3)
    options = ("dlq", "redrive", "--all", "--error", "ConnectionError", "--limit", "2", "-m", "shop.py:machine")
    preview = cli(*options)
    assert (preview.exit_code, "--yes does it" in preview.stderr) == (0, True)
    assert len(fields(cli("dlq", "--json"))["letters"]) == 3
    done = fields(cli(*options, "--yes", "--json"))["redrives"]
    assert [each["run_id"] for each in done["runs"]] == [runs[2], runs[1]]
    assert len(fields(cli("dlq", "--json"))["letters"]) == 1


@pytest.mark.slow
def test_one_that_is_not_there_does_not_keep_back_what_became_of_the_others(shop: Path) -> None:
    first, last = started(2)
    done = cli("dlq", "redrive", first, "deadbeef", last, "-m", "shop.py:machine")
    assert done.exit_code == 1
    told = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert told.keys() == {first, "deadbeef", last}
    assert "no run 'deadbeef'" in told["deadbeef"]
    assert ("2 runs redriven; 1 refused" in done.stderr, told[last].endswith(" redriven")) == (True, True)
    assert [run["status"] for run in fields(cli("runs", "--json"))["runs"]] == ["ready", "ready"]


@pytest.mark.slow
def test_an_operator_settles_one_by_an_event_and_drops_another(shop: Path) -> None:
    first, second = started(2)
    moved = cli("dlq", "redrive", first, "-m", "shop.py:machine", "--event", "Settle", "--data", '{"note": "by hand"}')
    assert moved.exit_code == 0
    wrong = cli("dlq", "redrive", second, "-m", "shop.py:machine", "--event", "Bought")
    assert (wrong.exit_code, "it has settle" in wrong.stderr) == (2, True)
    assert cli("dlq", "drop", second, "--note", "sold out").exit_code == 0
    assert cli("dlq", "drop", second, "--note", "sold out").exit_code == 2
    assert "cancelled" in cli("show", second).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("redrive",), "say which"),
        (("redrive", "--all", "@last"), "say which"),
        (("redrive", "@last", "--yes"), "go with --all"),
        (("list", "--since", "soon"), "is no time"),
        (("list", "--since", "99999999999d"), "is no time"),
        (("redrive", "@last", "--event", "Settle", "--data", "["), "not JSON"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(shop: Path, words: tuple[str, ...], said: str) -> None:
    started()
    ended = cli("dlq", *words, *(("-m", "shop.py:machine") if words[0] == "redrive" else ()))
    assert (ended.exit_code, said in ended.stderr) == (2, True), ended.stderr
