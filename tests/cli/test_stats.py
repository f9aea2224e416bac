from __future__ import annotations

import pytest

from tests.cli.support import cli, fields, start


def test_stats_shows_what_waits_for_a_person_and_where() -> None:
    start()
    done = cli("stats")
    assert done.exit_code == 0
    assert "1 run with a person" in done.stdout
    assert "letters" in done.stdout
    assert "reading" in done.stdout
    assert "nothing needs a person's look" in done.stdout


def test_stats_says_that_runs_are_due_and_nobody_works() -> None:
    cli("start", "post.py:letters", "--set", "to=Ann", "--detach")
    assert "1 run due, and no worker is alive" in cli("stats").stdout


def test_stats_with_json_gives_every_figure() -> None:
    start()
    found = fields(cli("stats", "--json"))["stats"]
    assert found["runs"] == {"ready": 0, "running": 0, "waiting": 1}
    assert (found["reviews"], found["dead"], found["breakers"]) == (1, {}, [])


def test_stats_for_prometheus_is_its_text_and_nothing_else() -> None:
    start()
    done = cli("stats", "--prometheus")
    assert done.stdout.startswith("# HELP statecraft_runs ")
    assert "\nstatecraft_reviews_waiting 1\n" in done.stdout
    assert done.stdout.endswith("\n")
    assert done.stderr == ""


def test_stats_takes_the_limits_of_tenants_from_a_machine() -> None:
    start()
    assert cli("stats", "-m", "post.py:letters").exit_code == 0
    assert cli("stats", "-m", "nowhere.py:letters").exit_code == 2


@pytest.mark.parametrize("pause", ["0", "5 days", "often"])
def test_stats_refuses_a_pause_it_cannot_read(pause: str) -> None:
    done = cli("stats", "--watch", pause)
    assert done.exit_code == 2
    assert "write it like 5s or 2min" in done.stderr


def test_stats_of_no_database_says_what_to_do() -> None:
    done = cli("stats", "--db", "none.db")
    assert done.exit_code == 2
    assert "there is no database at" in done.stderr
