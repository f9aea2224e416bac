"""Budgets around a call, against a store that only keeps the accounts: what is reserved, charged, given back and refused."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecraft.calls import stack
from statecraft.calls.budget import Budgets, TenantBudget, scope_of, tenant_draws
from statecraft.calls.call import Call, Failure, Reply, Scope
from statecraft.calls.classify import of_model, of_tool
from statecraft.calls.deadline import AttemptTimeout
from statecraft.calls.park import NotYet
from statecraft.calls.retry import RetryPolicy
from statecraft.calls.visit import Visit, failed, revive
from statecraft.clock import days, hours, minutes
from statecraft.errors import CallError, ConfigError, ErrorKind, OverBudget, StoreUnavailable
from statecraft.llm.port import ModelError
from statecraft.llm.prices import Price, price_book
from statecraft.machine.budget import Budget
from statecraft.money import BILLION, billionths, decimal
from statecraft.records import Draw, Usage, Waiting
from statecraft.store import port
from statecraft.testing import ManualClock

RUN = bytes(range(16))
OWN = f"run:{RUN.hex()}"
SECOND = 1_000_000


def money(dollars: str) -> int:
    return billionths(decimal(dollars, "it"))


@dataclass
class Ledger:
    """A store that keeps accounts, and remembers every write."""

    charged: dict[str, int] = field(default_factory=dict)
    reserved: dict[tuple[bytes, int], tuple[port.Amount, ...]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    refusing: Exception | None = None

    async def submit(self, write: object) -> object:
        self.writes.append(type(write).__name__)
        if self.refusing is not None:
            raise self.refusing
        await asyncio.sleep(0)
        if isinstance(write, port.Reserve):
            return self._reserve(write)
        if isinstance(write, port.Settle | port.Call):
            self.reserved.pop((write.digest, write.occurrence), None)
            for charge in write.charges:
                self.charged[charge.meter] = self.charged.get(charge.meter, 0) + charge.amount
        return None

    def _reserve(self, write: port.Reserve) -> port.Reserved:
        used = {amount.meter: self.charged.get(amount.meter, 0) for amount in write.amounts}
        self.reserved.pop((write.digest, write.occurrence), None)
        for amount in write.amounts:
            others = sum(each.amount for held in self.reserved.values() for each in held if each.meter == amount.meter)
            if used[amount.meter] + others + amount.amount > amount.limit:
                return port.Reserved(amount, used)
        self.reserved[(write.digest, write.occurrence)] = write.amounts
        return port.Reserved(None, used)

    @property
    def clean(self) -> dict[str, int]:
        """The charges, once nothing is reserved any more."""
        assert not self.reserved
        return self.charged


class Refused(Exception):
    """The world's way to fail."""


def verdict(error: Exception) -> Failure:
    return Failure(ErrorKind.TRANSIENT, str(error), maybe_billed="billed" in str(error))


@dataclass
class Desk:
    """Makes calls of one visit through a stack with budgets."""

    ledger: Ledger = field(default_factory=Ledger)
    draws: tuple[Draw, ...] = ()
    tenant: str | None = None
    tenants: tuple[TenantBudget, ...] = ()
    prices: dict[str, Price] = field(default_factory=dict)
    clock: ManualClock = field(default_factory=ManualClock)
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.visit = Visit(cast(port.Store, self.ledger), self.clock, RUN, 3, 1)
        self.scope = Scope(RUN.hex(), "work", None, self.tenant, self.draws)
        self.through = stack.build(RetryPolicy(first=0.0), lambda: 0.0, budget=Budgets(price_book(self.prices), self.tenants))

    def tool(
        self, price: str | None, perform: Callable[[Call], Awaitable[Reply]] | None = None, **changes: Any
    ) -> Awaitable[Reply]:
        async def answer(call: Call) -> Reply:
            self.made.append(call.name)
            await asyncio.sleep(0)
            return Reply('"ok"')

        digest, occurrence, key = self.visit.identify("tool", "{}")
        call = Call(self.visit, "tool", "search", "{}", digest, occurrence, key, perform or answer, verdict)
        amount = None if price is None else money(price)
        given: dict[str, Any] = {"dependency": "tool:search", "scope": self.scope, "price": amount, **changes}
        return self.through(replace(call, **given))

    def model(self, worst: Usage, used: Usage, model: str = "m", **changes: Any) -> Awaitable[Reply]:
        async def answer(call: Call) -> Reply:
            self.made.append(call.name)
            return Reply('"ok"', used, model)

        digest, occurrence, key = self.visit.identify("llm", "{}")
        call = Call(self.visit, "llm", "m", "{}", digest, occurrence, key, answer, verdict)
        return self.through(replace(call, dependency="model:m", scope=self.scope, worst=worst, **changes))


def run_budget(**limits: int) -> tuple[Draw, ...]:
    return (Draw(OWN, limits),)


async def all_of(*calls: Awaitable[Reply]) -> list[Reply | BaseException]:
    return await asyncio.gather(*calls, return_exceptions=True)


# --- what does not concern it -----------------------------------------------------------------------------------------


def test_without_a_budget_nothing_is_written_but_the_call() -> None:
    desk = Desk(prices={"m": Price(1, 10)})
    reply = asyncio.run(_one(desk.model(Usage(100, 100), Usage(1000, 100))))
    assert desk.ledger.writes == ["Call"]
    assert (reply.cost, reply.price_source, reply.charges) == (2_000_000, "settings", ())


async def _one(call: Awaitable[Reply]) -> Reply:
    return await call


def test_what_never_leaves_the_process_draws_on_no_budget() -> None:
    desk = Desk(draws=run_budget(calls=1))

    async def go() -> None:
        for _ in range(3):
            await desk.tool(None, dependency="")

    asyncio.run(go())
    assert desk.ledger.charged == {}


def test_a_price_that_nobody_knows_is_no_cost_and_not_zero() -> None:
    desk = Desk()
    reply = asyncio.run(_one(desk.model(Usage(10, 10), Usage(5, 5))))
    assert (reply.cost, reply.price_source) == (None, None)


# --- parallel calls under a cap ---------------------------------------------------------------------------------------


def test_of_eight_calls_of_at_most_20_cents_under_one_dollar_five_are_made() -> None:
    desk = Desk(draws=run_budget(money=money("1.00")))
    answers = asyncio.run(_eight(lambda: desk.tool("0.20")))
    refused = [answer for answer in answers if isinstance(answer, OverBudget)]
    assert (len(desk.made), len(refused)) == (5, 3)
    assert desk.ledger.clean == {f"{OWN}:money": money("1.00")}
    assert {(error.unit, error.scope, error.limit) for error in refused} == {("money", "run", 1.0)}
    assert "it may use $0.20" in str(refused[0])


def test_of_eight_questions_of_at_most_20_cents_five_are_asked_and_only_what_they_used_is_charged() -> None:
    desk = Desk(draws=run_budget(money=money("1.00"), tokens=10_000_000), prices={"m": Price(10, 100)})
    worst, used = Usage(10_000, 1_000), Usage(5_000, 500)  # 0.20 and 0.10 dollars
    answers = asyncio.run(_eight(lambda: desk.model(worst, used)))
    assert sum(isinstance(answer, OverBudget) for answer in answers) == 3
    assert desk.ledger.clean == {f"{OWN}:money": money("0.50"), f"{OWN}:tokens": 5 * 5_500}


async def _eight(call: Callable[[], Awaitable[Reply]]) -> list[Reply | BaseException]:
    return await all_of(*[call() for _ in range(8)])


def test_what_a_reservation_leaves_over_is_there_for_later_calls() -> None:
    desk = Desk(draws=run_budget(tokens=300))

    async def go() -> None:
        for _ in range(10):
            await desk.model(Usage(100, 100), Usage(5, 5))
        with pytest.raises(OverBudget):
            await desk.model(Usage(100, 101), Usage(5, 5))

    asyncio.run(go())
    assert desk.ledger.clean == {f"{OWN}:tokens": 100}


def test_a_refused_call_is_recorded_and_refused_again_without_asking_anybody() -> None:
    desk = Desk(draws=run_budget(tokens=10))

    async def go() -> tuple[str, str]:
        with pytest.raises(OverBudget) as first:
            await desk.model(Usage(5, 6), Usage(1, 1))
        desk.visit.seen.clear()
        desk.ledger.writes.clear()
        with pytest.raises(OverBudget) as second:
            await desk.model(Usage(5, 6), Usage(1, 1))
        return str(first.value), str(second.value)

    first, second = asyncio.run(go())
    assert first == second
    assert (desk.ledger.writes, desk.made) == ([], [])


# --- several budgets --------------------------------------------------------------------------------------------------


def test_a_call_draws_on_every_budget_at_once_and_the_tightest_refuses() -> None:
    state, parent = f"state:{RUN.hex()}:work", "run:" + "ab" * 16
    draws = (*run_budget(tokens=1000), Draw(state, {"calls": 5}), Draw(parent, {"tokens": 150}))
    desk = Desk(draws=draws)

    async def go() -> OverBudget:
        await desk.model(Usage(50, 50), Usage(30, 30))
        with pytest.raises(OverBudget) as refused:
            await desk.model(Usage(50, 50), Usage(30, 30))
        return refused.value

    refused = asyncio.run(go())
    assert (refused.scope, refused.unit, refused.used, refused.limit) == ("parent", "tokens", 60, 150)
    assert desk.ledger.clean == {f"{OWN}:tokens": 60, f"{state}:calls": 1, f"{parent}:tokens": 60}


@pytest.mark.parametrize(
    ("meter", "scope"),
    [(OWN, "run"), (f"state:{RUN.hex()}:a", "state"), ("run:ff", "parent"), ("state:ff:a", "parent"), ("tenant:a:0+1", "tenant")],
)
def test_a_refusal_says_whose_budget_it_was(meter: str, scope: str) -> None:
    assert scope_of(meter, RUN.hex()) == scope


def test_the_calls_of_a_tenant_count_in_the_window_they_are_made_in() -> None:
    desk = Desk(tenant="acme", tenants=(TenantBudget(Budget(calls=2), per=hours(1)),))

    async def go() -> None:
        await all_of(desk.tool(None), desk.tool(None))
        with pytest.raises(OverBudget) as refused:
            await desk.tool(None)
        assert (refused.value.scope, refused.value.unit) == ("tenant", "calls")
        await desk.clock.advance(hours(1))
        await desk.tool(None)

    asyncio.run(go())
    assert sorted(desk.ledger.clean.values()) == [1, 2]


def test_a_run_without_a_tenant_has_no_tenant_budget() -> None:
    desk = Desk(tenants=(TenantBudget(Budget(calls=1), per=hours(1)),))
    asyncio.run(_eight(lambda: desk.tool(None)))
    assert (len(desk.made), desk.ledger.charged) == (8, {})


def test_every_tenant_budget_that_matches_holds_and_windows_of_different_length_are_different_budgets() -> None:
    given = (
        TenantBudget(Budget(money="5", calls=9), per=days(1)),
        TenantBudget(Budget(money="3"), per=days(1), only="ac*"),
        TenantBudget(Budget(money="1"), per=hours(1)),
        TenantBudget(Budget(money="1"), per=hours(1), only="umbrella"),
    )
    day = 24 * 3600 * SECOND
    assert tenant_draws(given, "acme", 2 * day) == (
        Draw(f"tenant:acme:{2 * day}+{day}", {"money": 3 * BILLION, "calls": 9}),
        Draw(f"tenant:acme:{2 * day}+{day // 24}", {"money": BILLION}),
    )


@given(at=st.integers(0, 10**16), length=st.integers(1, 10**6))
def test_an_instant_lies_in_its_window_and_windows_start_at_multiples_of_their_length(at: int, length: int) -> None:
    (draw,) = tenant_draws((TenantBudget(Budget(calls=1), per=timedelta(seconds=length)),), "a", at)
    start, size = map(int, draw.meter.split(":")[2].split("+"))
    assert size == length * SECOND
    assert start % size == 0
    assert start <= at < start + size


def test_after_the_wall_time_no_call_is_made() -> None:
    desk = Desk(draws=run_budget(wall=60 * SECOND))
    until = desk.clock.now() + 60 * SECOND
    desk = Desk(draws=run_budget(wall=60 * SECOND, until=until), clock=desk.clock)

    async def go() -> OverBudget:
        await desk.tool(None)
        await desk.clock.advance(timedelta(seconds=61))
        with pytest.raises(OverBudget) as refused:
            await desk.tool(None)
        return refused.value

    refused = asyncio.run(go())
    assert (refused.unit, refused.used, refused.limit) == ("wall", 61, 60)


# --- failures ---------------------------------------------------------------------------------------------------------


def failing(*errors: Exception) -> Callable[[Call], Awaitable[Reply]]:
    left = list(errors)

    async def perform(call: Call) -> Reply:
        if left:
            raise left.pop(0)
        return Reply('"ok"')

    return perform


def test_a_failed_attempt_gives_its_reservation_back() -> None:
    desk = Desk(draws=run_budget(money=money("0.20")))
    asyncio.run(_one(desk.tool("0.20", failing(Refused("no connection"), Refused("no connection")))))
    assert desk.ledger.clean == {f"{OWN}:money": money("0.20")}


def test_a_failed_attempt_that_may_have_been_billed_is_charged_as_a_whole() -> None:
    desk = Desk(draws=run_budget(money=money("0.30"), calls=10))

    async def go() -> OverBudget:
        with pytest.raises(OverBudget) as refused:
            await desk.tool("0.20", failing(Refused("the answer was cut, maybe billed")))
        return refused.value

    refused = asyncio.run(go())
    assert (refused.used, refused.attempts) == (0.2, 2)
    assert desk.ledger.clean == {f"{OWN}:money": money("0.20"), f"{OWN}:calls": 1}
    assert desk.scope.used == desk.ledger.clean


def test_an_attempt_that_was_not_made_yet_gives_its_reservation_back() -> None:
    desk = Desk(draws=run_budget(calls=1))
    budgets = Budgets(price_book(None))

    async def go() -> None:
        async def open_breaker(call: Call) -> Reply:
            raise NotYet(5, Waiting.BREAKER, "open")

        with pytest.raises(NotYet):
            await budgets(_bare(desk), open_breaker)

    asyncio.run(go())
    assert desk.ledger.clean == {}
    assert desk.ledger.writes == ["Reserve", "Settle"]


def test_a_failed_probe_of_a_breaker_that_may_have_been_billed_is_charged_though_it_is_no_attempt() -> None:
    desk = Desk(draws=run_budget(calls=1))

    async def probed(call: Call) -> Reply:
        raise NotYet(5, Waiting.BREAKER, "the probe failed", maybe_billed=True)

    with pytest.raises(NotYet):
        asyncio.run(Budgets(price_book(None))(_bare(desk), probed))
    assert desk.ledger.clean == desk.scope.used == {f"{OWN}:calls": 1}


def _bare(desk: Desk) -> Call:
    async def never(call: Call) -> Reply:
        raise AssertionError

    call = Call(desk.visit, "tool", "search", "{}", b"d" * 32, 0, "key", never, verdict)
    return replace(call, dependency="tool:search", scope=desk.scope)


@pytest.mark.parametrize("turns", range(6))
def test_a_cancelled_call_gives_its_reservation_back_wherever_it_was(turns: int) -> None:
    desk = Desk(draws=run_budget(calls=1))

    async def go() -> None:
        task = asyncio.ensure_future(desk.tool(None))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert not desk.ledger.reserved
    assert sum(desk.ledger.charged.values()) <= 1


def test_a_store_that_fails_ends_the_visit_and_nothing_is_called() -> None:
    desk = Desk(draws=run_budget(calls=1), ledger=Ledger(refusing=StoreUnavailable("gone")))
    with pytest.raises(StoreUnavailable):
        asyncio.run(_one(desk.tool(None)))
    assert desk.made == []
    assert isinstance(desk.visit.over, StoreUnavailable)


@pytest.mark.parametrize(
    ("classify", "error", "billed"),
    [
        (of_model, ModelError("the connection broke", kind=ErrorKind.TRANSIENT, maybe_billed=True), True),
        (of_model, ModelError("no connection", kind=ErrorKind.TRANSIENT), False),
        (of_model, AttemptTimeout("too long"), True),
        (of_model, ValueError("a bug"), True),
        (of_tool, AttemptTimeout("too long"), True),
        (of_tool, ConnectionResetError("reset"), True),
        (of_tool, ConnectionRefusedError("refused"), False),
        (of_tool, ValueError("its own answer"), True),
    ],
)
def test_an_attempt_may_have_been_billed_once_its_request_may_have_arrived(
    classify: Callable[[Exception], Failure], error: Exception, billed: bool
) -> None:
    assert classify(error).maybe_billed is billed


# --- prices -----------------------------------------------------------------------------------------------------------


def test_money_that_is_limited_is_not_spent_at_an_unknown_price() -> None:
    desk = Desk(draws=run_budget(money=money("100")))
    with pytest.raises(OverBudget, match="no price is known for this model") as refused:
        asyncio.run(_one(desk.model(Usage(1, 1), Usage(1, 1))))
    assert desk.made == []
    assert refused.value.kind is ErrorKind.BUDGET


def test_a_tool_without_a_price_costs_nothing_but_counts_as_a_call() -> None:
    desk = Desk(draws=run_budget(money=1, calls=1))
    asyncio.run(_one(desk.tool(None)))
    assert desk.ledger.clean == {f"{OWN}:calls": 1}


def test_a_call_costs_what_the_model_that_answered_costs() -> None:
    desk = Desk(draws=run_budget(money=money("1")), prices={"m": Price(10, 10), "fallback": Price(1, 1)})
    reply = asyncio.run(_one(desk.model(Usage(1000, 1000), Usage(1000, 0), "fallback")))
    assert reply.cost == money("0.001")
    assert desk.ledger.clean == {f"{OWN}:money": money("0.001")}


def test_a_call_whose_answering_model_has_no_price_costs_what_was_asked_for() -> None:
    desk = Desk(draws=run_budget(money=money("1")), prices={"m": Price(10, 10)})
    assert asyncio.run(_one(desk.model(Usage(1000, 0), Usage(1000, 0), "m-large"))).cost == money("0.01")


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_over_budget_comes_back_from_the_record_and_from_a_pickle_as_it_was() -> None:
    error = OverBudget("no", name="m", attempts=2, unit="money", scope="tenant", used=0.5, limit=1.0)
    for again in (revive("m", 2, json.loads(failed(error))), pickle.loads(pickle.dumps(error))):
        assert isinstance(again, OverBudget)
        assert (again.unit, again.scope, again.used, again.limit) == ("money", "tenant", 0.5, 1.0)
        assert (again.kind, again.name, again.attempts, str(again)) == (ErrorKind.BUDGET, "m", 2, "no")
    assert isinstance(error, CallError)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: TenantBudget(Budget(calls=1), per=timedelta(0)),
        lambda: TenantBudget(Budget(calls=1, wall=minutes(1)), per=hours(1)),
        lambda: TenantBudget(cast(Any, 5), per=hours(1)),
        lambda: TenantBudget(Budget(calls=1), per=cast(Any, 60)),
    ],
)
def test_a_tenant_budget_that_cannot_be_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        wrong()
