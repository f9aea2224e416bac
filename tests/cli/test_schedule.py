"""`statecraft schedule`, as people and scripts use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import cli, fields, one_error

ADD = ("schedule", "add", "nightly", "post.py:letters", "--set", "to=Ann")


@pytest.mark.slow
def test_a_schedule_is_added_listed_shown_paused_resumed_and_removed() -> None:
    added = cli(*ADD, "--cron", "0 3 * * *", "--zone", "Europe/Berlin", "--queue", "night", "--priority", "2")
    assert added.exit_code == 0, added.stderr
    assert "created: schedule nightly" in added.stderr
    listed = cli("schedule", "list").stdout
    assert "nightly" in listed
    assert "0 3 * * * (Europe/Berlin)" in listed
    assert cli("schedule").stdout == listed
    shown = fields(cli("schedule", "show", "nightly", "--json"))["schedule"]
    assert shown["rule"] == {"cron": "0 3 * * *", "zone": "Europe/Berlin"}
    assert shown["input"]["to"] == "Ann"
    assert (shown["queue"], shown["priority"], shown["machine"]) == ("night", 2, "letters")
    assert "paused" in cli("schedule", "pause", "nightly").stdout
    assert fields(cli("schedule", "list", "--json"))["schedules"][0]["next_at"] is None
    assert fields(cli("schedule", "resume", "nightly", "--json"))["schedule"]["next_at"] == shown["next_at"]
    assert cli("schedule", "remove", "nightly").exit_code == 0
    assert cli("schedule", "list").stdout == ""


def test_the_next_instants_are_told() -> None:
    assert cli(*ADD, "--every", "1h30m", "--anchor", "2100-01-01T00:00:00Z").exit_code == 0
    done = cli("schedule", "next", "nightly", "-n", "2")
    assert done.stdout.split() == ["2100-01-01T00:00:00.000Z", "2100-01-01T01:30:00.000Z"]
    assert len(fields(cli("schedule", "next", "nightly", "--json"))["next"]) == 5


def test_adding_again_says_what_it_did() -> None:
    assert "created" in cli(*ADD, "--every", "2d").stderr
    assert "unchanged" in cli(*ADD, "--every", "48h").stderr
    assert "replaced" in cli(*ADD, "--every", "1d").stderr


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--cron", "0 25 * * *"), "bad hour"),
        (("--cron", "0 5 * * *", "--zone", "Mars"), "not a time zone"),
        ((), "give --cron or --every"),
        (("--cron", "0 5 * * *", "--every", "1h"), "give --cron or --every"),
        (("--cron", "0 5 * * *", "--anchor", "2026-01-01"), "--anchor goes with --every"),
        (("--every", "1h", "--zone", "UTC"), "--zone goes with --cron"),
        (("--every", "soon"), "is not an interval"),
        (("--every", "0s"), "whole seconds"),
        (("--every", "999999999d"), "whole seconds"),
        (("--every", "1h", "--anchor", "noon"), "not an ISO 8601 instant"),
        (("--every", "1h", "--anchor", "2026-01-01"), "with a time zone"),
        (("--every", "1h", "--set", "copies=many"), "does not validate"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_makes_no_database(place: Path, words: tuple[str, ...], wrong: str) -> None:
    done = cli(*ADD, *words)
    assert done.exit_code == 2
    assert wrong in one_error(done)
    assert not (place / "statecraft.db").exists()


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "remove", "next"])
def test_a_schedule_that_is_not_there_is_not_found(verb: str) -> None:
    assert cli(*ADD, "--every", "1h").exit_code == 0
    done = cli("schedule", verb, "weekly")
    assert done.exit_code == 3
    assert "there is no schedule 'weekly'" in one_error(done)
