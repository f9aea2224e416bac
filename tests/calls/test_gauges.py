"""Several workers over one database: one breaker, one bucket, one penalty for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from statecraft import BreakerPolicy, ErrorKind, RateLimit, Runtime, Settings, Status
from statecraft.calls.breaker import Breaker, probes
from statecraft.calls.call import Call, Reply
from statecraft.calls.gauges import StoredGauges
from statecraft.calls.limiter import Limiter
from statecraft.calls.park import NotYet
from statecraft.ids import RandomIds
from statecraft.llm.port import ModelError
from statecraft.store import open_store
from statecraft.testing import ManualClock
from tests.calls.test_stack import Submitted, World, call_on, visit_on
from tests.runtime.test_pressure import OUTAGE, RUNS, Model, Question, all_ended, asking, outage

QUICK = BreakerPolicy(failures=3, open_for=10)


@contextlib.asynccontextmanager
async def gauges(url: str, workers: int) -> AsyncIterator[list[StoredGauges]]:
    """One home for each worker: an own connection to the one database."""
    async with contextlib.AsyncExitStack() as stack:
        stores = [open_store(url) for _ in range(workers)]
        for store in stores:
            await store.open()
            stack.push_async_callback(store.close)
        yield [StoredGauges(store) for store in stores]


async def send(member: Any, clock: ManualClock, error: Exception | None = None, *, request: str = '"q"') -> Any:
    """What one call through a breaker or a limiter ends with."""

    async def end(_call: Call) -> Reply:
        if error is not None:
            raise error
        return Reply("ok")

    call = call_on(visit_on(Submitted(), clock), World([]), request, dependency="model:m")
    try:
        return (await member(call, end)).result
    except Exception as raised:
        return raised


def overloaded() -> ModelError:
    return ModelError("busy", kind=ErrorKind.OVERLOADED)


def test_a_change_is_seen_by_all_and_nothing_comes_between(url: str) -> None:
    def count(old: str | None) -> tuple[str, int]:
        return str(int(old or 0) + 1), int(old or 0)

    async def go() -> None:
        async with gauges(url, 3) as homes:
            seen = await asyncio.gather(*(homes[n % 3].adjust("counter", count) for n in range(60)))
        assert sorted(seen) == list(range(60))

    asyncio.run(go())


def test_failures_at_several_workers_open_one_breaker_for_all(url: str) -> None:
    async def go() -> None:
        clock = ManualClock()
        async with gauges(url, 3) as homes:
            breakers = [Breaker(QUICK, home, lambda: 0.0) for home in homes]
            for breaker in breakers:
                assert isinstance(await send(breaker, clock, overloaded()), ModelError)
            await clock.advance(timedelta(seconds=1))  # The oldest "closed" anybody may still believe.
            assert [type(await send(breaker, clock)) for breaker in breakers] == [NotYet] * 3

    asyncio.run(go())


def test_of_all_workers_one_makes_the_probe_and_all_hear_of_its_success(url: str) -> None:
    async def go() -> None:
        clock, held = ManualClock(), asyncio.Event()
        async with gauges(url, 4) as homes:
            breakers = [Breaker(QUICK, home, lambda: 0.0) for home in homes]
            for _ in range(3):
                await send(breakers[0], clock, overloaded())
            await clock.advance(timedelta(seconds=10))
            sent: list[str] = []

            async def slow(call: Call) -> Reply:
                sent.append(call.request)
                await held.wait()
                return Reply("ok")

            calls = [
                call_on(visit_on(Submitted(), clock), World([]), f'"{n}"', dependency="model:m") for n in range(len(breakers))
            ]
            tasks = [asyncio.create_task(breaker(call, slow)) for breaker, call in zip(breakers, calls, strict=True)]
            pending: set[asyncio.Task[Reply]] = set(tasks)
            while len(pending) > 1:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            ended = [task.exception() for task in tasks if task.done()]
            assert (len(sent), [type(error) for error in ended]) == (1, [NotYet] * 3)
            held.set()
            await asyncio.wait(tasks)
            assert [await send(breaker, clock) for breaker in breakers] == ["ok"] * 4

    asyncio.run(asyncio.wait_for(go(), 20))


def test_workers_share_one_bucket(url: str) -> None:
    async def go() -> None:
        clock = ManualClock()
        async with gauges(url, 3) as homes:
            limits = (RateLimit(of="model", requests=60, burst=0.1),)
            limiters = [Limiter(limits, home, lambda: 0.0) for home in homes]
            ends = await asyncio.gather(*(send(limiters[n % 3], clock, request=f'"{n}"') for n in range(30)))
            assert ends.count("ok") == 6
            dues = sorted(end.due_at for end in ends if isinstance(end, NotYet))
            assert len(set(dues)) == 24

    asyncio.run(go())


def test_a_servers_hint_to_one_worker_holds_for_all(url: str) -> None:
    async def go() -> None:
        clock = ManualClock()
        async with gauges(url, 2) as homes:
            one, two = (Limiter((), home, lambda: 0.0) for home in homes)
            assert await send(two, clock) == "ok"
            await send(one, clock, ModelError("429", kind=ErrorKind.RATE_LIMITED, retry_after=60.0))
            await clock.advance(timedelta(seconds=1))
            assert isinstance(await send(two, clock), NotYet)
            await clock.advance(timedelta(seconds=59))
            assert await send(two, clock) == "ok"

    asyncio.run(go())


@pytest.mark.parametrize("member", ["breaker", "limiter"])
def test_a_healthy_dependency_costs_one_write_a_second_however_many_calls(url: str, member: str) -> None:
    async def go() -> None:
        clock = ManualClock()
        async with gauges(url, 1) as (home,):
            writes, adjust = [], home.adjust

            async def counted(meter: str, change: Any) -> Any:
                writes.append(meter)
                return await adjust(meter, change)

            home.adjust = counted  # type: ignore[method-assign]
            made: Any = Breaker(QUICK, home, lambda: 0.0) if member == "breaker" else Limiter((), home, lambda: 0.0)
            for _ in range(3):
                assert [await send(made, clock) for _ in range(50)] == ["ok"] * 50
                await clock.advance(timedelta(seconds=1))
            assert len(writes) == 3

    asyncio.run(go())


@pytest.mark.slow
def test_runs_of_three_workers_outlive_an_outage_with_the_probes_of_one(url: str) -> None:
    async def go() -> None:
        clock, policy = ManualClock(), BreakerPolicy()
        model, machine = Model(clock, outage), asking()
        given: dict[str, Any] = {"machines": [machine], "llm": model.llm, "clock": clock}
        given["settings"] = Settings(meters="database", concurrency=8)
        async with (
            Runtime(url, ids=RandomIds(1), **given) as one,
            Runtime(url, ids=RandomIds(2), **given) as two,
            Runtime(url, ids=RandomIds(3), **given) as three,
        ):
            for number in range(RUNS):
                await one.start(machine, Question(number=number))
            runs = await all_ended(clock, [one, two, three], 3 * OUTAGE)
        assert [run.status for run in runs] == [Status.DONE] * RUNS
        during = [at for at in model.asked if at < OUTAGE]
        assert len(during) <= policy.failures + RUNS + probes(policy, OUTAGE)
        assert len([at for at in during if at > 60]) <= probes(policy, OUTAGE)

    asyncio.run(asyncio.wait_for(go(), 100))
