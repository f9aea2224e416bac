"""What one visit may spend: set aside before it is spent, given anew to the next visit, kept across crashes, shared with
child runs."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import (
    Append,
    Ask,
    Budget,
    BudgetExhausted,
    Data,
    Event,
    Failure,
    Machine,
    OverBudget,
    Run,
    Runtime,
    minutes,
    seconds,
    tool,
)
from statecraft.errors import ConfigError
from statecraft.records import RunRecord
from statecraft.testing import ScriptedLLM
from tests.engine.dying import World, lives


class Note(Data):
    seen: Append[list[str]] = []


class Again(Event):
    seen: list[str] = []


class Stop(Event):
    seen: list[str] = []


class Shop:
    """A tool that counts how often it really ran."""

    def __init__(self) -> None:
        self.sold: list[int] = []

        @tool(price="0.20", effect="idempotent")
        async def buy(number: int) -> str:
            """Buy one."""
            self.sold.append(number)
            return f"bought {number}"

        self.buy = buy


def twice(shop: Shop, handler: Any, **of_state: Any) -> Machine[Note]:
    """A machine that visits `work` twice; an exhausted budget leads to `broke`."""
    machine = Machine("twice", data=Note)

    async def work(run: Run[Note]) -> Again | Stop:
        seen = await handler(run)
        return Again(seen=seen) if run.visit == 1 else Stop(seen=seen)

    start = machine.state(start=True, max_visits=2, tools=[shop.buy], **of_state)(work)
    done, failed, broke = machine.final("done", ok=True), machine.final("failed"), machine.final("broke")
    machine.transitions(
        start.on(Again) >> start,
        start.on(Stop) >> done,
        machine.anywhere.on(BudgetExhausted) >> broke,
        machine.anywhere.on(Failure) >> failed,
    )
    return machine


async def finished(rt: Runtime, machine: Machine[Note]) -> RunRecord:
    return await rt.wait((await rt.start(machine, Note())).id, timeout=timedelta(seconds=30))


def test_each_visit_has_its_own_and_what_runs_at_once_does_not_overshoot_it(url: str) -> None:
    shop = Shop()

    async def work(run: Run[Note]) -> list[str]:
        async def one(number: int) -> str:
            try:
                return await run.tool(shop.buy, 10 * run.visit + number)
            except OverBudget as refused:
                return f"{refused.scope} {refused.unit}"

        return list(await run.gather(*[one(number) for number in range(5)]))

    machine = twice(shop, work, per_visit=Budget(calls=3))

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await finished(rt, machine)
            assert run.state == "done"
            seen = (await rt.data(run.id, Note)).seen
            assert [each for each in seen if each.startswith("visit")] == ["visit calls"] * 4
            assert len(shop.sold) == 6
            assert await rt.verify(run.id) == []
            assert (await rt.replay(run.id)).agrees

    asyncio.run(go())


def test_a_refusal_that_escapes_is_an_event_that_says_whose_budget_it_was(url: str) -> None:
    shop = Shop()

    async def work(run: Run[Note]) -> list[str]:
        left = [f"{(await run.budget()).left('money'):.2f}"]
        return [*left, await run.tool(shop.buy, 1), await run.tool(shop.buy, 2)]

    machine = twice(shop, work, per_visit=Budget(money="0.30"))

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await finished(rt, machine)
            (_, move) = await rt.history(run.id)
            assert (run.state, move.event) == ("broke", "budget_exhausted")
            told = move.payload
            assert (told["scope"], told["unit"], told["used"], told["limit"]) == ("visit", "money", 0.2, 0.3)
            (budget, *_) = await rt.calls(run.id)
            assert budget.result["left"] == {"money": 0.3}

    asyncio.run(go())


def test_a_state_that_makes_no_calls_may_ask_nobody(url: str) -> None:
    shop = Shop()

    async def work(run: Run[Note]) -> list[str]:
        assert (await run.budget()).left("calls") == 0
        await run.now()  # What never leaves the process is no call of a model or tool.
        return [await run.tool(shop.buy, 1)]

    machine = twice(shop, work, per_visit=0)

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            assert (await finished(rt, machine)).state == "broke"
            assert shop.sold == []

    asyncio.run(go())


@pytest.mark.slow
def test_what_a_child_run_spends_counts_for_the_visit_that_started_it(url: str) -> None:
    shop, kid = Shop(), Machine("kid", data=Note)

    @kid.state(start=True, tools=[shop.buy])
    async def buying(run: Run[Note]) -> Stop:
        return Stop(seen=[await run.tool(shop.buy, number) for number in range(2)])

    kid.transitions(buying.on(Stop) >> kid.final("bought", ok=True), kid.anywhere.on(Failure) >> kid.final("stuck"))

    async def work(run: Run[Note]) -> list[str]:
        one = await run.child(kid, Note(seen=["one"]))
        two = await run.child(kid, Note(seen=["two"]), ok_only=False)
        return [one.state, two.state]

    machine = twice(shop, work, per_visit=Budget(calls=3), children=[kid])

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await finished(rt, machine)
            assert (await rt.data(run.id, Note)).seen == ["bought", "stuck"] * 2
            stuck = next(each for each in await rt.runs() if each.state == "stuck")
            assert (await rt.history(stuck.id))[-1].payload["scope"] == "parent"
            assert len(shop.sold) == 6

    asyncio.run(go())


def test_a_review_asks_no_model(url: str) -> None:
    machine, llm = Machine("review", data=Note), ScriptedLLM(["never asked"])

    @machine.state(start=True)
    async def work(run: Run[Note]) -> Again:
        return Again()

    @machine.review(timeout=minutes(1))
    async def question(run: Run[Note]) -> Ask[Stop]:
        return Ask(await run.llm.ask("What shall I ask?"))

    failed = machine.final("failed")
    rows = [work.on(Again) >> question, question.on(Stop) >> machine.final("done", ok=True)]
    machine.transitions(*rows, machine.anywhere.on(Failure) >> failed)

    async def go() -> None:
        async with Runtime(url, machines=[machine], llm=llm) as rt:
            run = await finished(rt, machine)
            last = (await rt.history(run.id))[-1]
            assert (run.state, last.event) == ("failed", "handler_failed")
            assert "question is a review, and asks no model" in last.payload["message"]
            assert llm.requests == []

    asyncio.run(go())


@pytest.mark.slow
def test_a_crash_in_the_middle_of_a_visit_neither_gives_it_more_nor_less(tmp_path: Path) -> None:
    """The cap has room for exactly what is bought in each visit: a call charged twice would end as broke."""

    def world(name: str) -> tuple[Shop, World[Note]]:
        shop = Shop()

        async def work(run: Run[Note]) -> list[str]:
            bought = [await run.tool(shop.buy, number) for number in range(2)]
            try:
                return [*bought, await run.tool(shop.buy, 2)]
            except OverBudget:
                return bought

        (tmp_path / name).mkdir()
        return shop, World(tmp_path / name, twice(shop, work, per_visit=Budget(calls=2)), Note())

    _, whole = world("whole")
    assert lives(whole, []).state == "done"
    for at in range(0, whole.points[0], 5):
        shop, dying = world(str(at))
        assert lives(dying, [at]).state == "done"
        meters = dying.ask("SELECT meter, used FROM meters WHERE meter LIKE 'visit:%' ORDER BY meter")
        assert [used for _, used in meters] == [2, 2], at
        assert dying.ask("SELECT count(*) FROM reservations") == [(0,)]
        assert 4 <= len(shop.sold) <= 5


# --- as declared -----------------------------------------------------------------------------------------------------


def plain(**of_state: Any) -> Machine[Note]:
    async def nothing(run: Run[Note]) -> list[str]:
        return []

    return twice(Shop(), nothing, **of_state)


def test_a_cap_is_part_of_the_machine_only_where_it_is_given() -> None:
    def described(**of_state: Any) -> Any:
        return json.loads(plain(**of_state).definition.spec)["states"][0].get("per_visit")

    assert described() is None
    assert described(per_visit=0) == {"calls": 0}
    assert described(per_visit=Budget(10, money="0.50", warn_at=0.1)) == {"tokens": 10, "money": "0.5"}
    prints = {plain(per_visit=cap).definition.fingerprint for cap in (None, 0, Budget(10), Budget(11))}
    assert len(prints) == 4
    assert plain(per_visit=Budget(10)).definition.fingerprint == plain(per_visit=Budget(10, warn_at=0.5)).definition.fingerprint


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Budget(wall=seconds(3)), "per_visit has no wall"),
        (1, "per_visit is a Budget, or 0"),
        (False, "per_visit is a Budget, or 0"),
        ("0", "per_visit is a Budget, or 0"),
    ],
)
def test_what_cannot_bound_a_visit_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plain(per_visit=wrong)
