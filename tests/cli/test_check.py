"""`statecraft check TARGET`: findings first, then what is certain, on one screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import MACHINE, cli, fields, one_error

BOUNDED = (
    MACHINE.replace("    reading.on(Modified) >> reading,\n", "    reading.on(Modified) >> sent,\n")
    .replace("max_steps=20)", "max_steps=20, budget=Budget(calls=10))")
    .replace("import Ask,", "import Ask, Budget, never,")
)
PROPERTY = "    letters.anywhere.on(Failure) >> thrown_away,\n    properties=[never(sent, before=FIRST)],\n"
STATED = BOUNDED.replace("    letters.anywhere.on(Failure) >> thrown_away,\n", PROPERTY)


@pytest.fixture(autouse=True)
def _files(place: Path) -> None:
    (place / "bounded.py").write_text(BOUNDED)
    (place / "holds.py").write_text(STATED.replace("FIRST", "(Approved, Modified)"))
    (place / "bypassed.py").write_text(STATED.replace("FIRST", "Approved"))
    (place / "broken.py").write_text("1 / 0\n")


def test_a_sound_machine_is_told_in_a_few_lines() -> None:
    done = cli("check", "holds.py:letters")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "letters is sound: 0 errors, 0 warnings; 4 states, 6 rows",
        "  ends   every run ends, with move 2 at the latest (max_steps=20)",
        "  holds  never(sent, before=(Approved, Modified))",
        "  worst  at most 2 steps, 10 calls",
        "         nothing bounds tokens, money, wall: declare per_visit= or budget=,",
        "         timeout=",
        "         most calls: writing -(written)-> reading -(approved)-> sent",
        "         the budget of 10 calls may be met: budget_exhausted -> thrown_away",
    ]


def test_a_property_that_does_not_hold_is_told_with_its_path_and_exit_code_1() -> None:
    done = cli("check", "bypassed.py:letters")
    assert done.exit_code == 1
    told = " ".join(done.stdout.split())
    assert "SC130 error sent never(sent, before=Approved) does not hold." in told
    assert "writing -(written)-> reading -(modified)-> sent: enters sent without Approved" in told
    assert "letters is not sound: 1 error, 0 warnings" in told


def test_warnings_fail_only_where_they_are_to_count() -> None:
    warned = cli("check", "post.py")
    assert warned.exit_code == 0
    assert "SC120 warning reading" in warned.stdout
    assert "SC123 warning letters" in warned.stdout
    assert "the table alone lets a run go on (SC120): max_steps=20 stops it" in warned.stdout
    assert cli("check", "--strict", "post.py").exit_code == 1
    assert cli("check", "--strict", "holds.py").exit_code == 0


def test_a_run_that_max_steps_may_leave_dead_is_not_told_to_end(place: Path) -> None:
    text = BOUNDED.replace("letters.anywhere.on(Failure)", "reading.on(ReviewExpired)").replace("Failure,", "ReviewExpired,")
    (place / "fragile.py").write_text(text.replace("max_steps=20", "max_steps=1"))
    told = " ".join(cli("check", "fragile.py").stdout.split())
    assert "max_steps=1 stops it; in writing, reading no row takes that, and the run is dead" in told


def test_several_targets_are_told_one_after_the_other_and_each_once(place: Path) -> None:
    (place / "both.py").write_text("from holds import letters\nfrom post import letters as posted\nagain = letters\n")
    done = cli("check", "both.py", "bounded.py:letters")
    assert [line for line in done.stdout.splitlines() if " is " in line and line.startswith("letters")] == [
        "letters is sound: 0 errors, 0 warnings; 4 states, 6 rows",
        "letters is sound: 0 errors, 2 warnings; 4 states, 6 rows",
        "letters is sound: 0 errors, 0 warnings; 4 states, 6 rows",
    ]


def test_what_cannot_be_loaded_is_told_in_one_line_and_the_others_are_checked_all_the_same() -> None:
    alone = cli("check", "broken.py")
    assert alone.exit_code == 2
    assert "importing broken.py failed with ZeroDivisionError" in one_error(alone)
    done = cli("check", "broken.py", "nowhere.py:x", "bypassed.py", "holds.py")
    assert done.exit_code == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "error"]
    assert "not sound" in done.stdout
    assert "is sound" in done.stdout
    assert "Traceback" not in done.output


def test_a_file_of_a_package_is_checked_under_its_full_name(place: Path) -> None:
    package = place / "agency" / "agents"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "words.py").write_text("NAME = 'letters'\n")
    (package / "post.py").write_text(
        BOUNDED.replace('Machine("letters"', "Machine(NAME").replace(
            "from statecraft import", "from .words import NAME\nfrom statecraft import"
        )
    )
    done = cli("check", "agency/agents/post.py")
    assert done.exit_code == 0, done.stderr
    assert "letters is sound" in done.stdout


def test_json_has_an_object_for_each_machine() -> None:
    one = fields(cli("check", "holds.py", "--json"))
    assert one["sound"] is True
    assert one["properties"] == ["never(sent, before=(Approved, Modified))"]
    assert one["worst"]["calls"]["value"] == 10
    assert one["machines"][0]["ends"].startswith("every run ends, with move 2")
    done = cli("check", "holds.py", "bypassed.py", "--json")
    both = fields(done)
    assert done.exit_code == 1
    assert [machine["sound"] for machine in both["machines"]] == [True, False]
    assert both["sound"] is False
    assert both["machines"][1]["findings"][0]["code"] == "SC130"


@pytest.mark.parametrize("target", ["research", "support", "extract", "machines.drafting"])
def test_the_shipped_machines_are_sound_without_a_warning_and_fit_on_one_screen(target: str) -> None:
    done = cli("check", "--strict", target)
    assert done.exit_code == 0, done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24 * done.stdout.count(" is sound")


def test_a_check_leaves_the_machine_as_it_was() -> None:
    from statecraft.cli.check import report_of
    from statecraft.cli.target import load_target

    machine = load_target("holds.py:letters").machine
    before = machine.definition
    assert report_of(machine) == report_of(machine)
    assert machine.definition is before
