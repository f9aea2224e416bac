"""Handlers that will not be cancelled: they keep nobody waiting, and no lease alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from statecraft import Machine, Run, Runtime, Settings, Status
from statecraft.errors import StoreUnavailable
from statecraft.store import port
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock
from statecraft.worker import worker
from tests.worker.test_worker import Note, Stop, Wrapped, one_state, slow_polls


class Deaf:
    """A handler that goes on whatever it is told, until it is let go."""

    def __init__(self) -> None:
        self.begun, self.free = asyncio.Event(), asyncio.Event()
        self.machine: Machine[Note] = one_state(self._work)

    async def _work(self, run: Run[Note]) -> Stop:
        self.begun.set()
        while not self.free.is_set():
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                continue
        return Stop()


@asynccontextmanager
async def deaf() -> AsyncIterator[Deaf]:
    one = Deaf()
    try:
        yield one
    finally:
        one.free.set()
        await asyncio.sleep(0)


def test_a_handler_that_ignores_its_cancellation_does_not_keep_a_worker_from_leaving(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "STUBBORN", 0.02)

    async def go() -> None:
        async with deaf() as one, asyncio.timeout(10), Runtime(url, machines=[one.machine], settings=slow_polls()) as rt:
            run = await rt.start(one.machine, Note())
            await one.begun.wait()
            await rt.drain(timedelta(0))
            found = await rt.get(run.id)
            assert (found.status, found.owner) == (Status.READY, None)
            assert [vars(record)["run_id"] for record in caplog.records if record.getMessage() == "run.stuck"] == [run.id]

    asyncio.run(go())


def test_a_run_that_was_given_up_here_is_not_kept_from_others_by_a_handler_that_goes_on(url: str) -> None:
    """Its lease could not be renewed in time, so it was given up; renewing it later would hold a run that nobody advances."""

    async def go() -> None:
        away, renewed = False, list[port.Renew]()

        async def before(store: SqlStore, write: port.Write) -> None:
            if isinstance(write, port.Renew):
                renewed.append(write)
                if away:
                    raise StoreUnavailable("away")

        async with deaf() as one:
            clock = ManualClock()
            store: Any = Wrapped(url, before)
            settings = Settings(lease=timedelta(seconds=30), poll=timedelta(days=1))
            rt = Runtime(url, machines=[one.machine], settings=settings, clock=clock, store=store)
            async with rt:
                run = await rt.start(one.machine, Note())
                await one.begun.wait()
                away = True
                for _ in range(30):
                    await clock.advance(timedelta(seconds=1))
                    await asyncio.sleep(0)
                assert rt.counts["lost"] == 1
                away = False
                renewed.clear()
                for _ in range(60):
                    await clock.advance(timedelta(seconds=1))
                    await asyncio.sleep(0)
                assert renewed == [], f"nobody advances {run.id}, and nobody may take it"
                one.free.set()

    asyncio.run(go())
