"""A worker that cannot renew stops doing things to the world before anybody else may take its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from statecraft import Run, Runtime, Settings, Status, tool
from statecraft.clock import micros
from statecraft.errors import StoreUnavailable
from statecraft.store import port
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock
from tests.worker.test_worker import Note, Stop, one_state, wrapped

LEASE = timedelta(seconds=30)
SETTINGS = Settings(lease=LEASE, poll=timedelta(hours=1), take="own", loops=None)


class Line:
    """A store whose renewals can be made to hang or to fail."""

    def __init__(self, url: str) -> None:
        self.down = asyncio.Event()
        self.up = asyncio.Event()
        self.up.set()
        self.error: Exception | None = None
        self.renewals = 0
        self.store = wrapped(url, self.before)

    async def before(self, store: SqlStore, write: port.Write) -> None:
        if isinstance(write, port.Renew) and write.held:
            if self.error is not None:
                raise self.error
            await self.up.wait()
            self.renewals += 1


class World:
    """What the handler does to it: when each attempt began, and a gate that it waits at before each."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.began: list[float] = []
        self.asked: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.errors: list[BaseException] = []
        world = self

        @tool(effect="idempotent", risk="low")
        async def act(number: int) -> str:
            """Do something."""
            world.began.append(world.clock.monotonic())
            return "done"

        self.act = act

        async def work(run: Run[Note]) -> Stop:
            try:
                for number in range(3):
                    gate = asyncio.Event()
                    world.asked.put_nowait(gate)
                    await gate.wait()
                    await run.tool(act, number)
            except BaseException as error:
                world.errors.append(error)
                raise
            return Stop()

        self.machine = one_state(work, tools=[act])

    async def go_on(self) -> None:
        """Let the handler make its next call."""
        (await asyncio.wait_for(self.asked.get(), 20)).set()


async def until(what: Callable[[], bool]) -> None:
    """Let other tasks run until something is so."""
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0)


async def pass_time(clock: ManualClock, seconds: float) -> None:
    """Let time pass in small steps, and everybody react to each."""
    for _ in range(round(seconds)):
        await clock.advance(timedelta(seconds=1))
        for _ in range(10):
            await asyncio.sleep(0)


def story(url: str, tell: Callable[[Runtime, World, Line, ManualClock], Awaitable[None]]) -> None:
    async def go() -> None:
        clock = ManualClock()
        world, line = World(clock), Line(url)
        async with Runtime(url, machines=[world.machine], store=line.store, clock=clock, settings=SETTINGS) as rt:
            await tell(rt, world, line, clock)

    asyncio.run(go())


def test_no_attempt_begins_when_the_lease_is_half_over_and_work_goes_on_once_it_is_renewed(url: str) -> None:
    async def tell(rt: Runtime, world: World, line: Line, clock: ManualClock) -> None:
        run, begun = await rt.start(world.machine, Note()), clock.monotonic()
        line.up.clear()  # From now on no renewal is answered.
        await world.go_on()
        await until(lambda: len(world.began) == 1)
        await pass_time(clock, 16)
        await world.go_on()
        await pass_time(clock, 6)
        assert len(world.began) == 1
        line.up.set()
        await until(lambda: len(world.began) == 2)
        await world.go_on()
        assert (await asyncio.wait_for(rt.wait(run.id), 20)).status is Status.DONE
        assert world.began[0] - begun <= 15
        assert (await rt.get(run.id)).epoch == 1

    story(url, tell)


def test_a_run_is_given_up_when_nine_tenths_of_its_lease_are_over_and_its_handler_does_nothing_more(url: str) -> None:
    async def tell(rt: Runtime, world: World, line: Line, clock: ManualClock) -> None:
        run = await rt.start(world.machine, Note())
        line.error = StoreUnavailable("away")
        await pass_time(clock, 20)
        await world.go_on()
        assert bytes.fromhex(run.id) in rt._worker._driving
        await pass_time(clock, 9)
        await until(lambda: not rt._worker._driving)
        assert world.began == []
        assert isinstance(world.errors[0], asyncio.CancelledError)
        assert rt.counts["lost"] == 1
        line.error = None
        await clock.advance(timedelta(seconds=10))  # Now the lease is over, and the run may be taken, by us as by others.
        rt._worker.poke()
        for _ in range(3):
            await world.go_on()
        assert (await asyncio.wait_for(rt.wait(run.id), 20)).epoch == 2
        assert len(world.began) == 3

    story(url, tell)


def test_a_call_in_flight_may_finish_while_renewals_fail(url: str) -> None:
    async def go() -> None:
        clock, line, gate, flying = ManualClock(), Line(url), asyncio.Event(), asyncio.Event()

        @tool(effect="idempotent", risk="low", timeout=timedelta(hours=1))
        async def slow() -> str:
            """Take long."""
            flying.set()
            await gate.wait()
            return "done"

        async def work(run: Run[Note]) -> Stop:
            return Stop(text=await run.tool(slow))

        machine = one_state(work, tools=[slow])
        async with Runtime(url, machines=[machine], store=line.store, clock=clock, settings=SETTINGS) as rt:
            run = await rt.start(machine, Note())
            line.error = StoreUnavailable("away")
            await flying.wait()
            await pass_time(clock, 25)
            gate.set()
            assert (await asyncio.wait_for(rt.wait(run.id), 20)).status is Status.DONE

    asyncio.run(go())


def test_a_process_that_was_stopped_for_long_renews_before_it_does_anything(url: str) -> None:
    async def tell(rt: Runtime, world: World, line: Line, clock: ManualClock) -> None:
        run = await rt.start(world.machine, Note())
        await until(lambda: not world.asked.empty())
        line.up.clear()
        clock._now += micros(timedelta(minutes=5))  # Nobody could run, no timer rang.
        await world.go_on()
        for _ in range(50):
            await asyncio.sleep(0)
        assert world.began == []
        line.up.set()
        await until(lambda: len(world.began) == 1)
        assert line.renewals == 1
        await world.go_on()
        await world.go_on()
        assert (await asyncio.wait_for(rt.wait(run.id), 20)).epoch == 1

    story(url, tell)


def test_a_process_that_was_stopped_while_another_took_its_run_does_nothing_more_to_the_world(url: str) -> None:
    async def tell(rt: Runtime, world: World, line: Line, clock: ManualClock) -> None:
        run = await rt.start(world.machine, Note())
        await until(lambda: not world.asked.empty())
        clock._now += micros(timedelta(minutes=5))
        await line.store.inner.submit(port.Claim(bytes.fromhex(run.id), "other", clock.now(), clock.now() + micros(LEASE)))
        await world.go_on()
        await until(lambda: not rt._worker._driving)
        assert world.began == []
        assert (await rt.get(run.id)).owner == "other"

    story(url, tell)


def test_an_intent_that_took_too_long_to_write_lets_no_attempt_follow_before_a_renewal(url: str) -> None:
    async def go() -> None:
        clock = ManualClock()
        began, written, go_on = list[int](), asyncio.Event(), asyncio.Event()

        async def before(store: SqlStore, write: port.Write) -> None:
            if isinstance(write, port.Attempt):
                clock._now += micros(timedelta(seconds=20))
                written.set()
            if isinstance(write, port.Renew) and write.held:
                await go_on.wait()

        @tool(effect="once", risk="low")
        async def pay() -> str:
            """Pay."""
            began.append(1)
            return "paid"

        async def work(run: Run[Note]) -> Stop:
            return Stop(text=await run.tool(pay))

        machine = one_state(work, tools=[pay])
        async with Runtime(url, machines=[machine], store=wrapped(url, before), clock=clock, settings=SETTINGS) as rt:
            run = await rt.start(machine, Note())
            await written.wait()
            for _ in range(200):
                await asyncio.sleep(0)
            while not await rt.attempts(run.id):
                await asyncio.sleep(0)
            assert began == []
            go_on.set()
            assert (await asyncio.wait_for(rt.wait(run.id), 20)).status is Status.DONE
            assert began == [1]

    asyncio.run(go())
