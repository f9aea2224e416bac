"""statecraft: a machine of five states."""

from __future__ import annotations

from typing import Any

from benchmarks.rivals.work import STEPS, contend, crowded, pad
from statecraft import Data, Event, Machine, Run, Runtime, Settings


class Pad(Data):
    count: int = 0
    text: str


class Wrote(Event):
    count: int
    text: str


def five_steps() -> Machine[Pad]:
    """Five states in a row, each of which replaces the data."""
    machine = Machine("five", data=Pad)

    def named(number: int) -> Any:
        async def step(run: Run[Pad]) -> Wrote:
            return Wrote(count=run.data.count + 1, text=pad(run.data.count + 1))

        step.__name__ = f"step_{number}"
        return machine.state(start=number == 0)(step)

    states = [named(number) for number in range(STEPS)]
    end = machine.final("end", ok=True)
    machine.transitions(*(a.on(Wrote) >> b for a, b in zip(states, [*states[1:], end], strict=True)))
    return machine


async def go(url: str, runs: int) -> float:
    machine = five_steps()
    async with Runtime(url, machines=[machine], settings=Settings(take="own", concurrency=200)) as rt:

        async def one(_: int) -> object:
            return await rt.wait((await rt.start(machine, Pad(text=pad(0)))).id)

        return await crowded(one, runs)


def how(url: str) -> str:
    return "group commit, WAL, synchronous=FULL" if url.startswith("sqlite") else "group commit, synchronous_commit=on"


if __name__ == "__main__":
    contend(go, how)
