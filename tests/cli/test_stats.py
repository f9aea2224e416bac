from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click
import pytest

from statecraft import Runtime, Settings
from statecraft.cli.alarms import alarms
from statecraft.cli.stats import lines_of
from statecraft.stats import Stats, WorkerBeat
from tests.cli.support import cli, fields, start


def test_stats_shows_what_waits_for_a_person_and_where() -> None:
    start()
    done = cli("stats")
    assert done.exit_code == 0
    assert "1 run with a person" in done.stdout
    assert "letters" in done.stdout
    assert "reading" in done.stdout
    assert done.stdout.splitlines()[0].startswith("? 1 run waits for a person, the first for ")


def test_stats_of_an_empty_fleet_is_calm() -> None:
    cli("start", "post.py:letters", "--set", "to=Ann", "--in", "3d", "--detach")
    assert cli("stats").stdout.startswith("nothing needs a person's look\n")


def _beating(**which: Any) -> WorkerBeat:
    now = datetime.now(UTC)
    facts: dict[str, Any] = {"queues": ("default",), "machines": ("letters",), **which}
    return WorkerBeat("host/1", "alive", now, 0, 8, 0, 0, 0, **facts)


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        (_beating(), ""),
        (_beating(queues=("mail",)), "1 run due in queue default, and no living worker takes from it"),
        (_beating(machines=("orders",)), "1 run of letters ready, and no living worker has this machine"),
        (_beating(machines=()), "1 run due, and no worker is alive"),
    ],
)
def test_stats_says_which_runs_nobody_takes(worker: WorkerBeat, said: str) -> None:
    cli("start", "post.py:letters", "--set", "to=Ann", "--detach")

    async def look() -> Stats:
        async with Runtime("sqlite:///statecraft.db", settings=Settings(take="none")) as rt:
            return await rt.stats()

    lines = [click.unstyle(line) for line in alarms(replace(asyncio.run(look()), workers=(worker,)))]
    assert lines == ([f"! {said}"] if said else ["nothing needs a person's look"])


def test_stats_shows_all_who_live_or_are_lost_and_few_of_those_who_stopped() -> None:
    start()

    async def look() -> Stats:
        async with Runtime("sqlite:///statecraft.db", settings=Settings(take="none")) as rt:
            return await rt.stats()

    gone = [replace(_beating(), owner=f"gone/{number}", state="stopped") for number in range(30)]
    lost = replace(_beating(), owner="lost/1", state="lost")
    (place,) = (found := asyncio.run(look())).places
    places = tuple(replace(place, machine=f"machine {number}") for number in range(40))
    lines = [click.unstyle(line) for line in lines_of(replace(found, workers=(*gone, lost, _beating()), places=places))]
    assert [line.split()[0] for line in lines if "/8 " in line] == ["lost/1", "host/1", *(f"gone/{n}" for n in range(5))]
    assert "and 25 more that stopped; --json has all" in lines
    assert "and 25 more; --json has all" in lines


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


@pytest.mark.parametrize(
    ("pause", "said"),
    [
        ("0", "write it like 5s or 2min"),
        ("5 days", "is no length of time; write 10s"),
        ("often", "is no length of time; write 10s"),
        ("9999999999h", "is too long"),
    ],
)
def test_stats_refuses_a_pause_it_cannot_read(pause: str, said: str) -> None:
    done = cli("stats", "--watch", pause)
    assert done.exit_code == 2
    assert said in done.stderr


def test_stats_of_no_database_says_what_to_do() -> None:
    done = cli("stats", "--db", "none.db")
    assert done.exit_code == 2
    assert "there is no database at" in done.stderr
