"""Where two members of the stack, or two parts of a run, meet: budgets, breakers, gates, doubts, children, time."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import (
    Append,
    Approve,
    Budget,
    BudgetExhausted,
    BudgetWarning,
    CallError,
    CallInfo,
    Data,
    DidNotHappen,
    Event,
    Failure,
    GatePolicy,
    GiveUp,
    Happened,
    Machine,
    Reject,
    Run,
    RunRecord,
    Runtime,
    Settings,
    any_of,
    hours,
    minutes,
    tool,
)
from statecraft.calls.breaker import BreakerPolicy
from statecraft.calls.retry import RetryPolicy
from statecraft.errors import ErrorKind, RunClosed
from statecraft.llm.port import ModelError
from statecraft.llm.scripted import ScriptedLLM
from statecraft.records import Status, Waiting
from statecraft.testing import ManualClock
from tests.children.kin import children_of, sound
from tests.runtime.test_budgets import PRICES, Note, Stop, agrees, charged, one_state

CENTS_20 = 200_000_000
GATED = Settings(gate=GatePolicy(max_auto_risk="safe"))


async def settle(rt: Runtime, run: RunRecord) -> RunRecord:
    return await rt.wait(run.id, timeout=timedelta(seconds=20))


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "runs.db")) as raw:
        return raw.execute(sql).fetchall()


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


def test_a_failed_probe_that_may_have_been_billed_is_charged(place: str) -> None:
    broken = ModelError("the connection broke", kind=ErrorKind.TRANSIENT, maybe_billed=True)
    model = ScriptedLLM([broken, broken, "at last"], model="big")

    async def work(run: Run[Note]) -> Stop:
        return Stop(text=await run.llm.ask("well?", max_tokens=4000))

    async def story() -> None:
        machine = one_state(work, Budget(money="0.65"))
        settings = Settings(
            prices=PRICES, retry=RetryPolicy(first=0.0), breaker=BreakerPolicy(failures=1, open_for=0.01, longest=0.01)
        )
        async with Runtime(place, machines=[machine], llm=model, settings=settings) as rt:
            run = await settle(rt, await rt.start(machine, Note()))
            assert run.state == "done"
            (call,) = await rt.calls(run.id)
            assert call.attempts == 2
            assert await charged(rt, run, "money") == 2 * CENTS_20 + (call.cost or 0)

    asyncio.run(story())


class Till:
    """A payment that may hang after it took effect."""

    def __init__(self, hangs: int = 0) -> None:
        self.paid: list[str] = []
        self.hangs = hangs
        self.reached = asyncio.Event()

        @tool(effect="once", risk="low", price="0.20", timeout=minutes(1))
        async def pay(info: CallInfo, amount: int) -> str:
            """Pay."""
            self.paid.append(info.key)
            if len(self.paid) <= self.hangs:
                self.reached.set()
                await asyncio.Event().wait()
            return f"paid {amount}"

        self.pay = pay


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["crash", "timeout"])
@pytest.mark.parametrize(
    ("decision", "end", "cost"),
    [(Happened("paid 7"), "done", CENTS_20), (DidNotHappen(), "done", CENTS_20), (GiveUp("?"), "failed", None)],
)
def test_a_payment_in_doubt_is_charged_once_unless_it_is_known_not_to_have_happened(
    place: str, lost: str, decision: Any, end: str, cost: int | None
) -> None:
    async def story() -> None:
        till, clock = Till(hangs=1), ManualClock()

        async def work(run: Run[Note]) -> Stop:
            return Stop(text=await run.tool(till.pay, 7))

        machine = one_state(work, Budget(money="0.20", calls=1, warn_at=1), tools=[till.pay])
        async with Runtime(place, machines=[machine], clock=clock) as rt:
            run = await rt.start(machine, Note())
            await till.reached.wait()
            if lost == "timeout":
                await clock.advance(minutes(1))
                await settle(rt, run)
        async with Runtime(place, machines=[machine], clock=clock) as rt:
            assert (await settle(rt, run)).waiting_for is Waiting.REVIEW
            await rt.decide(run.id, decision, by="ann")
            assert (await settle(rt, run)).state == end
            (call,) = await rt.calls(run.id)
            assert call.cost == cost
            assert await charged(rt, run, "money") == CENTS_20
            assert await charged(rt, run, "calls") == 1
            await agrees(rt, run)

    asyncio.run(story())


class Family(Data):
    parts: Append[list[str]] = []


class Joined(Event):
    parts: list[str] = []


def spender(till: list[str]) -> Machine[Note]:
    @tool(price="0.45", risk="safe")
    async def buy() -> str:
        """Buy."""
        till.append("bought")
        return "bought"

    machine = Machine("spender", data=Note)

    @machine.state(start=True, tools=[buy])
    async def spending(run: Run[Note]) -> Stop:
        if run.data.text == "late":
            await run.sleep(5400)  # Longer than any limit of these tests, so that nothing is due with it.
        return Stop(text=await run.tool(buy))

    machine.transitions(
        spending.on(Stop) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> machine.final("failed")
    )
    return machine


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["run", "state"])
@pytest.mark.parametrize(
    ("limits", "items"), [(Budget(money="0.90", warn_at=0.4), ["soon", "late"]), (Budget(money="0.45"), ["soon"])]
)
def test_what_children_spend_does_not_cut_off_the_visit_that_waits_for_them(
    place: str, scope: str, limits: Budget, items: list[str]
) -> None:
    async def story() -> None:
        till: list[str] = []
        clock = ManualClock()
        child = spender(till)
        machine = Machine("family", data=Family, budget=limits if scope == "run" else None)

        @machine.state(start=True, children=[child], budget=limits if scope == "state" else None)
        async def joining(run: Run[Family]) -> Joined:
            async def one(text: str) -> str:
                return (await run.child(child, Note(text=text))).data.text

            return Joined(parts=await run.map(one, items))

        @machine.state()
        async def short(run: Run[Family]) -> Joined:
            return Joined(parts=["short"])

        machine.transitions(
            joining.on(Joined) >> machine.final("done", ok=True),
            short.on(Joined) >> machine.final("cheap", ok=True),
            joining.on(BudgetWarning) >> short,
            machine.anywhere.on(BudgetExhausted) >> short,
            machine.anywhere.on(Failure) >> machine.final("failed"),
        )
        async with Runtime(place, machines=[machine], clock=clock) as rt:
            run = await rt.start(machine, Family())
            parks = 0
            async for entry in rt.follow(run.id):
                parks += entry.kind == "waiting"
                if parks == 2:  # For both; and again when the first has ended.
                    await clock.advance(timedelta(hours=2))
                    rt._worker.poke()
            run = await settle(rt, run)
            assert [each.status for each in await children_of(rt, run)] == [Status.DONE] * len(items)
            assert run.state == "done"
            await sound(rt)

    asyncio.run(story())


@pytest.mark.slow
def test_of_gated_calls_beyond_the_concurrency_each_is_asked_about_in_its_turn(place: str) -> None:
    async def story() -> None:
        till = Till()

        async def work(run: Run[Note]) -> Stop:
            async def one(n: int) -> str:
                try:
                    return await run.tool(till.pay, n)
                except CallError as error:
                    return str(error.kind)

            return Stop(seen=await run.map(one, range(7), concurrency=3))

        machine = one_state(work, tools=[till.pay])
        settings = Settings(gate=GatePolicy(max_auto_risk="safe"))
        seen = []
        async with Runtime(place, machines=[machine], settings=settings, clock=ManualClock()) as rt:
            run = await rt.start(machine, Note())
            while not (run := await settle(rt, run)).status.closed:
                waiting = await rt.reviews(run.id, open_only=True)
                assert len(waiting) <= 3
                last = waiting[-1]
                seen.append(last.arguments["amount"])
                await rt.decide(run.id, Reject("no") if last.arguments["amount"] == 4 else Approve(), by="ann", review=last.id)
            assert sorted(seen) == list(range(7))
            data = await rt.data(run.id)
            assert isinstance(data, Note)
            assert data.seen == ["rejected" if n == 4 else f"paid {n}" for n in range(7)]
            assert len(till.paid) == 6
            await agrees(rt, run)

    asyncio.run(story())


# --- several at once ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_calls_in_a_task_group_wait_for_a_person_like_any_others(place: str) -> None:
    async def story() -> None:
        @tool(effect="idempotent", risk="high")
        async def file(n: int) -> str:
            """File it."""
            return f"filed {n}"

        async def work(run: Run[Note]) -> Stop:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run.tool(file, n)) for n in range(2)]
            return Stop(seen=[task.result() for task in tasks])

        machine = one_state(work, tools=[file])
        settings = Settings(gate=GatePolicy(max_auto_risk="safe"))
        async with Runtime(place, machines=[machine], settings=settings, clock=ManualClock()) as rt:
            run = await rt.start(machine, Note())
            while not (run := await settle(rt, run)).status.closed:
                review = (await rt.reviews(run.id, open_only=True))[0]
                await rt.decide(run.id, Approve(), by="ann", review=review.id)
            assert run.state == "done"
            await agrees(rt, run)

    asyncio.run(story())


def waiting_for_both(till: Till, child: Machine[Any], **more: Any) -> Machine[Family]:
    """One state that waits for a person and for a child run at once."""
    machine = Machine("both", data=Family, **more)

    @machine.state(start=True, children=[child], tools=[till.pay])
    async def working(run: Run[Family]) -> Joined:
        async def pay() -> str:
            return str(await run.tool(till.pay, 1))

        async def rest() -> str:
            return str((await run.child(child, Note(text="late"))).data.text)

        return Joined(parts=list(await run.gather(pay(), rest())))

    machine.transitions(
        working.on(Joined) >> machine.final("done", ok=True),
        machine.anywhere.on(BudgetExhausted) >> machine.final("broke"),
        machine.anywhere.on(Failure) >> machine.final("failed"),
    )
    return machine


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "end"), [({"budget": Budget(wall=minutes(30))}, "broke"), ({"deadline": minutes(30)}, "failed")]
)
def test_when_time_is_up_the_question_is_closed_and_the_child_is_gone(place: str, more: dict[str, Any], end: str) -> None:
    async def story() -> None:
        till, clock = Till(), ManualClock()
        machine = waiting_for_both(till, spender([]), **more)
        async with Runtime(place, machines=[machine], settings=GATED, clock=clock) as rt:
            run = await settle(rt, await rt.start(machine, Family()))
            (review,) = await rt.reviews(run.id, open_only=True)
            assert (await rt.resume(run.id, force=True)).epoch == run.epoch
            await clock.advance(minutes(30))
            rt._worker.poke()
            run = await settle(rt, run)
            assert run.state == end
            (child,) = await children_of(rt, run)
            assert child.status in {Status.CANCELLED, Status.FAILED}  # The time of the budget is the child's as well.
            with pytest.raises(RunClosed):
                await rt.decide(run.id, Approve(), by="ann", review=review.id)
            assert await rt.reviews(open_only=True) == []
            assert till.paid == []
            await sound(rt)

    asyncio.run(story())


@pytest.mark.slow
def test_a_decision_and_the_end_of_a_child_each_let_the_other_go_on_waiting(place: str) -> None:
    async def story() -> None:
        till, clock = Till(), ManualClock()
        machine = waiting_for_both(till, spender([]), budget=Budget(money="0.65"))
        async with Runtime(place, machines=[machine], settings=GATED, clock=clock) as rt:
            run = await settle(rt, await rt.start(machine, Family()))
            await clock.advance(hours(2))
            rt._worker.poke()
            (child,) = await children_of(rt, run)
            assert (await rt.wait(child.id)).status is Status.DONE
            assert (await settle(rt, run)).waiting_for is Waiting.REVIEW
            await rt.decide(run.id, Approve(), by="ann")
            assert (await settle(rt, run)).state == "done"
            assert await charged(rt, run, "money") == 650_000_000
            await sound(rt)

    asyncio.run(story())


def test_cancelling_a_family_in_the_middle_of_a_call_leaves_nothing_reserved(place: str, tmp_path: Path) -> None:
    async def story() -> None:
        till = Till(hangs=1)

        async def pay(run: Run[Note]) -> Stop:
            return Stop(text=await run.tool(till.pay, 1))

        child = one_state(pay, tools=[till.pay])
        machine = Machine("family", data=Family, budget=Budget(money="0.20"))

        @machine.state(start=True, children=[child])
        async def working(run: Run[Family]) -> Joined:
            return Joined(parts=[(await run.child(child, Note())).data.text])

        machine.transitions(
            working.on(Joined) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> machine.final("failed")
        )
        async with Runtime(place, machines=[machine]) as rt:
            run = await rt.start(machine, Family())
            await till.reached.wait()
            assert rows(tmp_path, "SELECT sum(amount) FROM reservations") == [(CENTS_20,)]
            await rt.cancel(run.id, by="ann", reason="enough")
        assert rows(tmp_path, "SELECT count(*) FROM reservations") == [(0,)]
        assert rows(tmp_path, "SELECT used FROM meters WHERE used > 0") == []

    asyncio.run(story())


def test_the_decision_about_an_item_that_was_not_chosen_has_no_effect(place: str) -> None:
    async def story() -> None:
        till, clock = Till(), ManualClock()

        async def work(run: Run[Note]) -> Stop:
            async def one(n: int) -> str:
                if n:
                    await run.sleep(timedelta(hours=1))
                    return "slept"
                return await run.tool(till.pay, 1)

            said = await run.map(one, [0, 1], join=any_of)
            await run.sleep(timedelta(hours=1))
            return Stop(text=said)

        machine = one_state(work, tools=[till.pay])
        async with Runtime(place, machines=[machine], settings=GATED, clock=clock) as rt:
            run = await settle(rt, await rt.start(machine, Note()))
            (review,) = await rt.reviews(run.id, open_only=True)
            await clock.advance(hours(1))
            rt._worker.poke()
            async for entry in rt.follow(run.id, after=0):
                if entry.kind == "waiting" and entry.detail.get("waiting_for") == "timer":
                    break
            await rt.decide(run.id, Approve(), by="ann", review=review.id)
            await clock.advance(hours(1))
            rt._worker.poke()
            run = await settle(rt, run)
            assert run.state == "done"
            assert till.paid == []
            await agrees(rt, run)

    asyncio.run(story())


def test_what_escapes_a_task_group_counts_as_what_it_is(place: str) -> None:
    async def story() -> None:
        till = Till()

        async def work(run: Run[Note]) -> Stop:
            async with asyncio.TaskGroup() as group:
                group.create_task(run.tool(till.pay, 1))
            return Stop()

        async def other(run: Run[Note]) -> Stop:
            async with asyncio.TaskGroup() as group:
                group.create_task(run.tool(till.pay, 2))
            return Stop()

        machine = one_state(work, Budget(money="0.10"), tools=[till.pay])
        async with Runtime(place, machines=[machine]) as rt:
            run = await settle(rt, await rt.start(machine, Note()))
            assert run.state == "broke"
            await agrees(rt, run)
            replayed = await rt.replay(run.id, one_state(other, Budget(money="0.10"), tools=[till.pay]))
            assert "a call that the record does not have" in str(replayed.divergence)

    asyncio.run(story())


def test_a_run_that_waits_reserves_nothing_although_a_call_was_left_behind(place: str, tmp_path: Path) -> None:
    async def story() -> None:
        till = Till(hangs=1)

        @tool(risk="high")
        async def careful() -> None:
            """Something to ask about."""

        async def work(run: Run[Note]) -> Stop:
            async def later() -> None:
                await till.reached.wait()
                await run.tool(careful)

            await asyncio.gather(run.tool(till.pay, 1), later())  # Unlike run.gather, this one does not wait for both.
            return Stop()

        machine = one_state(work, Budget(money="0.20"), tools=[till.pay, careful])
        settings = Settings(gate=GatePolicy(max_auto_risk="low"))
        async with Runtime(place, machines=[machine], settings=settings) as rt:
            await settle(rt, await rt.start(machine, Note()))
            assert rows(tmp_path, "SELECT count(*) FROM reservations") == [(0,)]

    asyncio.run(story())


@pytest.mark.slow
def test_children_that_spend_at_once_never_overshoot_their_parents_budget(place: str) -> None:
    async def story() -> None:
        till: list[str] = []
        child = spender(till)
        machine = Machine("family", data=Family, budget=Budget(money="1.00"))

        @machine.state(start=True, children=[child])
        async def working(run: Run[Family]) -> Joined:
            ends = await run.map(lambda _: run.child(child, Note(), ok_only=False), range(5))
            return Joined(parts=[end.state for end in ends])

        machine.transitions(
            working.on(Joined) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> machine.final("failed")
        )
        async with Runtime(place, machines=[machine]) as rt:
            run = await settle(rt, await rt.start(machine, Family()))
            data = await rt.data(run.id)
            assert isinstance(data, Family)
            assert sorted(data.parts) == ["done", "done", "failed", "failed", "failed"]
            assert await charged(rt, run, "money") == 900_000_000
            refused = [each for each in await children_of(rt, run) if each.status is Status.FAILED]
            lasts = [(await rt.history(each.id))[-1] for each in refused]
            assert {(last.event, last.payload["scope"]) for last in lasts} == {("budget_exhausted", "parent")}
            await sound(rt)

    asyncio.run(story())
