"""A worker that leaves: calls under way finish, no new one begins, and the rest goes back to the others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from statecraft import Event, Failure, Machine, Run, Runtime, Settings, Status, tool
from statecraft.records import Waiting
from statecraft.store import port
from statecraft.testing import ManualClock
from tests.worker.test_worker import Note, Stop, one_state, slow_polls

NONE = Settings(take="none")


class Calls:
    """Two calls after each other; the first waits at a gate."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.flying, self.gate = asyncio.Event(), asyncio.Event()
        calls = self

        @tool(effect="idempotent", risk="low", timeout=timedelta(hours=1))
        async def act(name: str) -> str:
            """Do something."""
            calls.made.append(name)
            if name == "first":
                calls.flying.set()
                await calls.gate.wait()
            return name

        async def work(run: Run[Note]) -> Stop:
            await run.tool(act, "first")
            return Stop(text=await run.tool(act, "second"))

        self.machine = one_state(work, tools=[act])


def test_a_draining_worker_lets_the_call_finish_and_hands_the_run_back_before_the_next(url: str) -> None:
    async def go() -> None:
        calls = Calls()
        async with Runtime(url, machines=[calls.machine], settings=slow_polls()) as one:
            run = await one.start(calls.machine, Note())
            await calls.flying.wait()
            drained = asyncio.ensure_future(one.drain(timedelta(minutes=5)))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not drained.done()
            calls.gate.set()
            await asyncio.wait_for(drained, 20)
            found = await one.get(run.id)
            assert (found.status, found.owner, calls.made) == (Status.READY, None, ["first"])
            assert [call.name for call in await one.calls(run.id)] == ["act"]
            assert one.counts["handed back"] == 1
            waiting = await one.start(calls.machine, Note())
            assert waiting.status is Status.READY  # It takes nothing more, and still records.
            await one.cancel(waiting.id, by="ann", reason="enough")
        async with Runtime(url, machines=[calls.machine], settings=slow_polls()) as two:
            assert (await asyncio.wait_for(two.wait(run.id), 20)).status is Status.DONE
            assert calls.made == ["first", "second"]
            assert await two.verify(run.id) == []

    asyncio.run(go())


def test_what_is_not_finished_within_the_grace_is_cut_off_and_handed_back(url: str) -> None:
    async def go() -> None:
        calls, clock = Calls(), ManualClock()
        async with Runtime(url, machines=[calls.machine], clock=clock, settings=slow_polls()) as rt:
            run = await rt.start(calls.machine, Note())
            await calls.flying.wait()
            drained = asyncio.ensure_future(rt.drain(timedelta(seconds=10)))
            for _ in range(20):
                await asyncio.sleep(0)
            await clock.advance(timedelta(seconds=9))
            assert not drained.done()
            await clock.advance(timedelta(seconds=1))
            await asyncio.wait_for(drained, 20)
            found = await rt.get(run.id)
            assert (found.status, found.seq, await rt.calls(run.id)) == (Status.READY, 0, [])

    asyncio.run(go())


def test_one_of_two_calls_side_by_side_is_recorded_before_the_run_goes_back(url: str) -> None:
    """The second waits because the worker drains; handing back must wait for the outcome of the first."""

    async def go() -> None:
        flying, gate, late, made = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[str]()

        @tool(effect="once", risk="low", timeout=timedelta(hours=1))
        async def pay(name: str) -> str:
            """Pay."""
            made.append(name)
            flying.set()
            await gate.wait()
            return name

        async def work(run: Run[Note]) -> Stop:
            async def second() -> None:
                await late.wait()
                await run.tool(pay, "second")

            await asyncio.gather(run.tool(pay, "first"), second())
            return Stop()

        machine = one_state(work, tools=[pay])
        async with Runtime(url, machines=[machine], settings=slow_polls()) as rt:
            run = await rt.start(machine, Note())
            await flying.wait()
            drained = asyncio.ensure_future(rt.drain(timedelta(minutes=5)))
            await asyncio.sleep(0)
            late.set()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not drained.done()
            gate.set()
            await asyncio.wait_for(drained, 20)
            assert made == ["first"]
            assert [call.result for call in await rt.calls(run.id)] == ["first"]
            assert (await rt.get(run.id)).status is Status.READY
        async with Runtime(url, machines=[machine], settings=slow_polls()) as rt:
            assert (await asyncio.wait_for(rt.wait(run.id), 20)).status is Status.DONE
            assert made == ["first", "second"]

    asyncio.run(go())


def test_a_run_is_handed_back_after_the_step_it_was_in(url: str) -> None:
    class Tick(Event): ...

    async def go() -> None:
        begun, gate = asyncio.Event(), asyncio.Event()
        machine: Machine[Note] = Machine("round", data=Note, max_steps=1_000)

        @machine.state(start=True)
        async def around(run: Run[Note]) -> Tick:
            begun.set()
            await gate.wait()
            return Tick()

        machine.transitions(around.on(Tick) >> around, machine.anywhere.on(Failure) >> machine.final("failed"))
        async with Runtime(url, machines=[machine], settings=slow_polls()) as rt:
            run = await rt.start(machine, Note())
            await begun.wait()
            drained = asyncio.ensure_future(rt.drain(timedelta(minutes=5)))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.wait_for(drained, 20)
            found = await rt.get(run.id)
            assert (found.status, found.seq, found.epoch) == (Status.READY, 1, 1)

    asyncio.run(go())


def test_idle_returns_when_nothing_is_due_or_in_hand_and_leaves_what_waits(url: str) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=NONE) as rt:
            runs = [await rt.start(machine, Note(), detach=True) for _ in range(7)]
            later = await rt.start(machine, Note(), delay=timedelta(days=3))
        async with Runtime(url, machines=[machine], settings=slow_polls(concurrency=2)) as rt:
            await asyncio.wait_for(rt.idle(), 20)
            assert {(await rt.get(run.id)).status for run in runs} == {Status.DONE}
            assert (await rt.get(later.id)).waiting_for is Waiting.START
            assert rt.counts["ended"] == 7

    asyncio.run(go())


def test_handing_back_asks_for_no_list_of_runs(url: str) -> None:
    async def go() -> None:
        machine, begun = one_state(never), asyncio.Event()
        async with Runtime(url, machines=[machine], settings=slow_polls()) as rt:
            run = await rt.start(machine, Note())
            rt._store.runs = refuse  # type: ignore[method-assign]
        assert not begun.is_set()
        async with Runtime(url, machines=[machine], settings=NONE) as rt:
            assert (await rt.get(run.id)).status is Status.READY

    async def refuse(which: Any) -> Any:
        raise AssertionError("a fleet has a million of them")

    async def never(run: Run[Note]) -> Stop:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    asyncio.run(go())


def test_a_release_takes_nothing_from_another_owner(url: str) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=NONE) as rt:
            run = await rt.start(machine, Note(), detach=True)
            await rt._store.submit(port.Claim(bytes.fromhex(run.id), "other", 0, 10**16))
        async with Runtime(url, machines=[machine], settings=NONE) as rt:
            await rt.drain(timedelta(0))
            assert (await rt.get(run.id)).owner == "other"

    asyncio.run(go())
