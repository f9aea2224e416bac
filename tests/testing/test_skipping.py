"""Days pass in milliseconds, and no run notices that nobody waited."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from statecraft import (
    Ask,
    Data,
    Event,
    Failure,
    Machine,
    ReviewExpired,
    Run,
    RunRecord,
    Runtime,
    Settings,
    Status,
    days,
    hours,
    minutes,
    seconds,
)
from statecraft.clock import instant
from statecraft.schedules.rule import Every
from statecraft.testing import SkippingClock, path_of, run_async
from statecraft.testing.clock import START
from tests.testing.letters import Approved, Letter, letters


class Note(Data):
    said: str = ""


class Said(Event):
    said: str


Played = tuple[RunRecord, timedelta, int]


def play(url: str, letter: Letter, settings: Settings | None = None, state: str | None = None) -> Played:
    """A letter, skipped to its end or to a state: its run, how long it took, how many leases were lost."""

    async def go() -> Played:
        clock = SkippingClock()
        async with Runtime(url, machines=[letters], clock=clock, settings=settings) as rt:
            run = await rt.start(letters, letter)
            run = await clock.skip_until(rt, run.id, state=state)
            return run, instant(clock.now()) - START, rt.counts.get("lost", 0)

    return run_async(go())


def test_a_review_of_three_days_expires_at_once(url: str) -> None:
    run, took, lost = play(url, Letter())
    assert (run.state, took, lost) == ("lost", days(3), 0)


def test_it_stops_where_it_is_told_to(url: str) -> None:
    run, took, _ = play(url, Letter(pauses=[3600.0]), state="asking")
    assert (run.state, run.status, took) == ("asking", Status.WAITING, hours(2))


@pytest.mark.slow
def test_pauses_in_hand_pass_without_outrunning_a_lease(url: str) -> None:
    """Each pause is too short to park for, and together they are much longer than the lease."""
    settings = Settings(lease=seconds(3))
    run, took, lost = play(url, Letter(pauses=[4.0] * 4), settings, state="asking")
    assert (run.state, took, lost) == ("asking", seconds(32), 0)
    assert run.epoch == 1


@pytest.mark.slow
def test_time_stands_still_while_a_handler_is_at_work(url: str) -> None:
    entered, go_on = threading.Event(), threading.Event()
    machine = Machine("slow", data=Note, max_steps=3)

    @machine.state(start=True)
    def working(run: Run[Note]) -> Said:
        entered.set()
        assert go_on.wait(60)
        return Said(said="done")

    machine.transitions(working.on(Said) >> machine.final("done", ok=True))

    async def go() -> None:
        clock = SkippingClock()
        async with Runtime(url, machines=[machine, letters], clock=clock) as rt:
            parked = await rt.start(letters, Letter(pauses=[3600.0]))
            slow = await rt.start(machine, Note())
            skipping = asyncio.ensure_future(clock.skip_until(rt, parked.id, state="asking"))
            while not entered.is_set() or (await rt.get(parked.id)).status is not Status.WAITING:
                await rt.get(slow.id)
            for _ in range(20):  # as many chances to run ahead
                await rt.get(slow.id)
            assert instant(clock.now()) == START
            go_on.set()
            await skipping
            assert (await rt.get(slow.id)).updated_at == START
            assert rt.counts.get("lost", 0) == 0

    run_async(go())


@pytest.mark.slow
def test_a_parent_waits_for_its_child_and_both_for_no_time_at_all(url: str) -> None:
    machine = Machine("parent", data=Note, max_steps=3)

    @machine.state(start=True, children=[letters])
    async def nesting(run: Run[Note]) -> Said:
        child = await run.child(letters, Letter(), ok_only=False)
        return Said(said=child.state)

    machine.transitions(nesting.on(Said) >> machine.final("done", ok=True))

    async def go() -> tuple[str, timedelta]:
        clock = SkippingClock()
        async with Runtime(url, machines=[machine], clock=clock) as rt:
            run = await clock.skip_until(rt, (await rt.start(machine, Note())).id)
            return (await rt.data(run.id, Note)).said, instant(clock.now()) - START

    assert run_async(go()) == ("lost", days(3))


@pytest.mark.slow
def test_schedules_fire_at_each_of_their_instants(url: str) -> None:
    async def go() -> list[datetime]:
        clock = SkippingClock()
        async with Runtime(url, machines=[letters], clock=clock) as rt:
            await rt.schedule("hourly", letters, Letter(enough=1), Every(hours(1)))
            for _ in range(3):
                assert await clock.skip(rt) is not None
                await rt.idle()
            return sorted(run.created_at for run in await rt.runs())

    assert run_async(go()) == [START + hours(n) for n in (1, 2, 3)]


def test_with_nothing_due_time_stands_still(url: str) -> None:
    async def go() -> None:
        clock = SkippingClock()
        async with Runtime(url, machines=[letters], clock=clock) as rt:
            assert await clock.skip(rt) is None
            assert clock.now() == SkippingClock().now()

    run_async(go())


def test_the_lease_of_a_holder_that_is_gone_is_waited_out(url: str) -> None:
    """A runtime that was given up without a word: here, one that is not told of time and looks for nothing."""

    async def go() -> None:
        clock = SkippingClock()
        stuck = asyncio.Event()
        machine = Machine("held", data=Note, max_steps=3)

        @machine.state(start=True)
        async def holding(run: Run[Note]) -> Said:
            if not stuck.is_set():
                stuck.set()
                await asyncio.get_running_loop().create_future()
            return Said(said="done")

        machine.transitions(holding.on(Said) >> machine.final("done", ok=True))
        asleep = SkippingClock()
        async with Runtime(url, machines=[machine], clock=asleep) as first:
            run = await first.start(machine, Note())
            await stuck.wait()
            async with Runtime(url, machines=[machine], clock=clock) as second:
                ended = await clock.skip_until(second, run.id)
                assert (ended.state, ended.epoch) == ("done", 2)
                assert instant(clock.now()) - START == second.settings.lease

    run_async(go())


@pytest.mark.slow
def test_two_runtimes_of_one_clock_are_both_waited_for(url: str) -> None:
    async def go() -> None:
        clock = SkippingClock()
        own = Settings(take="own")
        async with (
            Runtime(url, machines=[letters], clock=clock, settings=own) as one,
            Runtime(url, machines=[letters], clock=clock, settings=own) as two,
        ):
            first = await one.start(letters, Letter(pauses=[4.0] * 20))
            second = await two.start(letters, Letter(pauses=[60.0]))
            for rt, other, run in ((one, two, first), (two, one, second)):
                ended = await clock.skip_until(rt, run.id, beside=[other])
                assert path_of(await rt.history(run.id)) == "trying -> ... -> asking -(review_expired)-> lost"
                assert ended.epoch <= 5
            assert one.counts.get("lost", 0) + two.counts.get("lost", 0) == 0

    run_async(go())


# --- what no time will bring --------------------------------------------------------------------------------------------


@pytest.fixture
def patient() -> Machine[Note]:
    """A review without a timeout."""
    machine = Machine("patient", data=Note, max_steps=3)

    @machine.state(start=True)
    async def writing(run: Run[Note]) -> Said:
        return Said(said="x")

    @machine.review(timeout=days(500))
    async def asking(run: Run[Note]) -> Ask[Approved]:
        return Ask("?")

    sent = machine.final("sent", ok=True)
    machine.transitions(writing.on(Said) >> asking, asking.on(Approved) >> sent, machine.anywhere.on(ReviewExpired) >> sent)
    return machine


def test_a_wait_beyond_the_bound_is_said_and_not_skipped(url: str, patient: Machine[Note]) -> None:
    async def go() -> None:
        clock = SkippingClock()
        async with Runtime(url, machines=[patient], clock=clock) as rt:
            run = await rt.start(patient, Note())
            with pytest.raises(AssertionError, match=r"is waiting in asking for its review .* due next, at 2027-05-16"):
                await clock.skip_until(rt, run.id)
            assert instant(clock.now()) == START

    run_async(go())


def test_a_run_that_ended_elsewhere_is_said(url: str) -> None:
    with pytest.raises(AssertionError, match="is failed in lost; it has not come to sent"):
        play(url, Letter(), state="sent")


@pytest.mark.slow
def test_a_handler_that_takes_too_long_is_named_with_its_place(url: str) -> None:
    machine = Machine("hanging", data=Note, max_steps=3)
    entered = asyncio.Event()

    @machine.state(start=True, timeout=minutes(2))
    async def hanging(run: Run[Note]) -> Said:
        entered.set()
        await asyncio.get_running_loop().create_future()
        return Said(said="never")

    machine.transitions(hanging.on(Said) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> machine.final("bad"))

    async def go() -> None:
        clock = SkippingClock(patience=0.05)
        async with Runtime(url, machines=[machine], clock=clock) as rt:
            run = await rt.start(machine, Note())
            await entered.wait()
            with pytest.raises(AssertionError, match=rf"still in hand: {run.id} of hanging in hanging") as failed:
                await clock.skip_until(rt, run.id)
            assert "test_skipping.py" in str(failed.value)
            assert instant(clock.now()) == START

    run_async(go())


def test_a_test_that_hangs_says_where() -> None:
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError, match=r"did not end within 0.05 seconds(?s:.*)test_skipping.py:\d+ in hang: await"):
        run_async(hang(), limit=0.05)


def test_a_leap_wakes_each_sleeper_once_after_all_of_it() -> None:
    async def go() -> list[tuple[float, datetime]]:
        clock = SkippingClock()
        woken: list[tuple[float, datetime]] = []

        async def sleeper(pause: float) -> None:
            await clock.sleep(pause)
            woken.append((pause, instant(clock.now())))

        tasks = [asyncio.ensure_future(sleeper(pause)) for pause in (3.0, 1.0, 5.0)]
        await clock.someone_sleeps()
        await asyncio.sleep(0)
        await clock.leap(seconds(4))
        assert [task.done() for task in tasks] == [True, True, False]
        tasks[2].cancel()
        return woken

    four = datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC)
    assert run_async(go()) == [(1.0, four), (3.0, four)]
