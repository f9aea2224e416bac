"""One worker of a fleet that drains a queue, as a program: `python -m benchmarks.drain URL [RUNS]`.

With RUNS it only enqueues so many. Otherwise it says `ready`, and begins when told.
"""

from __future__ import annotations

import asyncio
import sys

from benchmarks.rivals.ours import Pad, five_steps
from benchmarks.rivals.work import pad
from statecraft import Runtime, Settings


async def enqueue(url: str, runs: int) -> None:
    """Record runs for whoever looks for due ones."""
    machine = five_steps()
    async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
        for start in range(0, runs, 200):
            await asyncio.gather(*(rt.start(machine, Pad(text=pad(0)), detach=True) for _ in range(min(200, runs - start))))


async def warm(url: str) -> None:
    """Import everything, and see that the database is there; starting programs is not what is measured."""
    async with Runtime(url, machines=[five_steps()], settings=Settings(take="none")):
        pass


async def work(url: str) -> None:
    """Take what is due until the end of the program."""
    async with Runtime(url, machines=[five_steps()], settings=Settings(concurrency=200)):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(enqueue(sys.argv[1], int(sys.argv[2])))
    else:
        asyncio.run(warm(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        asyncio.run(work(sys.argv[1]))
