"""A small shop for tests of gates and doubts: one state that pays, a world that counts payments, and a clock to move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from statecraft import (
    Append,
    CallError,
    CallFailed,
    CallInfo,
    Data,
    Event,
    Failure,
    GatePolicy,
    Machine,
    ReviewExpired,
    Run,
    RunRecord,
    Runtime,
    Settings,
    tool,
)
from statecraft.llm.port import LLM
from statecraft.records import ReviewRecord, Waiting
from statecraft.testing import ManualClock


class Bill(Data):
    amount: int = 100
    times: int = 1
    confidence: float | None = None
    receipts: Append[list[str]] = []
    told: Append[list[str]] = []


class Paid(Event):
    receipts: list[str] = []
    told: list[str] = []


class Again(Event):
    receipts: list[str] = []


Buying = Callable[[Run[Bill], "Shop"], Awaitable[Paid | Again]]


async def buy(run: Run[Bill], shop: Shop) -> Paid | Again:
    """Pay as often as the bill says, one after the other, and say what was refused."""
    receipts: list[str] = []
    told: list[str] = []
    for _ in range(run.data.times):
        try:
            receipts.append(await run.tool(shop.pay, run.data.amount))
        except CallError as error:
            told.append(f"{type(error).__name__} {error.kind}: {error.message}")
    return Paid(receipts=receipts, told=told)


async def insist(run: Run[Bill], shop: Shop) -> Paid | Again:
    """Pay, and let what goes wrong escape."""
    return Paid(receipts=[await run.tool(shop.pay, run.data.amount)])


@dataclass
class Shop:
    """The world outside: its payments, its clock, its database."""

    folder: Path
    handler: Buying = buy
    policy: GatePolicy = field(default_factory=lambda: GatePolicy(max_auto_risk="medium"))
    llm: LLM | None = None
    timeout: timedelta | None = None
    clock: ManualClock = field(default_factory=ManualClock)
    paid: list[tuple[int, str]] = field(default_factory=list)
    """(amount, idempotency key) of each payment."""
    doors: list[asyncio.Event] = field(default_factory=list)
    """While there is one, a payment has taken effect and does not come back."""
    entered: list[asyncio.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        @tool(effect="once", risk="high")
        async def pay(info: CallInfo, amount: int, to: str = "ann") -> str:
            """Pay somebody."""
            self.paid.append((amount, info.key))
            if self.doors:
                self.entered[-1].set()
                await self.doors[-1].wait()
            return f"paid {amount} to {to}"

        self.pay = pay
        self.machine = self._machine()

    def _machine(self) -> Machine[Bill]:
        shop = Machine("shop", data=Bill, max_steps=10)

        @shop.state(start=True, tools=[self.pay], timeout=self.timeout)
        async def paying(run: Run[Bill]) -> Paid | Again:
            return await self.handler(run, self)

        @shop.state(tools=[self.pay])
        async def resting(run: Run[Bill]) -> Paid:
            return Paid()

        done, late, broken = shop.final("done", ok=True), shop.final("late"), shop.final("broken")
        shop.transitions(
            paying.on(Paid) >> done,
            paying.on(Again) >> paying,
            paying.on(ReviewExpired) >> late,
            paying.on(CallFailed) >> broken,
            resting.on(Paid) >> done,
            shop.anywhere.on(Failure) >> resting,
        )
        return shop

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'shop.db'}"

    @asynccontextmanager
    async def open(self, **settings: Any) -> AsyncIterator[Runtime]:
        """A runtime over the shop's database; another one every time."""
        settings = {"gate": self.policy, **settings}
        async with Runtime(
            self.url, machines=[self.machine], llm=self.llm, settings=Settings(**settings), clock=self.clock
        ) as runtime:
            yield runtime

    async def later(self, runtime: Runtime, delta: timedelta) -> None:
        """Time passes, and the runtime looks at the clock."""
        await self.clock.advance(delta)
        runtime._worker.poke()


async def open_reviews(runtime: Runtime, run: RunRecord) -> list[ReviewRecord]:
    """What the run asks about its calls, having waited for it to ask."""
    run = await runtime.wait(run.id)
    assert run.waiting_for is Waiting.REVIEW, run
    return await runtime.reviews(run.id, open_only=True)


async def only_review(runtime: Runtime, run: RunRecord) -> ReviewRecord:
    (review,) = await open_reviews(runtime, run)
    return review


async def finished(runtime: Runtime, run: RunRecord) -> Bill:
    """The data at the run's end, whose history holds and replays."""
    run = await runtime.wait(run.id)
    assert run.status.closed, run
    assert await runtime.verify(run.id) == []
    replayed = await runtime.replay(run.id)
    assert replayed.agrees, str(replayed.divergence)
    data = await runtime.data(run.id)
    assert isinstance(data, Bill)
    return data
