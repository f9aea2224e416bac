"""What the tests of dead letters share: a world whose dependency fails until it is mended, and a machine that needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from statecraft import Append, CallError, Data, Event, Machine, Run, RunRecord, Runtime, Settings, tool
from statecraft.calls.retry import RetryPolicy
from statecraft.errors import ErrorKind
from statecraft.machine.event import OperatorEvent
from statecraft.testing import ManualClock

LONG = timedelta(days=300)
"""No lease ends and no poller looks around by itself."""


class Order(Data):
    item: str = "tea"
    said: Append[list[str]] = []


class Bought(Event):
    said: list[str] = []


class Skip(OperatorEvent):
    said: list[str] = []


class Close(OperatorEvent): ...


@dataclass
class Plant:
    """The world outside, its clock and its database."""

    folder: Path
    url: str = ""
    down: bool = True
    paid: list[str] = field(default_factory=list)
    """Idempotency keys of what was really charged."""
    asked: list[str] = field(default_factory=list)
    """Idempotency keys of what was asked of the dependency that may be down."""
    clock: ManualClock = field(default_factory=ManualClock)
    settings: Settings = field(default_factory=lambda: Settings(lease=LONG, poll=LONG, retry=RetryPolicy(first=0.0)))

    def __post_init__(self) -> None:
        self.url = self.url or f"sqlite:///{self.folder / 'runs.db'}"

    @asynccontextmanager
    async def runtime(self, *machines: Machine[Any], **other: Any) -> AsyncIterator[Runtime]:
        settings = replace(self.settings, **other)
        async with Runtime(self.url, machines=machines, clock=self.clock, settings=settings) as rt:
            yield rt

    def buying(self, **bounds: Any) -> Machine[Order]:
        """Pays once, then asks a dependency; no row takes a failure, so an outage kills the run."""
        of_state = {name: bounds.pop(name) for name in ("timeout", "max_visits", "budget") if name in bounds}
        machine = Machine("buying", data=Order, **bounds)

        @tool(effect="once")
        async def charge(item: str) -> str:
            """Charge the card."""
            self.paid.append(item)
            return f"paid {len(self.paid)}"

        @tool(effect="idempotent")
        async def ship(item: str) -> str:
            """Ask the shipper, who may be down."""
            self.asked.append(item)
            if self.down:
                raise CallError("the shipper is down", kind=ErrorKind.PERMANENT, name="ship")
            return "shipped"

        @machine.state(start=True, tools=[charge, ship], **of_state)
        async def work(run: Run[Order]) -> Bought:
            first = await run.tool(charge, run.data.item)
            return Bought(said=[first, await run.tool(ship, run.data.item)])

        done, closed = machine.final("done", ok=True), machine.final("closed")
        machine.transitions(work.on(Bought) >> done, work.on(Skip) >> done, machine.anywhere.on(Close) >> closed)
        return machine


async def dead(rt: Runtime, machine: Machine[Order], **start: Any) -> RunRecord:
    """A run that has died."""
    run = await rt.wait((await rt.start(machine, Order(), **start)).id)
    assert run.status == "dead", run
    return run


def play(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(_whole(story), 20))


async def _whole(story: Callable[[], Awaitable[None]]) -> None:
    await story()
