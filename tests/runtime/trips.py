"""A trip that is planned, asked about and paid: what the tests of forks share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from statecraft import (
    Append,
    Ask,
    Budget,
    CallError,
    CallInfo,
    Data,
    Event,
    Machine,
    OperatorEvent,
    ReviewExpired,
    Run,
    RunRecord,
    Runtime,
    Settings,
    VisitsExhausted,
    tool,
)
from statecraft.calls.retry import RetryPolicy
from statecraft.errors import ErrorKind
from statecraft.testing import ManualClock

LONG = timedelta(days=300)
"""No lease ends and no poller looks around by itself."""


class Trip(Data):
    city: str = "rome"
    plan: str = ""
    notes: Append[list[str]] = []
    paid: str = ""


class Planned(Event):
    plan: str
    notes: list[str] = []


class Fine(Event):
    notes: list[str] = []


class Other(Event):
    city: str


class Paid(Event):
    paid: str


class Forgive(OperatorEvent): ...


def cheap(event: Planned, data: Trip) -> bool:
    """A guard."""
    return "palace" not in event.plan


@dataclass
class Agency:
    """The world outside: what was done in it, and whether the bank is open."""

    url: str
    done: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    closed: bool = False
    clock: ManualClock = field(default_factory=ManualClock)
    settings: Settings = field(default_factory=lambda: Settings(lease=LONG, poll=LONG, retry=RetryPolicy(first=0.0)))

    @asynccontextmanager
    async def open(self, *machines: Machine[Any], **other: Any) -> AsyncIterator[Runtime]:
        settings = replace(self.settings, **other)
        async with Runtime(self.url, machines=machines, clock=self.clock, settings=settings) as rt:
            yield rt

    def trips(self, **bounds: Any) -> Machine[Trip]:
        """Plans with a call, asks a person, pays with a `once` call; no row takes a failure of the bank."""
        machine = Machine("trips", data=Trip, **{"max_steps": 10, "budget": Budget(calls=20), **bounds})

        @tool(effect="read", risk="safe")
        async def look(city: str) -> str:
            """Look a city up."""
            self.done.append(f"look {city}")
            return f"{len(self.done)} days in {city}"

        @tool(effect="once", risk="low")
        async def pay(info: CallInfo, plan: str) -> str:
            """Pay for a plan."""
            if self.closed:
                raise CallError("the bank is closed", kind=ErrorKind.PERMANENT, name="pay")
            self.done.append(f"pay {plan}")
            self.keys.append(info.key)
            return f"receipt {len(self.done)}"

        @machine.state(start=True, tools=[look], max_visits=3)
        async def planning(run: Run[Trip]) -> Planned:
            return Planned(plan=await run.tool(look, run.data.city), notes=[run.data.city])

        @machine.review(timeout=timedelta(days=2))
        async def asking(run: Run[Trip]) -> Ask[Fine | Other]:
            return Ask("Go?", show=run.data.plan)

        @machine.state(tools=[pay])
        async def paying(run: Run[Trip]) -> Paid:
            return Paid(paid=await run.tool(pay, run.data.plan))

        gone, home = machine.final("gone", ok=True), machine.final("home")
        machine.transitions(
            planning.on(Planned.when(cheap)) >> asking,
            planning.on(Planned) >> home,
            asking.on(Fine) >> paying,
            asking.on(Other) >> planning,
            paying.on(Paid) >> gone,
            planning.on(VisitsExhausted) >> home,
            asking.on(ReviewExpired) >> home,
            machine.anywhere.on(Forgive) >> home,
        )
        return machine


async def waiting(rt: Runtime, machine: Machine[Trip], **start: Any) -> RunRecord:
    """A run that asks whether to go."""
    run = await rt.wait((await rt.start(machine, Trip(), **start)).id)
    assert (run.status, run.state) == ("waiting", "asking")
    return run


async def gone(rt: Runtime, machine: Machine[Trip], **start: Any) -> RunRecord:
    """A run that is done, after the person had it planned again for another city."""
    run = await waiting(rt, machine, **start)
    await rt.send(run.id, Other(city="oslo"), by="ann")
    await rt.wait(run.id)
    await rt.send(run.id, Fine(notes=["ok"]), by="ann")
    run = await rt.wait(run.id)
    assert run.status == "done", run
    return run


async def sound(rt: Runtime, *runs: RunRecord) -> None:
    """Each run verifies and replays."""
    for run in runs:
        assert await rt.verify(run.id) == []
        replayed = await rt.replay(run.id)
        assert replayed.agrees, str(replayed.divergence)


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    asyncio.run(asyncio.wait_for(whole(), 30))
