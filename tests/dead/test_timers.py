"""Timers belong to the visit that armed them; deadlines end a run in one of two ways, wherever it stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from statecraft import (
    Ask,
    DeadlinePassed,
    Event,
    Failure,
    Machine,
    ReviewExpired,
    Run,
    RunRecord,
    Runtime,
    Settings,
    StateTimeout,
    StepsExhausted,
    tool,
)
from statecraft.calls.retry import RetryPolicy
from statecraft.errors import ErrorKind
from tests.dead.plant import LONG, Bought, Order, Plant, play


class Again(Event): ...


class Yes(Event): ...


async def parked(rt: Runtime, run_id: str, after: int = -1) -> RunRecord:
    """The run, once it is parked in a visit behind move `after`."""
    while True:
        changed = rt._worker.changing(bytes.fromhex(run_id))  # Asked for before the look, so that no change is missed.
        run = await rt.get(run_id)
        if run.status == "waiting" and run.seq > after:
            return run
        await changed.wait()


async def pass_time(plant: Plant, rt: Runtime, delta: timedelta) -> None:
    await plant.clock.advance(delta)
    rt._worker.poke()


HOUR = timedelta(hours=1)


def test_a_sleep_of_an_earlier_visit_neither_wakes_nor_shortens_a_later_one(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = Machine("sleepy", data=Order)

    @machine.state(start=True, max_visits=3, timeout=timedelta(hours=2))
    async def work(run: Run[Order]) -> Again | Bought:
        await run.sleep(HOUR)
        return Bought() if run.visit == 2 else Again()

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(work.on(Again) >> work, work.on(Bought) >> done, machine.anywhere.on(Failure) >> failed)

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await rt.start(machine, Order())
            first = await parked(rt, run.id)
            await pass_time(plant, rt, timedelta(minutes=70))
            second = await parked(rt, run.id, after=first.seq)
            assert first.due_at is not None
            assert second.due_at is not None
            # The second hour begins with the second visit, ten minutes late as it is.
            assert second.due_at - first.due_at == timedelta(minutes=70)
            await pass_time(plant, rt, timedelta(minutes=59))
        async with plant.runtime(machine) as rt:  # Another process, before the time.
            assert (await rt.get(run.id)).due_at == second.due_at
            await pass_time(plant, rt, timedelta(minutes=1))
            assert (await rt.wait(run.id)).status == "done"

    play(story)


def test_the_time_of_a_state_counts_from_its_entry_whoever_holds_the_run(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = Machine("slow", data=Order)

    @machine.state(start=True, timeout=HOUR)
    async def work(run: Run[Order]) -> Bought:
        await plant.clock.sleep(7200)
        return Bought()

    done, late = machine.final("done", ok=True), machine.final("late")
    machine.transitions(work.on(Bought) >> done, work.on(StateTimeout) >> late)

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await rt.start(machine, Order())
            entered = run.created_at
            await plant.clock.advance(timedelta(minutes=40))
        async with plant.runtime(machine, poll=timedelta(seconds=1)) as rt:
            await rt.resume(run.id)
            await plant.clock.advance(timedelta(minutes=20))
            ended = await rt.wait(run.id)
            assert (ended.state, ended.updated_at - entered) == ("late", HOUR)

    play(story)


def waits(how: str, plant: Plant, *, row: bool) -> Machine[Order]:
    """A machine with a deadline of an hour that waits longer than that in one of the ways there are."""
    if how == "review":
        return asks(row=row)
    machine = Machine(f"by_{how}", data=Order, deadline=HOUR)
    child = Machine("kid", data=Order)

    @child.state(start=True)
    async def doze(run: Run[Order]) -> Bought:
        await run.sleep(timedelta(days=2))
        return Bought()

    child.transitions(doze.on(Bought) >> child.final("done", ok=True))

    @tool(effect="idempotent")
    async def busy() -> str:
        """Never to be had."""
        raise ConnectionError("busy")

    @machine.state(start=True, tools=[busy], children=[child])
    async def work(run: Run[Order]) -> Bought:
        if how == "sleep":
            await run.sleep(timedelta(days=2))
        elif how == "child":
            await run.child(child, Order())
        elif how == "retry":
            await run.tool(busy)
        elif how == "running":
            plant.asked.append("running")
            await plant.clock.sleep(100_000)
        return Bought()

    @machine.state()
    async def partial(run: Run[Order]) -> Bought:
        return Bought(said=["what there was"])

    done = machine.final("done", ok=True)
    bound = DeadlinePassed if row else StepsExhausted
    machine.transitions(work.on(Bought) >> done, partial.on(Bought) >> done, machine.anywhere.on(bound) >> partial)
    return machine


def asks(*, row: bool) -> Machine[Order]:
    """The same, but it waits for a person."""
    machine = Machine("by_review", data=Order, deadline=HOUR)

    @machine.state(start=True)
    async def work(run: Run[Order]) -> Again:
        return Again()

    @machine.review(timeout=timedelta(days=2))
    async def question(run: Run[Order]) -> Ask[Yes]:
        return Ask("Buy?")

    @machine.state()
    async def partial(run: Run[Order]) -> Bought:
        return Bought(said=["what there was"])

    done = machine.final("done", ok=True)
    rows = [work.on(Again) >> question, question.on(Yes) >> done, partial.on(Bought) >> done]
    bound = DeadlinePassed if row else StepsExhausted
    machine.transitions(*rows, question.on(ReviewExpired) >> partial, machine.anywhere.on(bound) >> partial)
    return machine


WAYS = ("sleep", "child", "retry", "running", "review", "nobody")


@pytest.mark.slow
@pytest.mark.parametrize("row", [True, False], ids=["with a row", "without"])
@pytest.mark.parametrize("how", WAYS)
def test_a_deadline_that_passes_leads_to_a_degraded_result_or_a_dead_letter(tmp_path: Path, how: str, row: bool) -> None:
    policy = RetryPolicy(attempts={ErrorKind.TRANSIENT: 9}, first=100_000.0, cap=100_000.0, park_after=0.0)
    plant = Plant(tmp_path, settings=Settings(lease=LONG, poll=LONG, retry=policy, breaker=None))
    machine = waits(how, plant, row=row)

    async def story() -> None:
        async with plant.runtime(machine, take="none" if how == "nobody" else "all") as rt:
            run = await rt.start(machine, Order())
            if how in ("sleep", "child", "retry", "review"):
                await parked(rt, run.id)
            elif how == "running":
                while not plant.asked:
                    await asyncio.sleep(0)
            if how == "nobody":
                await plant.clock.advance(2 * HOUR)
            else:
                await pass_time(plant, rt, HOUR)
                run = await rt.wait(run.id)
        async with plant.runtime(machine) as rt:
            run = await rt.wait(run.id)
            if row:
                assert (run.status, run.degraded, (await rt.data(run.id, Order)).said) == ("done", True, ["what there was"])
            else:
                assert (run.status, run.degraded) == ("dead", False)
                letter = await rt.dead_letter(run.id)
                assert letter.error == "DeadlinePassed"
                assert "deadline=" in letter.needs

    play(story)


@pytest.mark.parametrize("dies", [False, True], ids=["in flight", "taken over"])
def test_a_once_call_that_time_cuts_off_is_left_in_doubt(tmp_path: Path, dies: bool) -> None:
    plant = Plant(tmp_path)
    machine = Machine("paying", data=Order)
    begun: list[str] = []

    @tool(effect="once", timeout=timedelta(hours=9))
    async def pay() -> str:
        """Takes for ever."""
        begun.append("pay")
        await asyncio.Event().wait()
        return "paid"

    @machine.state(start=True, tools=[pay], timeout=timedelta(minutes=1))
    async def work(run: Run[Order]) -> Bought:
        return Bought(said=[await run.tool(pay)])

    done, late = machine.final("done", ok=True), machine.final("late")
    machine.transitions(work.on(Bought) >> done, work.on(StateTimeout) >> late)

    async def until(so: Callable[[], bool]) -> None:
        while not so():
            await asyncio.sleep(0)

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await rt.start(machine, Order())
            await until(lambda: bool(begun))
            if not dies:
                await plant.clock.advance(timedelta(minutes=2))
                await rt.wait(run.id)
        if dies:
            await plant.clock.advance(timedelta(minutes=2))
        async with plant.runtime(machine) as rt:
            ended = await rt.wait(run.id)
            (call,) = await rt.calls(run.id)
            assert (ended.state, begun, call.name, call.ok) == ("late", ["pay"], "pay", False)
            assert call.result["kind"] == "in_doubt"
            assert "outcome is unknown" in json.dumps(call.result)
            assert await rt.verify(run.id) == []
            assert (await rt.replay(run.id)).agrees

    play(story)
