"""Real processes fire one schedule at the same time and are killed at their commits, one after the other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from statecraft import Every, RunFilter, Runtime, Settings
from tests.schedules.nightly import Report, instants, iso, reports

ROOT = Path(__file__).parents[2]
POINTS = range(3, 11)
"""Commits at which a worker dies: before and after the writes of its first firings, whatever it was about to do."""


def worker(url: str, point: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.schedules.firer", url, str(point)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.slow
def test_each_instant_has_one_run_though_workers_are_killed_around_firing(url: str) -> None:
    async def put() -> None:
        async with Runtime(url, machines=[reports()], settings=Settings(take="none")) as rt:
            await rt.schedule("nightly", reports(), Report(), Every(timedelta(seconds=1)), missed="all")

    async def finish() -> list[str]:
        async with Runtime(url, machines=[reports()]) as rt:
            await rt.pause_schedule("nightly")
            for run in await rt.runs(RunFilter(limit=1000)):
                assert (await rt.wait(run.id, timeout=timedelta(seconds=60))).status == "done"
            return await instants(rt)

    asyncio.run(put())
    waiting = list(POINTS)
    alive = [worker(url, waiting.pop(0)) for _ in range(3)]
    died: list[int] = []
    try:
        while alive:
            ended = alive.pop(0)
            died.append(ended.wait(timeout=60))
            if waiting:
                alive.append(worker(url, waiting.pop(0)))
    finally:
        for each in alive:
            each.kill()
            each.wait()
    assert died == [-signal.SIGKILL] * len(POINTS)
    found = asyncio.run(finish())
    assert len(found) >= 3
    first = datetime.fromisoformat(found[0])
    assert found == [iso(first + timedelta(seconds=n)) for n in range(len(found))]
