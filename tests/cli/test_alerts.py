"""`statecraft alerts`: people see what was told, try a channel, and have something delivered again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from statecraft.store.outbox import Carried, Enable, Fetch, Missed, Tell, event_id
from tests.alerts.rig import outbox
from tests.cli.support import cli, fields, one_error

MODULE = """
from pathlib import Path
from statecraft import Data, Event, Failure, Machine, Run, Settings
from statecraft.alerts import Callback, NotDelivered

class Nothing(Data):
    pass

class Done(Event):
    pass

agent = Machine("agent", data=Nothing)

@agent.state(start=True)
async def work(run: Run[Nothing]) -> Done:
    return Done()

agent.transitions(work.on(Done) >> agent.final("done", ok=True), agent.anywhere.on(Failure) >> agent.final("failed"))

def refuse(alert):
    raise NotDelivered("nobody is there")

settings = Settings(channels=(
    Callback("ops", lambda alert: Path("got").write_text(alert.type + " " + alert.text)), Callback("broken", refuse),
))
"""


@pytest.fixture
def told(place: Path) -> list[str]:
    """A database with three alerts: one delivered, one given up, one that waits. Their ids."""
    (place / "ops.py").write_text(MODULE)
    events = [event_id("breaker.opened", number) for number in range(3)]

    async def story() -> None:
        async with outbox("sqlite:///statecraft.db") as store:
            for number, event in enumerate(events):
                await store.submit(Tell(event, "breaker.opened", number + 1, '{"dependency":"model:x"}'))
            await store.submit(Fetch("ops", 2, 9, 2))
            await store.submit(Carried("ops", events[0], 1, 3))
            await store.submit(Missed("ops", events[1], 1, None, "ops.example answered 410"))

    asyncio.run(story())
    return [event.hex() for event in events]


def test_the_list_says_what_became_of_each(told: list[str]) -> None:
    done = cli("alerts", "list")
    assert done.exit_code == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines[told[0]].endswith("delivered")
    assert lines[told[1]].endswith("given up: ops.example answered 410")
    assert lines[told[2]].endswith("waits")
    assert cli("alerts").stdout == done.stdout
    assert "statecraft alerts redeliver ALERT" in done.stderr


def test_only_what_was_given_up_is_listed_on_request(told: list[str]) -> None:
    (found,) = fields(cli("alerts", "list", "--failed", "--json"))["deliveries"]
    assert (found["id"], found["channel"], found["attempts"]) == (told[1], "ops", 1)


def test_an_alert_is_due_again_by_the_beginning_of_its_id(told: list[str]) -> None:
    done = cli("alerts", "redeliver", told[1][:8])
    assert (done.exit_code, done.stdout) == (0, "due again for 1 channel\n")
    assert fields(cli("alerts", "list", "--failed", "--json"))["deliveries"] == []
    assert cli("alerts", "redeliver", "zz").exit_code == 3
    nobody = cli("alerts", "redeliver", "0" * 32)
    assert nobody.exit_code == 3
    assert "no alert" in one_error(nobody)


def test_a_test_goes_through_the_channel_of_the_settings_and_enables_it_again(told: list[str], place: Path) -> None:
    async def disable() -> None:
        async with outbox("sqlite:///statecraft.db", kinds=()) as store:
            await store.submit(Enable("ops", 5, "it answered 410"))
            assert await store.next_delivery("ops") is None

    async def enabled() -> bool:
        async with outbox("sqlite:///statecraft.db", kinds=()) as store:
            return await store.next_delivery("ops") is not None

    asyncio.run(disable())
    done = cli("alerts", "test", "ops", "ops.py:agent")
    assert (done.exit_code, done.stdout) == (0, "delivered to ops\n")
    assert (place / "got").read_text() == "test a test of the channel ops"
    assert asyncio.run(enabled())


def test_a_test_that_fails_says_why(told: list[str]) -> None:
    done = cli("alerts", "test", "broken", "ops.py:agent")
    assert (done.exit_code, done.stdout) == (1, "not delivered to broken: nobody is there\n")
    unknown = cli("alerts", "test", "pager", "ops.py:agent")
    assert unknown.exit_code == 2
    assert "have no channel 'pager'; they have: ops, broken" in one_error(unknown)
    as_json = fields(cli("alerts", "test", "broken", "ops.py:agent", "--json"))
    assert (as_json["delivered"], as_json["error"]) == (False, "nobody is there")
