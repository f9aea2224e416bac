"""Firing: each instant one run, whoever fires and whoever dies; what was missed; what overlaps; what cannot fire here."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from statecraft import Cron, Data, Every, Machine, Run, Runtime, Settings, days, hours, minutes
from statecraft.clock import stamp
from statecraft.errors import StoreUnavailable
from statecraft.store import port
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock
from tests.schedules.nightly import FAR, Done, Report, asking, day, fire, firing, instants, iso, opened, reports, rows, runs

SUNDAYS = Cron("0 3 * * 0", "Europe/Berlin")


async def no_matter(store: SqlStore, write: port.Write) -> None: ...


@pytest.mark.slow
def test_over_months_each_sunday_has_its_run_at_three_local_time_and_the_clock_changes_change_nothing(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(), reports()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(topic="wasps"), SUNDAYS, queue="night", priority=-3, tenant="ann")
            for _ in range(44):
                await clock.advance(days(7))
                await fire(rt)
            found = await instants(rt)
            assert len(found) == 44
            zone = ZoneInfo("Europe/Berlin")
            local = [day(1).fromisoformat(each).astimezone(zone) for each in found]
            assert {(each.hour, each.minute) for each in local} == {(3, 0)}
            assert all(later.date() - earlier.date() == days(7) for earlier, later in pairwise(local))
            assert {str(each.date()) for each in local} > {"2026-03-29", "2026-10-25"}
            run = (await runs(rt))[0]
            assert (run.machine, run.queue, run.priority, run.tenant) == ("reports", "night", -3, "ann")
            assert await rt.data(run.id) == Report(topic="wasps")

    asyncio.run(go())


@pytest.mark.slow
def test_the_worker_wakes_for_the_next_instant_by_itself_and_runs_what_it_started(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(), reports()
        async with Runtime(url, machines=[machine], settings=Settings(poll=FAR, lease=FAR), clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(6)))
            assert rt._worker.schedules is not None
            while rt._worker.schedules._look_at != stamp(day(1, 6)):
                await asyncio.sleep(0.001)
            while not await runs(rt):
                await clock.advance(minutes(10))
                await asyncio.sleep(0.002)
            (run,) = await runs(rt)
            assert run.key == f"schedule:nightly:{iso(day(1, 6))}"
            assert (await rt.wait(run.id)).status == "done"

    asyncio.run(go())


@pytest.mark.parametrize("take", ["own", "none"])
def test_a_runtime_that_does_not_take_what_others_started_fires_nothing(url: str, take: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(), reports()
        async with opened(url, machine, clock=clock, take=take) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(1)))
            await clock.advance(days(2))
            rt._worker.poke()
            assert await runs(rt) == []

    asyncio.run(go())
    assert Runtime(url, settings=Settings(take=take))._worker.schedules is None  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_runtimes_on_one_database_fire_each_instant_once(url: str) -> None:
    two_fire(url)


@pytest.mark.slow
def test_two_runtimes_on_postgresql_fire_each_instant_once(fleet_url: str) -> None:
    two_fire(fleet_url)


def two_fire(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(), reports()
        async with opened(url, machine, clock=clock) as one, opened(url, machine, clock=clock) as two:
            for rt in (one, two):
                await rt.schedule("nightly", machine, Report(), Every(hours(6)))
            for _ in range(20):
                await clock.advance(hours(6))
                await asyncio.gather(fire(one), fire(two))
            assert await instants(one) == [iso(day(1) + hours(6 * n)) for n in range(1, 21)]
            (schedule,) = await two.schedules()
            assert (schedule.last_at, schedule.next_at) == (day(6), day(6, 6))

    asyncio.run(go())


class Dead(Exception):
    """Stands for the end of a process at this point."""


@pytest.mark.parametrize("missed", ["latest", "all", "skip"])
@pytest.mark.parametrize("overlap", ["allow", "skip"])
def test_a_worker_that_dies_between_the_start_and_the_moving_on_leads_to_one_run(url: str, missed: Any, overlap: Any) -> None:
    async def dies(store: SqlStore, write: port.Write) -> None:
        if isinstance(write, port.Fired):
            raise Dead

    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock, before=dies) as first:
            await first.schedule("nightly", machine, Report(), Every(hours(24)), missed=missed, overlap=overlap)
            await clock.advance(hours(12))
            firing(first).look_again()
            await firing(first).fire()
            assert await instants(first) == [iso(day(2))]
            assert (await first.schedules())[0].last_at is None
        async with opened(url, machine, clock=clock) as second:
            await fire(second)
            assert await instants(second) == [iso(day(2))]
            (schedule,) = await second.schedules()
            assert (schedule.last_at, schedule.next_at) == (day(2), day(3))

    asyncio.run(go())


def test_a_worker_that_dies_before_the_start_leaves_the_instant_to_the_next(url: str) -> None:
    async def dies(store: SqlStore, write: port.Write) -> None:
        if isinstance(write, port.Start):
            raise Dead

    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock, before=dies) as first:
            await first.schedule("nightly", machine, Report(), Every(hours(24)))
            await clock.advance(hours(12))
            firing(first).look_again()
            await firing(first).fire()
            assert await runs(first) == []
        async with opened(url, machine, clock=clock) as second:
            await fire(second)
            assert await instants(second) == [iso(day(2))]

    asyncio.run(go())


@pytest.mark.slow
def test_a_worker_that_looked_long_ago_moves_nothing_back_and_starts_no_second_run(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            await clock.advance(hours(12))
            (seen,) = await rt._store.due_schedules(["reports"], clock.now())
            await clock.advance(days(3))
            await fire(rt)
            before, had = await rt.schedules(), await instants(rt)
            assert had == [iso(day(5))]
            await firing(rt)._fire(seen, day(2))
            assert await rt.schedules() == before
            await firing(rt)._fire(seen, day(2))
            assert await instants(rt) == [iso(day(2)), iso(day(5))]

    asyncio.run(go())


# --- what was missed ------------------------------------------------------------------------------------------------


def test_after_an_outage_the_latest_missed_instant_has_one_run(url: str) -> None:
    assert missed_after(url, days(10) + hours(2), "latest") == [iso(day(11))]


def test_after_an_outage_all_missed_instants_have_their_runs_if_asked_for(url: str) -> None:
    assert missed_after(url, days(10) + hours(2), "all") == [iso(day(1) + days(n)) for n in range(1, 11)]


@pytest.mark.slow
def test_of_very_many_missed_instants_the_newest_hundred_have_their_runs(url: str) -> None:
    found = missed_after(url, days(250) + hours(2), "all")
    assert found == [iso(day(1) + days(n)) for n in range(151, 251)]


def test_after_an_outage_nothing_is_made_up_for_if_asked_to_skip(url: str) -> None:
    assert missed_after(url, days(10) + hours(2), "skip") == []


def test_an_instant_seen_within_a_minute_was_not_missed(url: str) -> None:
    assert missed_after(url, days(10) + minutes(1), "skip") == [iso(day(11))]


def missed_after(url: str, outage: timedelta, missed: Any) -> list[str]:
    """The instants fired after nobody was there for so long; whatever was missed, the next instant fires as usual."""

    async def go() -> list[str]:
        clock, machine = ManualClock(day(1, 0, 1)), reports()
        async with opened(url, machine, clock=clock, take="none") as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)), missed=missed)
        await clock.advance(outage - minutes(1))
        async with opened(url, machine, clock=clock) as rt:
            await fire(rt)
            found = await instants(rt)
            (schedule,) = await rt.schedules()
            assert schedule.next_at is not None
            assert timedelta(0) < schedule.next_at - (day(1) + outage) < days(1)
            await clock.advance(schedule.next_at - (day(1) + outage))
            await fire(rt)
            assert await instants(rt) == [*found, iso(schedule.next_at)]
            return found

    return asyncio.run(go())


# --- overlap --------------------------------------------------------------------------------------------------------


def test_an_instant_is_left_out_while_the_last_run_is_open_if_asked_for(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), asking()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)), overlap="skip")
            for _ in range(4):
                await clock.advance(days(1))
                await fire(rt)
            assert await instants(rt) == [iso(day(2))]
            (schedule,) = await rt.schedules()
            assert (schedule.last_at, schedule.next_at) == (day(2), day(6))
            (run,) = await runs(rt)
            rt._worker.poke()
            await rt.wait(run.id)
            await rt.send(run.id, Done(), by="ann")
            await rt.wait(run.id)
            await clock.advance(days(1))
            await fire(rt)
            assert await instants(rt) == [iso(day(2)), iso(day(6))]

    asyncio.run(go())


def test_runs_overlap_unless_asked_otherwise(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), asking()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            for _ in range(3):
                await clock.advance(days(1))
                await fire(rt)
            assert len(await instants(rt)) == 3

    asyncio.run(go())


def test_missed_instants_that_would_overlap_have_one_run(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), asking()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)), missed="all", overlap="skip")
            await clock.advance(days(5))
            await fire(rt)
            assert await instants(rt) == [iso(day(2))]

    asyncio.run(go())


# --- what cannot fire here ------------------------------------------------------------------------------------------


def test_a_schedule_whose_machine_is_unknown_here_is_left_to_others_who_fire_it_later(url: str) -> None:
    async def go() -> None:
        clock, mine, theirs = ManualClock(day(1, 12)), reports(), reports("theirs")
        async with opened(url, theirs, clock=clock, take="none") as rt:
            await rt.schedule("nightly", theirs, Report(), Every(hours(24)))
        await clock.advance(days(1))
        async with opened(url, mine, clock=clock) as rt:
            await fire(rt)
            assert await runs(rt) == []
            assert (await rt.schedules())[0].next_at == day(2)
        async with opened(url, theirs, clock=clock) as rt:
            await fire(rt)
            assert await instants(rt) == [iso(day(2))]

    asyncio.run(go())


class Other(Data):
    number: int


def renamed() -> Machine[Other]:
    """The machine `reports`, whose data is another by now."""
    machine = Machine("reports", data=Other)

    @machine.state(start=True)
    async def writing(run: Run[Other]) -> Done:
        return Done()

    machine.transitions(writing.on(Done) >> machine.final("done", ok=True))
    return machine


def test_an_input_that_the_machine_of_today_does_not_take_is_left_to_others_said_once_and_keeps_nobody_up(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        clock, old, new = ManualClock(day(1, 12)), reports(), renamed()
        async with opened(url, old, clock=clock, take="none") as rt:
            await rt.schedule("a-stuck", old, Report(), Every(hours(24)))
        await clock.advance(days(1))
        async with opened(url, new, clock=clock, poll=hours(1)) as rt:
            await rt.schedule("nightly", new, Other(number=3), Every(minutes(1)))
            for _ in range(3):
                await clock.advance(minutes(1))
                firing(rt).look_again()
                await firing(rt).fire()
            firing(rt).look_again()
            assert await firing(rt).fire() == 3600
            assert len(await instants(rt)) == 3
            assert [record.message for record in caplog.records].count("schedule.failed") == 1

    with caplog.at_level(logging.WARNING, "statecraft"):
        asyncio.run(go())


def test_a_rule_that_only_a_newer_statecraft_knows_is_left_to_it(url: str) -> None:
    async def go() -> None:
        clock, machine = ManualClock(day(1, 12)), reports()
        async with opened(url, machine, clock=clock) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            put = port.PutSchedule("nightly", "reports", json.dumps({"moon": "full"}), 5, "{}", "q", 0, None, "all", "skip", 6)
            assert await rt._store.submit(put) == "replaced"
            await clock.advance(days(5))
            await fire_once(rt)
            assert await runs(rt) == []

    asyncio.run(go())


async def fire_once(rt: Runtime) -> float:
    firing(rt).look_again()
    return await firing(rt).fire()


def test_a_store_that_is_away_for_a_moment_is_looked_at_again_and_nothing_is_lost(url: str) -> None:
    async def go() -> None:
        clock, machine, away = ManualClock(day(1, 12)), reports(), True

        async def fails(store: SqlStore, write: port.Write) -> None:
            if away and isinstance(write, port.Start | port.Fired):
                raise StoreUnavailable("gone for a moment")

        async with opened(url, machine, clock=clock, before=fails, poll=hours(1)) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            await clock.advance(days(1))
            assert await fire_once(rt) == 3600
            away = False
            await clock.advance(hours(1))
            assert await firing(rt).fire() == 0
            assert await instants(rt) == [iso(day(2))]

    asyncio.run(go())


def test_between_instants_a_look_costs_at_most_one_read_for_each_polling_interval(url: str) -> None:
    async def go() -> None:
        clock, machine, reads = ManualClock(day(1)), reports(), 0
        async with opened(url, machine, clock=clock, poll=minutes(10)) as rt:
            await rt.schedule("nightly", machine, Report(), Every(hours(24)))
            asked: Callable[..., Any] = rt._store.next_schedule

            async def counted(machines: Any) -> int | None:
                nonlocal reads
                reads += 1
                return await asked(machines)  # type: ignore[no-any-return]

            rt._store.next_schedule = counted  # type: ignore[method-assign]
            firing(rt).look_again()
            for _ in range(600):
                await firing(rt).fire()
                await clock.advance(timedelta(seconds=10))
            assert 9 <= reads <= 11

    asyncio.run(go())


def test_the_looking_is_done_by_the_index(url: str) -> None:
    async def go() -> None:
        async with opened(url, reports()):
            pass

    asyncio.run(go())
    query = (
        "EXPLAIN QUERY PLAN SELECT next_at FROM schedules WHERE next_at IS NOT NULL AND machine IN ('a') ORDER BY next_at LIMIT 1"
    )
    assert "ix_schedules_next" in str(rows(url, query))


def test_the_default_settings_fire() -> None:
    assert Runtime("sqlite://", settings=Settings())._worker.schedules is not None


def test_scheduled_runs_have_the_share_of_their_tenant_in_the_queue(url: str) -> None:
    async def story() -> None:
        machine, clock = reports(), ManualClock()
        async with opened(url, machine, clock=clock, shares={"big": 4.0}, concurrency=1) as rt:
            for tenant in ("big", "small"):
                await rt.schedule(tenant, machine, Report(), Every(hours(1)), tenant=tenant, missed="all")
            await clock.advance(hours(8))
            await fire(rt)
        turns = dict[str, list[int]]()
        for tenant, turn in rows(url, "SELECT tenant, turn FROM runs ORDER BY turn"):
            turns.setdefault(tenant, []).append(turn)
        assert {tenant: len(found) for tenant, found in turns.items()} == {"big": 8, "small": 8}
        steps = {tenant: found[-1] - found[-2] for tenant, found in turns.items()}
        assert steps == {"big": 250_000, "small": 1_000_000}

    asyncio.run(story())
