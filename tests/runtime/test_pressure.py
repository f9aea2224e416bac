"""Many runs against a model that is down, slow to let people in, or out of quota: nobody is lost and nobody stampedes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

import pytest

from statecraft import BreakerPolicy, Data, ErrorKind, Event, Failure, Machine, RateLimit, Run, Runtime, Settings, Status, tool
from statecraft.calls.breaker import probes
from statecraft.clock import stamp
from statecraft.ids import RandomIds
from statecraft.llm.port import ModelError
from statecraft.records import RunFilter, RunRecord, Waiting
from statecraft.store import port
from statecraft.testing import ManualClock, ScriptedLLM
from statecraft.testing.clock import START

RUNS = 40
OUTAGE = 600
T0 = stamp(START)


class Question(Data):
    number: int = 0
    said: str = ""


class Answered(Event):
    said: str


def asking() -> Machine[Question]:
    machine = Machine("asking", data=Question)

    @machine.state(start=True)
    async def asks(run: Run[Question]) -> Answered:
        return Answered(said=await run.llm.ask(f"question {run.data.number}"))

    machine.transitions(asks.on(Answered) >> machine.final("told", ok=True), machine.anywhere.on(Failure) >> machine.final("no"))
    return machine


class Model:
    """Answers as `failing` says, and remembers when it was asked."""

    def __init__(self, clock: ManualClock, failing: Callable[[float], ModelError | None]) -> None:
        self.clock, self.failing = clock, failing
        self.asked: list[float] = []
        self.llm = ScriptedLLM(self._answer)

    def _answer(self, _request: object) -> str:
        at = (self.clock.now() - T0) / 1e6
        self.asked.append(at)
        error = self.failing(at)
        if error is not None:
            raise error
        return "fine"


async def caught_up(runtime: Runtime) -> None:
    """Let the work of this second be done: a claim, a load, a call and a move are written one after the other."""
    for _ in range(6):
        await runtime._store.submit(port.Renew((), 0))
        if not runtime._worker._driving and not runtime._worker._taking:
            return


async def all_ended(clock: ManualClock, runtimes: Sequence[Runtime], within: int) -> list[RunRecord]:
    """Let time pass second by second until every run has ended."""
    runs: Sequence[RunRecord] = ()
    for _ in range(within):
        runs = await runtimes[0].runs(RunFilter(limit=1000))
        if all(run.status.closed for run in runs):
            return list(runs)
        await clock.advance(timedelta(seconds=1))
        for runtime in runtimes:
            await caught_up(runtime)
    raise AssertionError([(run.status, run.waiting_for, run.due_at) for run in runs if not run.status.closed])


def outage(at: float) -> ModelError | None:
    return ModelError("down", kind=ErrorKind.OVERLOADED) if at < OUTAGE else None


@pytest.mark.slow
def test_forty_runs_outlive_an_outage_of_ten_minutes_and_hardly_ask_meanwhile(url: str) -> None:
    async def go() -> None:
        clock, policy = ManualClock(), BreakerPolicy()
        model, machine = Model(clock, outage), asking()
        async with Runtime(url, machines=[machine], llm=model.llm, clock=clock, ids=RandomIds(7)) as rt:
            for number in range(RUNS):
                await rt.start(machine, Question(number=number))
            runs = await all_ended(clock, [rt], 3 * OUTAGE)
        assert [run.status for run in runs] == [Status.DONE] * RUNS
        during = [at for at in model.asked if at < OUTAGE]
        assert len(during) <= policy.failures + RUNS + probes(policy, OUTAGE)
        assert len([at for at in during if at > 60]) <= probes(policy, OUTAGE)
        after = [int(at) for at in model.asked if at >= OUTAGE]
        assert len(after) == RUNS
        assert max(after) <= OUTAGE + policy.longest * (1 + policy.spread) + 10
        busiest = max(after.count(second) for second in set(after))
        assert busiest <= RUNS // 4

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.slow
def test_a_run_that_waits_for_a_breaker_says_so(url: str) -> None:
    async def go() -> None:
        clock = ManualClock()
        model, machine = Model(clock, outage), asking()
        settings = Settings(breaker=BreakerPolicy(failures=1, open_for=60), lease=timedelta(days=1))
        async with Runtime(url, machines=[machine], llm=model.llm, clock=clock, settings=settings) as rt:
            run = await rt.start(machine, Question())
            while (run := await rt.get(run.id)).status is not Status.WAITING:
                await clock.advance(timedelta(seconds=1))
            assert run.waiting_for is Waiting.BREAKER
            assert run.due_at is not None
            assert stamp(run.due_at) >= T0 + 60_000_000

    asyncio.run(asyncio.wait_for(go(), 20))


@pytest.mark.slow
def test_a_hundred_questions_keep_to_the_rate(url: str) -> None:
    async def go() -> None:
        clock = ManualClock()
        model, machine = Model(clock, lambda _: None), asking()
        settings = Settings(limits=(RateLimit(of="model", requests=60, burst=0.1),))
        async with Runtime(url, machines=[machine], llm=model.llm, clock=clock, settings=settings) as rt:
            for number in range(100):
                await rt.start(machine, Question(number=number))
            runs = await all_ended(clock, [rt], 400)
        assert {run.status for run in runs} == {Status.DONE}
        assert len(model.asked) == 100
        for place, begin in enumerate(model.asked):
            assert all(place + 6 + (at - begin) + 1e-6 >= n for n, at in enumerate(model.asked[place:], place + 1))
        assert model.asked[-1] <= 200

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.slow
def test_one_servers_hint_is_heard_by_every_run(url: str) -> None:
    async def go() -> None:
        clock = ManualClock()

        def limited(at: float) -> ModelError | None:
            return ModelError("429", kind=ErrorKind.RATE_LIMITED, retry_after=120.0) if at < 100 else None

        model, machine = Model(clock, limited), asking()
        async with Runtime(url, machines=[machine], llm=model.llm, clock=clock, settings=Settings(concurrency=4)) as rt:
            for number in range(20):
                await rt.start(machine, Question(number=number))
            runs = await all_ended(clock, [rt], 400)
        assert {run.status for run in runs} == {Status.DONE}
        assert len([at for at in model.asked if at < 120]) <= 4
        assert len({int(at) for at in model.asked if at >= 120}) >= 5

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.slow
@pytest.mark.parametrize("given", ["a table", "a function"])
def test_what_a_tools_exception_means_is_the_users_to_say(url: str, given: Literal["a table", "a function"]) -> None:
    class Throttled(Exception):
        retry_after = 2.0

    tried: list[int] = []

    @tool
    async def look() -> str:
        """Look."""
        tried.append(1)
        if len(tried) < 3:
            raise Throttled("slowly")
        return "seen"

    machine = Machine("looking", data=Question)

    @machine.state(start=True, tools=[look])
    async def looks(run: Run[Question]) -> Answered:
        return Answered(said=await run.tool(look))

    machine.transitions(looks.on(Answered) >> machine.final("told", ok=True), machine.anywhere.on(Failure) >> machine.final("no"))
    errors: Any = {Throttled: ErrorKind.RATE_LIMITED}
    if given == "a function":
        errors = lambda error: ErrorKind.RATE_LIMITED if isinstance(error, Throttled) else None  # noqa: E731

    async def go() -> None:
        clock = ManualClock()
        async with Runtime(url, machines=[machine], clock=clock, settings=Settings(errors=errors)) as rt:
            run = await rt.start(machine, Question())
            (run,) = await all_ended(clock, [rt], 60)
            assert (run.status, [attempt.kind for attempt in await rt.attempts(run.id)]) == (Status.DONE, ["rate_limited"] * 2)
        assert clock.now() - T0 >= 4_000_000

    asyncio.run(asyncio.wait_for(go(), 20))
