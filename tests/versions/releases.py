"""One machine as its authors change it: a clerk that pays bills, asks first, and lets a person look at the receipt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec

from statecraft import (
    Append,
    Ask,
    CallInfo,
    Data,
    Event,
    Failure,
    GatePolicy,
    Machine,
    Migration,
    Run,
    Runtime,
    Settings,
    hours,
    tool,
)
from statecraft.store import port
from statecraft.testing import ManualClock


class Bill(Data):
    amount: int = 100
    receipts: Append[list[str]] = []


class Account(Data):
    """What a bill is called later."""

    cents: int
    receipts: Append[list[str]] = []
    checked: bool = False


class Paid(Event):
    receipts: list[str]


class Approved(Event):
    note: str = ""


class Rejected(Event):
    note: str = ""


class Accepted(Event):
    note: str = ""


@dataclass
class Office:
    """The world outside: what was paid, and one tool to pay with."""

    url: str
    clock: ManualClock = field(default_factory=ManualClock)
    paid: list[tuple[str, str]] = field(default_factory=list)
    """(what, idempotency key) of each call that took effect."""
    door: asyncio.Event | None = None
    """While there is one, `weigh` does not come back."""

    def __post_init__(self) -> None:
        @tool(effect="read", risk="low")
        async def weigh(info: CallInfo, amount: int) -> int:
            """Look at a bill."""
            self.paid.append(("weigh", info.key))
            return amount

        @tool(effect="once", risk="high")
        async def pay(info: CallInfo, amount: int) -> str:
            """Pay somebody."""
            self.paid.append(("pay", info.key))
            return f"paid {amount}"

        self.weigh, self.pay = weigh, pay

    @property
    def effects(self) -> list[str]:
        return [what for what, _ in self.paid]

    def first(self, *, version: str = "1") -> Machine[Bill]:
        """The first release: `paying`, then `checking` by a person."""
        clerk = Machine("clerk", data=Bill, version=version, max_steps=10)

        @clerk.state(start=True, tools=[self.weigh, self.pay], max_visits=2)
        async def paying(run: Run[Bill]) -> Paid:
            amount = await run.tool(self.weigh, run.data.amount)
            return Paid(receipts=[await run.tool(self.pay, amount)])

        @clerk.review(timeout=hours(8))
        async def checking(run: Run[Bill]) -> Ask[Approved | Rejected]:
            return Ask("Is this right?", show=run.data.receipts)

        done, failed = clerk.final("done", ok=True), clerk.final("failed")
        clerk.transitions(
            paying.on(Paid) >> checking,
            checking.on(Approved) >> done,
            checking.on(Rejected) >> paying,
            clerk.anywhere.on(Failure) >> failed,
        )
        return clerk

    def renamed(self, *migrations: Migration, version: str = "2") -> Machine[Bill]:
        """The second release: `paying` is called `settling`, and `checking` is called `auditing`."""
        clerk = Machine("clerk", data=Bill, version=version, max_steps=10, migrations=migrations)

        @clerk.state(start=True, tools=[self.weigh, self.pay], max_visits=2)
        async def settling(run: Run[Bill]) -> Paid:
            amount = await run.tool(self.weigh, run.data.amount)
            return Paid(receipts=[await run.tool(self.pay, amount)])

        @clerk.review(timeout=hours(8))
        async def auditing(run: Run[Bill]) -> Ask[Approved | Rejected]:
            return Ask("Is this right?", show=run.data.receipts)

        done, failed = clerk.final("done", ok=True), clerk.final("failed")
        clerk.transitions(
            settling.on(Paid) >> auditing,
            auditing.on(Approved) >> done,
            auditing.on(Rejected) >> settling,
            clerk.anywhere.on(Failure) >> failed,
        )
        return clerk

    def asking_otherwise(self, *migrations: Migration, version: str = "2") -> Machine[Bill]:
        """Another second release: the person accepts instead of approving."""
        clerk = Machine("clerk", data=Bill, version=version, max_steps=10, migrations=migrations)

        @clerk.state(start=True, tools=[self.weigh, self.pay], max_visits=2)
        async def paying(run: Run[Bill]) -> Paid:
            amount = await run.tool(self.weigh, run.data.amount)
            return Paid(receipts=[await run.tool(self.pay, amount)])

        @clerk.review(timeout=hours(8))
        async def checking(run: Run[Bill]) -> Ask[Accepted | Rejected]:
            return Ask("Is this right?", show=run.data.receipts)

        done, failed = clerk.final("done", ok=True), clerk.final("failed")
        clerk.transitions(
            paying.on(Paid) >> checking,
            checking.on(Accepted) >> done,
            checking.on(Rejected) >> paying,
            clerk.anywhere.on(Failure) >> failed,
        )
        return clerk

    def in_cents(self, *migrations: Migration, version: str = "2") -> Machine[Account]:
        """Another release: the same states, other data."""
        clerk = Machine("clerk", data=Account, version=version, max_steps=10, migrations=migrations)

        @clerk.state(start=True, tools=[self.weigh, self.pay], max_visits=2)
        async def paying(run: Run[Account]) -> Paid:
            # What is paid is said as before: the approval is for exactly that.
            amount = await run.tool(self.weigh, 100)
            return Paid(receipts=[await run.tool(self.pay, amount)])

        @clerk.review(timeout=hours(8))
        async def checking(run: Run[Account]) -> Ask[Approved | Rejected]:
            return Ask("Is this right?", show=run.data.receipts)

        done, failed = clerk.final("done", ok=True), clerk.final("failed")
        clerk.transitions(
            paying.on(Paid) >> checking,
            checking.on(Approved) >> done,
            checking.on(Rejected) >> paying,
            clerk.anywhere.on(Failure) >> failed,
        )
        return clerk

    @asynccontextmanager
    async def open(self, *machines: Machine[Any], store: port.Store | None = None, **settings: Any) -> AsyncIterator[Runtime]:
        """A runtime with these releases; another one every time."""
        made = Settings(**{"gate": GatePolicy(max_auto_risk="medium"), **settings})
        async with Runtime(self.url, machines=machines, settings=made, clock=self.clock, store=store) as runtime:
            yield runtime


RENAMED = {"paying": "settling", "checking": "auditing"}


P = ParamSpec("P")


def awaited(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, run in a loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def since(*origins: str, **rest: Any) -> Migration:
    return Migration(since=origins, **rest)


async def sound(runtime: Runtime, run_id: str) -> None:
    """What holds of every run, migrated or not."""
    assert await runtime.verify(run_id) == []
    replayed = await runtime.replay(run_id)
    assert replayed.agrees, str(replayed.divergence)


def names(records: Sequence[Any]) -> list[str]:
    return [record.name for record in records]
