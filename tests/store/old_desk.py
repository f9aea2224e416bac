"""A machine with runs in every sort of standing: the code of schema 2 wrote them (`data/runs-2.sql`), today's goes on with them.

python -m tests.store.old_desk FOLDER > runs.sql     # with the code of that time first on PYTHONPATH
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from statecraft import (
    Ask,
    Budget,
    CallInfo,
    Data,
    Event,
    Failure,
    GatePolicy,
    Machine,
    ReviewExpired,
    Run,
    Runtime,
    Settings,
    tool,
)
from statecraft.testing import ManualClock, ScriptedLLM


class Errand(Data):
    mood: str = "well"
    """`well`, `asks`, `pays`, `sleeps`, `dies`, `thinks`, `fails` or `delegates`."""
    n: int = 0
    said: str = ""


class Done(Event):
    said: str = ""


class Asked(Event): ...


class Failed(Event): ...


class Yes(Event):
    said: str = "yes"


class No(Event): ...


@tool(effect="once", risk="high")
async def pay(info: CallInfo, amount: int) -> str:
    """Pay somebody."""
    return f"paid {amount}"


@tool(effect="read", risk="low")
async def read(info: CallInfo, letters: int) -> str:
    """Read a long letter."""
    return "x" * letters


part = Machine("part", data=Errand)


@part.state(start=True)
async def cutting(run: Run[Errand]) -> Done:
    return Done(said=f"part {run.data.n}")


part.transitions(cutting.on(Done) >> part.final("cut", ok=True), part.anywhere.on(Failure) >> part.final("spoiled"))

desk = Machine("desk", data=Errand, budget=Budget(tokens=100_000))


@desk.state(start=True, tools=[pay, read], children=[part])
async def working(run: Run[Errand]) -> Done | Asked | Failed:
    match run.data.mood:
        case "asks":
            return Asked()
        case "pays":
            return Done(said=await run.tool(pay, 100))
        case "sleeps":
            await run.sleep(3_600)
        case "dies":
            raise RuntimeError("broken")
        case "thinks":
            return Done(said=await run.llm.ask("What now?"))
        case "fails":
            return Failed()
        case "delegates":
            return Done(said=(await run.child(part, Errand(n=7))).data.said)
    return Done(said=f"read {len(await run.tool(read, 6_000))} letters")


@desk.review(timeout=timedelta(days=2))
async def asking(run: Run[Errand]) -> Ask[Yes | No]:
    return Ask("Well?", show=run.data.n)


well, ill = desk.final("well", ok=True), desk.final("ill")
desk.transitions(
    working.on(Done) >> well,
    working.on(Asked) >> asking,
    working.on(Failed) >> ill,
    asking.on(Yes) >> well,
    asking.on(No) >> ill,
    asking.on(ReviewExpired) >> ill,
)

SETTINGS = Settings(gate=GatePolicy(max_auto_risk="medium"))


def runtime(url: str, clock: ManualClock | None = None, replies: int = 1) -> Runtime:
    """A runtime whose clock stands still."""
    llm = ScriptedLLM([f"Go on, {n}." for n in range(replies)])
    return Runtime(url, machines=[desk, part], llm=llm, settings=SETTINGS, clock=clock or ManualClock())


async def write(url: str) -> None:
    """Runs that ended well, ill and not at all, that wait for people, time and workers."""
    async with runtime(url) as rt:
        for mood in ("well", "thinks", "fails", "delegates", "asks", "pays", "dies"):
            run = await rt.start(desk, Errand(mood=mood), key=mood, tenant="acme" if mood == "thinks" else None)
            await rt.wait(run.id)
        await rt.send((await rt.wait((await rt.start(desk, Errand(mood="asks"))).id)).id, Yes(), by="ann")
        await rt.start(desk, Errand(mood="sleeps"), key="sleeps")
        await rt.start(desk, Errand(), key="ready", detach=True)
        async for entry in rt.follow(await by_key(rt, "sleeps")):
            if entry.kind == "waiting":
                break


async def by_key(rt: Runtime, key: str) -> str:
    """The id of the run that was started under a key."""
    (run,) = [run for run in await rt.runs() if run.key == key]
    return run.id


if __name__ == "__main__":
    path = Path(sys.argv[1]) / "old.db"
    asyncio.run(write(f"sqlite:///{path}"))
    with closing(sqlite3.connect(path)) as raw:
        sys.stdout.writelines(f"{line}\n" for line in raw.iterdump())
