"""Budgets from the outside: what leaves the process, what is charged, and where a run goes when the money is gone."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import (
    Append,
    Budget,
    BudgetExhausted,
    BudgetWarning,
    Data,
    Event,
    Failure,
    Machine,
    OverBudget,
    Price,
    Run,
    Runtime,
    Settings,
    Status,
    TenantBudget,
    days,
    hours,
    minutes,
    tool,
)
from statecraft.calls.retry import RetryPolicy
from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm.port import ModelError
from statecraft.llm.scripted import ScriptedLLM, text
from statecraft.records import RunRecord, Usage, Waiting
from statecraft.testing import ManualClock
from tests.engine.dying import World, lives

PRICES = {"big": Price(input=0, output=50), "small": Price(input=0, output=5)}
AT_MOST_20_CENTS = 4000
"""Output tokens of `big`."""


class Note(Data):
    text: str = ""
    seen: Append[list[str]] = []


class Next(Event):
    seen: list[str] = []


class Stop(Event):
    text: str = ""
    seen: list[str] = []


def one_state(handler: Callable[[Run[Note]], Awaitable[Stop]], budget: Budget | None = None, **of_state: Any) -> Machine[Note]:
    """A machine whose start state runs `handler`; an exhausted budget leads to `broke`, every other failure to `failed`."""
    machine = Machine("one", data=Note, budget=budget)

    async def work(run: Run[Note]) -> Stop:
        return await handler(run)

    start = machine.state(start=True, **of_state)(work)
    done, failed, broke = machine.final("done", ok=True), machine.final("failed"), machine.final("broke")
    machine.transitions(
        start.on(Stop) >> done, machine.anywhere.on(BudgetExhausted) >> broke, machine.anywhere.on(Failure) >> failed
    )
    return machine


class Shop:
    """Tools that count how often they really ran."""

    def __init__(self, price: str = "0.20") -> None:
        self.sold: list[int] = []

        @tool(price=price, timeout=minutes(1))
        async def buy(number: int) -> str:
            """Buy one."""
            self.sold.append(number)
            await asyncio.sleep(0)
            return f"bought {number}"

        self.buy = buy


async def finished(rt: Runtime, machine: Machine[Note], **start: Any) -> RunRecord:
    return await rt.wait((await rt.start(machine, Note(), **start)).id, timeout=timedelta(seconds=30))


async def charged(rt: Runtime, run: RunRecord, unit: str) -> int:
    return (await rt._store.used([f"run:{run.id}:{unit}"]))[f"run:{run.id}:{unit}"]


async def agrees(rt: Runtime, run: RunRecord) -> bool:
    assert await rt.verify(run.id) == []
    replayed = await rt.replay(run.id)
    assert replayed.agrees, str(replayed.divergence)
    return True


# --- a cap holds for what runs at once --------------------------------------------------------------------------------


def test_of_eight_parallel_tools_of_at_most_20_cents_under_a_dollar_exactly_five_run(url: str) -> None:
    shop = Shop()

    async def work(run: Run[Note]) -> Stop:
        await run.gather(*[run.tool(shop.buy, number) for number in range(8)])
        return Stop()

    async def story() -> None:
        machine = one_state(work, Budget(money="1.00"), tools=[shop.buy])
        async with Runtime(url, machines=[machine]) as rt:
            run = await finished(rt, machine)
            assert run.state == "broke"
            assert sorted(shop.sold) == [0, 1, 2, 3, 4]
            assert await charged(rt, run, "money") == 1_000_000_000
            told = (await rt.history(run.id))[-1].payload
            assert (told["unit"], told["scope"], told["limit"]) == ("money", "run", 1.0)
            calls = await rt.calls(run.id)
            assert sorted((call.ok, call.cost) for call in calls) == [(False, None)] * 3 + [(True, 200_000_000)] * 5
            assert await agrees(rt, run)

    asyncio.run(story())
    assert len(shop.sold) == 5


def test_of_eight_parallel_questions_of_at_most_20_cents_five_are_asked_and_later_ones_fit_what_is_left(url: str) -> None:
    model = ScriptedLLM(lambda request: "short", model="big")
    refused: list[str] = []

    async def ask(run: Run[Note], number: int) -> None:
        try:
            await run.llm.ask(f"question {number}", max_tokens=AT_MOST_20_CENTS)
        except OverBudget as error:
            refused.append(error.unit)

    async def work(run: Run[Note]) -> Stop:
        await run.gather(*[ask(run, number) for number in range(8)])
        for number in range(8, 12):
            await ask(run, number)
        return Stop()

    async def story() -> None:
        machine = one_state(work, Budget(money="1.00"))
        async with Runtime(url, machines=[machine], llm=model, settings=Settings(prices=PRICES)) as rt:
            run = await finished(rt, machine)
            assert run.state == "done"
            calls = [call for call in await rt.calls(run.id) if call.ok]
            assert [call.price_source for call in calls] == ["settings"] * 9
            costs = [call.cost or 0 for call in calls]
            assert costs == [50_000 * call.usage.output_tokens for call in calls]
            assert await charged(rt, run, "money") == sum(costs) < 10_000_000
            asked = len(model.requests)
            assert await agrees(rt, run)
            assert len(model.requests) == asked

    asyncio.run(story())
    assert (len(model.requests), refused[:3]) == (5 + 4, ["money"] * 3)


def test_calls_one_after_the_other_may_use_all_but_what_the_next_could_cost(url: str) -> None:
    shop = Shop("0.30")

    async def work(run: Run[Note]) -> Stop:
        for number in range(9):
            await run.tool(shop.buy, number)
        return Stop()

    async def story() -> None:
        capped = one_state(work, Budget(money="1"), tools=[shop.buy])
        async with Runtime(url, machines=[capped]) as rt:
            assert (await finished(rt, capped)).state == "broke"

    asyncio.run(story())
    assert shop.sold == [0, 1, 2]


def test_money_is_not_spent_on_a_model_whose_price_nobody_knows(url: str) -> None:
    model = ScriptedLLM(["never said"])

    async def work(run: Run[Note]) -> Stop:
        return Stop(text=await run.llm.ask("how much?"))

    async def story() -> None:
        machine = one_state(work, Budget(money="100"))
        async with Runtime(url, machines=[machine], llm=model) as rt:
            run = await finished(rt, machine)
            assert run.state == "broke"
            assert "no price is known for this model" in str((await rt.history(run.id))[-1].payload["message"])

    asyncio.run(story())
    assert model.requests == []


def test_cached_tokens_are_part_of_the_input_and_cheaper(url: str) -> None:
    reply = replace(text("yes"), usage=Usage(1000, 10, cache_read_tokens=900))
    model = ScriptedLLM([reply], model="cached")

    async def work(run: Run[Note]) -> Stop:
        return Stop(text=await run.llm.ask("again?"))

    async def story() -> None:
        machine = one_state(work)
        prices = {"cached": Price(10, 100, cache_read=1)}
        async with Runtime(url, machines=[machine], llm=model, settings=Settings(prices=prices)) as rt:
            run = await finished(rt, machine)
            (call,) = await rt.calls(run.id)
            assert (call.usage.total, call.cost) == (1010, 100 * 10_000 + 900 * 1_000 + 10 * 100_000)
            assert call.result["usage"]["cache_read_tokens"] == 900
            assert await agrees(rt, run)

    asyncio.run(story())


# --- states and tenants -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_budget_of_a_state_counts_all_its_visits_and_binds_no_other_state(url: str) -> None:
    shop = Shop()
    machine = Machine("shopping", data=Note)

    @machine.state(start=True, tools=[shop.buy], budget=Budget(calls=3), max_visits=9)
    async def buying(run: Run[Note]) -> Next:
        return Next(seen=[await run.tool(shop.buy, run.visit)])

    @machine.state(tools=[shop.buy])
    async def consoling(run: Run[Note]) -> Stop:
        return Stop(seen=[await run.tool(shop.buy, 100)])

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(
        buying.on(Next) >> buying,
        buying.on(BudgetExhausted) >> consoling,
        consoling.on(Stop) >> done,
        machine.anywhere.on(Failure) >> failed,
    )

    async def story() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await finished(rt, machine)
            assert run.state == "done"
            told = next(move for move in await rt.history(run.id) if move.event == "budget_exhausted")
            assert told.payload == {
                "message": "3 calls of 3 calls of the state are used",
                "used": 3,
                "limit": 3,
                "unit": "calls",
                "scope": "state",
            }
            assert await agrees(rt, run)

    asyncio.run(story())
    assert shop.sold == [1, 2, 3, 100]


@pytest.mark.slow
def test_runtimes_that_share_a_database_never_overshoot_a_tenants_budget(url: str) -> None:
    shop, refused = Shop("0.10"), set[str]()

    async def work(run: Run[Note]) -> Stop:
        bought = 0
        for number in range(4):
            try:
                await run.gather(run.tool(shop.buy, 2 * number), run.tool(shop.buy, 2 * number + 1))
                bought += 2
            except OverBudget as error:
                refused.add(error.scope)
        return Stop(text=str(bought))

    async def story() -> None:
        machine = one_state(work, tools=[shop.buy])
        settings = Settings(tenants=(TenantBudget(Budget(money="2.00"), per=days(1)),), take="own")
        clock = ManualClock()
        async with (
            Runtime(url, machines=[machine], settings=settings, clock=clock) as one,
            Runtime(url, machines=[machine], settings=settings, clock=clock) as two,
        ):
            owners = [one, two] * 3
            runs = await asyncio.gather(*[finished(rt, machine, tenant="acme") for rt in owners])
            assert {run.tenant for run in runs} == {"acme"}
            assert len(shop.sold) == 20
            await finished(one, machine, tenant="umbrella")
            assert len(shop.sold) == 28
            await finished(two, machine)
            assert len(shop.sold) == 36
            assert refused == {"tenant"}

    asyncio.run(story())


def test_a_handler_may_sleep_until_the_tenants_next_window_and_ask_again(url: str) -> None:
    shop = Shop()

    async def work(run: Run[Note]) -> Stop:
        for _ in range(2):
            try:
                await run.tool(shop.buy, 7)
            except OverBudget:
                await run.sleep(hours(1))
                await run.tool(shop.buy, 7)
        return Stop()

    async def story() -> None:
        machine, clock = one_state(work, tools=[shop.buy]), ManualClock()
        settings = Settings(tenants=(TenantBudget(Budget(calls=1), per=hours(1)),))
        async with Runtime(url, machines=[machine], settings=settings, clock=clock) as rt:
            run = await rt.start(machine, Note(), tenant="acme")
            async for entry in rt.follow(run.id):
                if entry.kind == "waiting":
                    break
            assert shop.sold == [7]
            await clock.advance(hours(1))
            rt._worker.poke()
            run = await rt.wait(run.id)
            assert run.state == "done"
            assert [call.ok for call in await rt.calls(run.id)] == [True, False, True, True]
            assert await agrees(rt, run)

    asyncio.run(asyncio.wait_for(story(), 20))
    assert shop.sold == [7, 7]


def test_a_tenant_has_a_name(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        return Stop()

    async def story() -> None:
        machine = one_state(work)
        async with Runtime(url, machines=[machine]) as rt:
            with pytest.raises(ConfigError, match="tenant"):
                await rt.start(machine, Note(), tenant="")

    asyncio.run(story())


SPENDER = """
import asyncio, sys
from statecraft import *
from statecraft.errors import OverBudget

class Note(Data):
    bought: int = 0

class Stop(Event):
    bought: int

@tool(price="0.10")
async def buy(number: int) -> str:
    "Buy one."
    await asyncio.sleep(0.001)
    return "bought"

shopping = Machine("shopping", data=Note)

@shopping.state(start=True, tools=[buy])
async def work(run: Run[Note]) -> Stop:
    bought = 0
    for number in range(30):
        try:
            await run.tool(buy, number)
            bought += 1
        except OverBudget:
            pass
    return Stop(bought=bought)

shopping.transitions(work.on(Stop) >> shopping.final("done", ok=True), shopping.anywhere.on(Failure) >> shopping.final("failed"))

async def main() -> None:
    settings = Settings(tenants=(TenantBudget(Budget(money="3.00"), per=days(10_000)),), take="own")
    async with Runtime(sys.argv[1], machines=[shopping], settings=settings) as rt:
        runs = [await rt.start(shopping, Note(), tenant="acme") for _ in range(2)]
        for run in runs:
            await rt.wait(run.id)
        print(sum([len([call for call in await rt.calls(run.id) if call.ok]) for run in runs]))

asyncio.run(main())
"""


@pytest.mark.slow
def test_processes_that_share_a_database_spend_a_tenants_budget_to_the_cent(url: str, tmp_path: Path) -> None:
    script = tmp_path / "spender.py"
    script.write_text(SPENDER)
    started = [
        subprocess.Popen([sys.executable, str(script), url], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for _ in range(3)
    ]
    bought = [int(process.communicate(timeout=100)[0]) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sum(bought) == 30


# --- failures and crashes ---------------------------------------------------------------------------------------------


def test_a_failed_attempt_that_may_have_been_billed_is_charged_and_one_that_was_not_is_given_back(url: str) -> None:
    broken = ModelError("the connection broke", kind=ErrorKind.TRANSIENT, maybe_billed=True)
    refused = ModelError("no connection", kind=ErrorKind.TRANSIENT)
    model = ScriptedLLM([refused, broken, "at last"], model="big")

    async def work(run: Run[Note]) -> Stop:
        return Stop(text=await run.llm.ask("well?", max_tokens=AT_MOST_20_CENTS))

    async def story() -> None:
        machine = one_state(work, Budget(money="0.45"))
        settings = Settings(prices=PRICES, retry=RetryPolicy(first=0.0))
        async with Runtime(url, machines=[machine], llm=model, settings=settings) as rt:
            run = await finished(rt, machine)
            assert run.state == "done"
            (call,) = await rt.calls(run.id)
            assert call.attempts == 3
            assert await charged(rt, run, "money") == 200_000_000 + (call.cost or 0)

    asyncio.run(story())


def buying_twice(shop: Shop) -> Machine[Note]:
    """Two calls under a budget with room for exactly two."""

    async def work(run: Run[Note]) -> Stop:
        return Stop(seen=[await run.tool(shop.buy, 1), await run.tool(shop.buy, 2)])

    return one_state(work, Budget(money="0.40", warn_at=1), tools=[shop.buy])


@pytest.mark.slow
def test_a_crash_at_any_commit_leaves_no_reservation_behind(tmp_path: Path) -> None:
    """The budget has room for exactly what is bought: anything left reserved, or charged twice, would end as broke."""
    whole: World[Note] = World(tmp_path / "whole", buying_twice(Shop()), Note())
    whole.folder.mkdir()
    assert lives(whole, []).state == "done"
    for at in range(whole.points[0]):
        world: World[Note] = World(tmp_path / str(at), buying_twice(Shop()), Note())
        world.folder.mkdir()
        run = lives(world, [at])
        assert run.state == "done", at
        assert world.ask("SELECT count(*) FROM reservations") == [(0,)]
        assert world.ask("SELECT used FROM meters") == [(400_000_000,)]
        world.sound()


# --- warned, then out -------------------------------------------------------------------------------------------------


def degrading(shop: Shop, seen: list[str]) -> Machine[Note]:
    """Buys until it is warned; then it takes the cheap path."""
    machine = Machine("degrading", data=Note, budget=Budget(calls=10, warn_at=0.5))

    @machine.state(start=True, tools=[shop.buy], max_visits=20)
    async def buying(run: Run[Note]) -> Next:
        return Next(seen=[await run.tool(shop.buy, run.visit)])

    @machine.state(tools=[shop.buy])
    async def degraded(run: Run[Note]) -> Stop:
        left = await run.budget()
        seen.append(f"{left.left('calls'):g} of 10 left, {left.share:.0%} used, {left.left('money')} dollars")
        return Stop(text="the short way")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(
        buying.on(Next) >> buying,
        buying.on(BudgetWarning) >> degraded,
        degraded.on(Stop) >> done,
        machine.anywhere.on(Failure) >> failed,
    )
    return machine


def test_the_degraded_path_is_the_row_of_the_warning_and_the_handler_may_see_what_is_left(url: str) -> None:
    shop, seen = Shop(), list[str]()
    machine = degrading(shop, seen)

    async def story() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await finished(rt, machine)
            events = [move.event for move in await rt.history(run.id)]
            assert events == ["start", *["next"] * 5, "budget_warning", "stop"]
            told = (await rt.history(run.id))[-2].payload
            assert told == {"used": 5, "limit": 10, "unit": "calls", "scope": "run"}
            assert await agrees(rt, run)

    asyncio.run(story())
    assert seen == ["5 of 10 left, 50% used, inf dollars"] * 2  # the replay sees what was recorded


def spending(shop: Shop) -> Machine[Note]:
    """Has no row for a warning; once out of budget it sums up, and may try in vain to buy more."""
    machine = Machine("spending", data=Note, budget=Budget(money="0.80"))

    @machine.state(start=True, tools=[shop.buy], max_visits=20)
    async def buying(run: Run[Note]) -> Next:
        return Next(seen=[await run.tool(shop.buy, run.visit)])

    @machine.state(tools=[shop.buy])
    async def summing_up(run: Run[Note]) -> Stop:
        try:
            await run.tool(shop.buy, 100)
        except OverBudget as error:
            return Stop(text=f"{len(run.data.seen)} bought; {error.used:g} of {error.limit:g} dollars")
        return Stop(text="more")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(
        buying.on(Next) >> buying,
        buying.on(BudgetExhausted) >> summing_up,
        summing_up.on(Stop) >> done,
        machine.anywhere.on(Failure) >> failed,
    )
    return machine


def test_a_budget_that_is_used_up_speaks_once_and_its_row_still_runs_to_a_partial_result(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()
    machine = spending(shop)

    async def story() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await finished(rt, machine)
            events = [move.event for move in await rt.history(run.id)]
            assert events == ["start", *["next"] * 4, "budget_exhausted", "stop"]
            assert (await rt.history(run.id))[-1].payload["text"] == "4 bought; 0.8 of 0.8 dollars"
            assert await agrees(rt, run)

    with caplog.at_level(logging.WARNING, logger="statecraft"):
        asyncio.run(story())
    assert shop.sold == [1, 2, 3, 4]
    alerts = [record.__dict__ for record in caplog.records if record.getMessage() == "alert"]
    assert [(alert["reason"], alert["unit"], alert["used"]) for alert in alerts] == [("budget_warning", "money", 0.8)]


def test_an_exhausted_budget_without_a_row_is_a_dead_letter_that_says_what_to_do(url: str) -> None:
    shop = Shop()
    machine = Machine("careless", data=Note, budget=Budget(calls=1))

    @machine.state(start=True, tools=[shop.buy])
    async def buying(run: Run[Note]) -> Stop:
        await run.tool(shop.buy, 1)
        await run.tool(shop.buy, 2)
        return Stop()

    machine.transitions(buying.on(Stop) >> machine.final("done", ok=True))

    async def story() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await finished(rt, machine)
            assert run.status is Status.DEAD
            assert "buy was not called in buying" in str(run.reason)
            assert "raise the budget, or give BudgetExhausted a row" in str(run.reason)

    asyncio.run(story())


# --- wall time --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wall_time_of_a_budget_ends_a_wait_and_a_handler_that_hangs(url: str) -> None:
    async def hang(run: Run[Note]) -> Stop:
        await asyncio.Event().wait()
        return Stop()

    async def rest(run: Run[Note]) -> Stop:
        await run.sleep(days(2))
        return Stop()

    async def story(handler: Callable[[Run[Note]], Awaitable[Stop]], parks: bool, database: str) -> None:
        clock, machine = ManualClock(), one_state(handler, Budget(wall=minutes(10)))
        async with Runtime(database, machines=[machine], clock=clock) as rt:
            run = await rt.start(machine, Note())
            async for entry in rt.follow(run.id):
                if entry.kind == ("waiting" if parks else "started"):
                    break
            if parks:
                parked = await rt.get(run.id)
                assert parked.waiting_for is Waiting.TIMER
                assert parked.due_at is not None
                assert parked.due_at - parked.created_at == minutes(10)
            else:
                for _ in range(20):
                    await asyncio.sleep(0)
            await clock.advance(minutes(10))
            rt._worker.poke()
            ended = await rt.wait(run.id)
            assert ended.state == "broke"
            told = (await rt.history(run.id))[-1].payload
            assert (told["unit"], told["limit"]) == ("wall", 600.0)
            assert await agrees(rt, ended)

    asyncio.run(asyncio.wait_for(story(rest, True, url), 20))
    asyncio.run(asyncio.wait_for(story(hang, False, url + "2"), 20))
