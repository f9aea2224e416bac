"""Run by tests as a program: one of several processes that take runs from one database, until its standard input ends.

Each step of a run appends a line to a file, `<process> <run> <step>`, and takes a moment, so that everybody gets a share.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from statecraft import CallInfo, Data, Event, Failure, Machine, Run, Runtime, Settings, tool

SETTINGS = Settings(lease=timedelta(seconds=2), poll=timedelta(seconds=0.05), concurrency=5)


class Parcel(Data):
    n: int = 0


class Packed(Event): ...


class Sent(Event): ...


def posting(diary: Path | None) -> Machine[Parcel]:
    """Packs, then sends; both are written into the diary."""

    @tool(effect="read", risk="low")
    async def note(info: CallInfo, n: int, step: str) -> str:
        """Write a line."""
        assert diary is not None
        with diary.open("a") as file:
            file.write(f"{os.getpid()} {n} {step}\n")
        await asyncio.sleep(0.02)  # This is the world's time, which a handler waits for.
        return step

    machine = Machine("posting", data=Parcel)

    @machine.state(start=True, tools=[note])
    async def packing(run: Run[Parcel]) -> Packed:
        await run.tool(note, run.data.n, "pack")
        return Packed()

    @machine.state(tools=[note])
    async def sending(run: Run[Parcel]) -> Sent:
        await run.tool(note, run.data.n, "send")
        return Sent()

    machine.transitions(
        packing.on(Packed) >> sending,
        sending.on(Sent) >> machine.final("sent", ok=True),
        machine.anywhere.on(Failure) >> machine.final("lost"),
    )
    return machine


async def drain(url: str, diary: Path) -> None:
    async with Runtime(url, machines=[posting(diary)], settings=SETTINGS):
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(drain(sys.argv[1], Path(sys.argv[2])))
