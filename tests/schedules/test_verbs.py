"""Putting schedules down, holding them, taking them away; and that nothing is written when something is wrong."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from statecraft import Cron, Every, days, hours, minutes
from statecraft.errors import ConfigError, InvalidPayload, NotFound
from statecraft.store import port
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock
from tests.schedules.nightly import Report, day, fire, instants, iso, opened, reports
from tests.schedules.test_firing import Other


def test_putting_the_same_again_changes_nothing_and_another_definition_replaces_it(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock) as rt:
            first = await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            assert (first.outcome, first.next_at, first.updated_at) == ("created", day(2), day(1, 12))
            await clock.advance(hours(13))
            again = await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            assert (again.outcome, again.next_at, again.updated_at) == ("unchanged", day(2), day(1, 12))
            other = await rt.schedule("nightly", machine, Report(topic="ants"), Every(hours(24)))
            assert (other.outcome, other.next_at, other.updated_at) == ("replaced", day(2), day(2, 1))
            assert (other.input, other.created_at, other.rule) == ({"topic": "ants"}, day(1, 12), first.rule)
            rule = await rt.schedule("nightly", machine, Report(topic="ants"), Every(hours(2)))
            assert (rule.outcome, rule.next_at) == ("replaced", day(2, 2))
            assert [each.name for each in await rt.schedules()] == ["nightly"]

    asyncio.run(go())


def test_a_due_instant_survives_a_new_input_but_not_a_new_rule(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock, take="none") as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            await clock.advance(days(1))
            await rt.schedule("nightly", machine, Report(topic="ants"), Every(hours(24)))
        async with opened(url, machine, clock=clock) as rt:
            await fire(rt)
            assert await instants(rt) == [iso(day(2))]
            await clock.advance(days(1))
            await rt.schedule("nightly", machine, Report(), Every(hours(5)))
            await fire(rt)
            assert await instants(rt) == [iso(day(2))]

    asyncio.run(go())


def test_a_paused_schedule_fires_nothing_and_what_passed_meanwhile_was_not_missed(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)), missed="all")
            paused = await rt.pause_schedule("nightly")
            assert (paused.paused_at, paused.next_at) == (day(1, 12), None)
            await clock.advance(days(5))
            assert (await rt.pause_schedule("nightly")).paused_at == day(1, 12)
            await fire(rt)
            assert await instants(rt) == []
            resumed = await rt.resume_schedule("nightly")
            assert (resumed.paused_at, resumed.next_at) == (None, day(7))
            assert await rt.resume_schedule("nightly") == resumed
            await clock.advance(days(1))
            await fire(rt)
            assert await instants(rt) == [iso(day(7))]

    asyncio.run(go())


def test_a_schedule_put_while_it_is_paused_stays_paused_and_fires_by_its_new_rule_when_resumed(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            await rt.pause_schedule("nightly")
            assert (await rt.schedule("nightly", machine, Report(), Every(hours(24)))).outcome == "unchanged"
            put = await rt.schedule("nightly", machine, Report(), Every(hours(8)))
            assert (put.outcome, put.paused_at, put.next_at) == ("replaced", day(1, 12), None)
            await clock.advance(days(2))
            await fire(rt)
            assert await instants(rt) == []
            assert (await rt.resume_schedule("nightly")).next_at == day(3, 16)

    asyncio.run(go())


def test_a_schedule_taken_away_fires_no_more_and_put_again_never_fires_a_second_time_what_it_fired(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            await clock.advance(hours(12))
            await fire(rt)
            await rt.unschedule("nightly")
            assert await rt.schedules() == []
            await clock.advance(days(1))
            await fire(rt)
            assert await instants(rt) == [iso(day(2))]
            put = port.PutSchedule("nightly", "reports", *await stored(rt), 0, None, "latest", "allow", clock.now())
            assert await rt._store.submit(put) == "created"
            await fire(rt)
            assert await instants(rt) == [iso(day(2)), iso(day(3))]

    async def stored(rt: Any) -> tuple[str, int, str, str]:
        from statecraft.clock import stamp

        return '{"anchor":"1970-01-01T00:00:00Z","every":86400}', stamp(day(2)), "{}", "default"

    asyncio.run(go())


def test_a_schedule_replaced_between_looking_and_moving_on_keeps_its_own_next_instant(url: str) -> None:
    async def go() -> None:
        clock, machine, swapped = ManualClock(day(1, 12)), reports(), False

        async def swaps(store: SqlStore, write: port.Write) -> None:
            nonlocal swapped
            if isinstance(write, port.Fired) and not swapped:
                swapped = True
                await rt.schedule("nightly", machine, Report(), Every(hours(36), day(2)))

        async with opened(url, machine, clock=clock, before=swaps) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            await clock.advance(hours(12))
            await fire(rt)
            (schedule,) = await rt.schedules()
            assert (schedule.next_at, schedule.last_at) == (day(3, 12), None)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"name": ""}, "a schedule's name is 1 to 100"),
        ({"name": "a b"}, "a schedule's name is 1 to 100"),
        ({"name": "x" * 101}, "a schedule's name is 1 to 100"),
        ({"name": "a:2026"}, "a schedule's name is 1 to 100"),
        ({"rule": timedelta(hours=1)}, "is a Cron or an Every"),
        ({"queue": ""}, "the queue and the tenant"),
        ({"tenant": ""}, "the queue and the tenant"),
        ({"missed": "some"}, "missed is one of latest, all, skip, not 'some'"),
        ({"overlap": "no"}, "overlap is one of allow, skip, not 'no'"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_and_nothing_is_written(url: str, change: dict[str, Any], wrong: str) -> None:
    given: dict[str, Any] = {"name": "nightly", "rule": Every(hours(1)), **change}

    async def go() -> None:
        machine = reports()
        async with opened(url, machine) as rt:
            with pytest.raises(ConfigError, match=wrong):
                await rt.schedule(given.pop("name"), machine, Report(), given.pop("rule"), **given)
            assert await rt.schedules() == []

    asyncio.run(go())


def test_a_bad_expression_is_refused_before_anything_is_written(url: str) -> None:
    async def go() -> None:
        machine = reports()
        async with opened(url, machine) as rt:
            with pytest.raises(ConfigError, match=r"'0 25 [*] [*] [*]' is not a cron expression: bad hour"):
                await rt.schedule("nightly", machine, Report(), Cron("0 25 * * *"))
            assert await rt.schedules() == []

    asyncio.run(go())


def test_data_of_another_machine_is_refused(url: str) -> None:
    async def go() -> None:
        machine: Any = reports()
        async with opened(url, machine) as rt:
            with pytest.raises(InvalidPayload, match="reports is started with Report, not Other"):
                await rt.schedule("nightly", machine, Other(number=1), Every(minutes(5)))
            assert await rt.schedules() == []

    asyncio.run(go())


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pause_schedule", "resume_schedule", "unschedule", "get_schedule"])
def test_what_is_not_there_is_not_found(url: str, verb: str) -> None:
    async def go() -> None:
        async with opened(url, reports()) as rt:
            with pytest.raises(NotFound, match="there is no schedule 'nightly'"):
                await getattr(rt, verb)("nightly")

    asyncio.run(go())


def test_many_who_put_the_same_schedule_at_once_make_one(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock) as one, opened(url, machine, clock=clock) as two:
            both = [rt.schedule("nightly", machine, Report(), Every(hours(1))) for rt in (one, two) for _ in range(5)]
            outcomes = [record.outcome for record in await asyncio.gather(*both)]
            assert sorted(outcomes) == ["created", *["unchanged"] * 9]
            assert len(await one.schedules()) == 1

    asyncio.run(go())
