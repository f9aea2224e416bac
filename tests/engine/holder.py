"""Run by a test as a script: holds a run under a short lease and stays inside a tool until a line comes on standard input.

Prints one line per thing that happens: `in the tool`, `lost` when the run was taken by somebody else, `closed` at the end.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import timedelta

from statecraft import CallInfo, Data, Event, Failure, Machine, Run, Runtime, Settings, tool

LEASE = timedelta(seconds=1)
SETTINGS = Settings(lease=LEASE, poll=timedelta(seconds=0.1), take="own")
HOLDING = Settings(lease=LEASE, poll=timedelta(hours=1), take="own")
"""The holder looks for nothing else, so that it writes only when it renews its lease."""


class Word(Data):
    word: str = ""


class Heard(Event):
    word: str


class Repeated(Event):
    word: str


class Ear:
    """What `listen` does in this process: the holder waits for a line, the other one knows the word."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits

    async def word(self) -> str:
        if not self.waits:
            return "the other's"
        print("in the tool", flush=True)
        return str(await asyncio.to_thread(sys.stdin.readline)).strip()


def listening(ear: Ear) -> Machine[Word]:
    """Hears a word, repeats it, and ends."""

    @tool(effect="read")
    async def listen(info: CallInfo, n: int) -> str:
        """Wait for a word."""
        return await ear.word() if n == 2 else f"noise {n}"

    machine = Machine("listening", data=Word)

    @machine.state(start=True, tools=[listen])
    async def hearing(run: Run[Word]) -> Heard:
        _, word = await run.tool(listen, 1), await run.tool(listen, 2)
        return Heard(word=word)

    @machine.state(tools=[listen])
    async def repeating(run: Run[Word]) -> Repeated:
        return Repeated(word=f"{run.data.word}, {await run.tool(listen, 3)}")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(hearing.on(Heard) >> repeating, repeating.on(Repeated) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


class Teller(logging.Handler):
    """Says that the run was lost."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "run.lost":
            self.lost.set()


async def hold(url: str) -> None:
    machine, teller = listening(Ear(waits=True)), Teller()
    logger = logging.getLogger("statecraft")
    logger.setLevel(logging.INFO)
    logger.addHandler(teller)
    async with Runtime(url, machines=[machine], settings=HOLDING) as runtime:
        await runtime.start(machine, Word(), key="the-run")
        await teller.lost.wait()
        print("lost", flush=True)


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1]))
    print("closed", flush=True)
