"""What the tests of explain and replay share: a machine that meets what its data says, and runs of every sort recorded of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from statecraft import (
    Append,
    Ask,
    Budget,
    BudgetExhausted,
    Data,
    Event,
    Machine,
    OperatorEvent,
    RetryPolicy,
    ReviewExpired,
    Run,
    RunRecord,
    Runtime,
    Settings,
    StateTimeout,
    VisitsExhausted,
    days,
    minutes,
    tool,
)
from statecraft.testing import ManualClock, ScriptedLLM

LONG = timedelta(days=300)
"""No lease ends and no poller looks around by itself."""


class Letter(Data):
    question: str = "2+2"
    mood: str = "well"
    answer: str = ""
    notes: Append[list[str]] = []


class Sorted(Event):
    answer: str
    notes: list[str] = []


class Unclear(Event):
    notes: list[str]


class Approved(Event):
    note: str = ""


class Rejected(Event):
    reason: str


class Close(OperatorEvent):
    notes: list[str] = []


class Piece(Data):
    n: int = 0
    made: str = ""


class Made(Event):
    made: str


class World:
    """How often the flaky tool fails before it works."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures


def pieces() -> Machine[Piece]:
    """What the desk runs as its child."""
    machine = Machine("piece", data=Piece)

    @machine.state(start=True)
    async def making(run: Run[Piece]) -> Made:
        return Made(made=f"p{run.data.n}")

    machine.transitions(making.on(Made) >> machine.final("made", ok=True))
    return machine


async def trouble(run: Run[Letter], look: Any) -> None:
    """What goes wrong in a visit, if its data says so."""
    if run.data.mood == "broken":
        raise LookupError("no such drawer")
    if run.data.mood == "slow":
        await run.sleep(3_600)
    if run.data.mood == "greedy":
        for n in range(9):
            await run.tool(look, f"page {n}")


def desk(prompt: str = "Answer", short: int = 6, world: World | None = None, steps: int = 9) -> Machine[Letter]:
    """The machine; its prompt, and how long a short answer is, are what tests edit."""
    world, piece = world or World(), pieces()
    machine = Machine("desk", data=Letter, max_steps=steps, budget=Budget(calls=6))

    @tool(effect="read")
    async def look(text: str) -> str:
        """Look something up."""
        if world.failures:
            world.failures -= 1
            raise ConnectionError("the shelf is busy")
        return f"found {text}"

    @machine.state(start=True, tools=[look], max_visits=2, timeout=minutes(10), children=[piece])
    async def sorting(run: Run[Letter]) -> Sorted | Unclear:
        """Answer the letter."""
        if run.data.mood == "parent":
            made = await run.child(piece, Piece(n=7))
            return Sorted(answer=made.data.made, notes=["by a child"])
        if run.data.mood == "unclear":
            return Unclear(notes=[f"unclear {run.visit}"])
        await trouble(run, look)
        found = await run.tool(look, run.data.question)
        return Sorted(answer=await run.llm.ask(f"{prompt}: {found}"), notes=["answered"])

    @machine.review(timeout=days(1))
    async def asking(run: Run[Letter]) -> Ask[Approved | Rejected]:
        """A person reads it."""
        return Ask("Send it?", show=run.data.answer)

    sent, failed, closed = machine.final("sent", ok=True), machine.final("failed"), machine.final("closed")

    def is_short(event: Sorted, data: Letter) -> bool:
        return len(event.answer) < short

    def is_calm(event: Sorted, data: Letter) -> bool:
        return data.mood != "angry"

    machine.transitions(
        sorting.on(Sorted.when(is_short)) >> sent,
        sorting.on(Sorted.when(is_calm)) >> asking,
        sorting.on(Sorted) >> failed,
        sorting.on(Unclear) >> sorting,
        asking.on(Approved) >> sent,
        asking.on(Rejected) >> failed,
        machine.anywhere.on(VisitsExhausted) >> failed,
        machine.anywhere.on(StateTimeout) >> failed,
        machine.anywhere.on(ReviewExpired) >> failed,
        machine.anywhere.on(BudgetExhausted) >> failed,
        machine.anywhere.on(Close) >> closed,
    )
    return machine


@dataclass
class Office:
    """A database, a clock and a model that tells what it was asked."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    llm: ScriptedLLM = field(default_factory=lambda: ScriptedLLM(_answer))
    world: World = field(default_factory=World)
    runs: dict[str, RunRecord] = field(default_factory=dict)
    """What `record` recorded, by sort."""

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'runs.db'}"

    @asynccontextmanager
    async def runtime(self, *machines: Machine[Any], llm: ScriptedLLM | None = None, **other: Any) -> AsyncIterator[Runtime]:
        settings = Settings(**{"lease": LONG, "poll": LONG, "retry": RetryPolicy(first=0.0), **other})
        async with Runtime(self.url, machines=machines, llm=llm or self.llm, clock=self.clock, settings=settings) as rt:
            yield rt

    async def write(self, rt: Runtime, machine: Machine[Letter], **data: Any) -> RunRecord:
        """A run that has settled."""
        return await rt.wait((await rt.start(machine, Letter(**data))).id)

    async def record(self) -> None:
        """One run of every sort, by the code as it was."""
        machine = desk(world=self.world)
        async with self.runtime(machine) as rt:
            for mood in ("well", "unclear", "greedy", "parent", "broken"):
                self.runs[mood] = await self.write(rt, machine, mood=mood)
            self.runs["refused"] = await self.write(rt, machine, question="long", mood="angry")
            self.runs["approved"] = await self.write(rt, machine, question="long")
            await rt.send(self.runs["approved"].id, Approved(note="fine"), by="ann")
            self.runs["rejected"] = await self.write(rt, machine, question="long")
            await rt.send(self.runs["rejected"].id, Rejected(reason="rude"), by="bob")
            self.world.failures = 2
            self.runs["flaky"] = await self.write(rt, machine, mood="flaky")
            self.runs["closed"] = await self.write(rt, machine, mood="broken")
            await rt.redrive(self.runs["closed"].id, by="eve", note="nobody needs it", event=Close(notes=["closed"]))
            expiring = await self.write(rt, machine, question="long")
            slow = await rt.start(machine, Letter(mood="slow"))
            await rt.idle()
            await self.clock.advance(timedelta(days=2))
            for sort, run in (("expired", expiring), ("slow", slow)):
                self.runs[sort] = await rt.wait(run.id)
            self.runs["waiting"] = await self.write(rt, machine, question="long")
            for sort, run in self.runs.items():
                self.runs[sort] = await rt.wait(run.id)


def _answer(request: Any) -> str:
    text = str(request.messages[-1]["content"])
    return "a long answer" if "long" in text else "four"
