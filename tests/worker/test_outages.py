"""A store that is away again and again takes runs from their holders, and none of it is the runs' fault."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from statecraft import Run, Runtime, Settings, Status
from statecraft.errors import StoreUnavailable
from statecraft.store import port
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock
from tests.worker.test_leases import until
from tests.worker.test_worker import Note, Stop, one_state, wrapped

SETTINGS = Settings(lease=timedelta(seconds=30), poll=timedelta(seconds=2), poison=2, loops=None)


class Away:
    """What two workers share: a store that is away at times, and a handler that takes longer than it is there."""

    def __init__(self) -> None:
        self.down = False
        self.begun = 0
        self.over = asyncio.Event()
        self.machine = one_state(self.work)

    async def before(self, _: SqlStore, __: port.Write) -> None:
        if self.down:
            raise StoreUnavailable("it is away")

    async def work(self, _: Run[Note]) -> Stop:
        self.begun += 1
        await self.over.wait()
        return Stop()


async def pass_time(clock: ManualClock, seconds: int) -> None:
    """Slowly enough for a real database to answer in time."""
    for _ in range(seconds):
        await clock.advance(timedelta(seconds=1))
        await asyncio.sleep(0.003)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_outages_that_outlast_leases_make_no_poison(url: str, workers: int) -> None:
    async def go() -> None:
        clock, away = ManualClock(), Away()
        runtimes = [
            Runtime(url, machines=[away.machine], store=wrapped(url, away.before), clock=clock, settings=SETTINGS)
            for _ in range(workers)
        ]
        for rt in runtimes:
            await rt.__aenter__()
        run = await runtimes[0].start(away.machine, Note())
        await until(lambda: away.begun == 1)
        for outage in range(1, 6):
            away.down = True
            await pass_time(clock, 40)
            away.down = False
            while away.begun == outage:
                assert not (await runtimes[0].get(run.id)).status.closed
                await pass_time(clock, 1)
        away.over.set()
        while not (ended := await runtimes[0].get(run.id)).status.closed:
            await pass_time(clock, 1)
        assert (ended.status, ended.epoch) == (Status.DONE, 6)
        for rt in runtimes:
            await rt.__aexit__(None, None, None)

    asyncio.run(asyncio.wait_for(go(), 30))
