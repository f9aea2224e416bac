"""A worker that fires schedules and dies by SIGKILL at one of its commits: `python -m tests.schedules.firer URL POINT`."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from statecraft import Runtime, Settings
from statecraft.store import open_store
from statecraft.testing.crash import KillAt
from tests.schedules.nightly import reports


async def work(url: str, point: int) -> None:
    settings = Settings(poll=timedelta(milliseconds=50), lease=timedelta(seconds=1))
    async with Runtime(url, machines=[reports()], settings=settings, store=open_store(url, probe=KillAt(point))):
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
