"""Whether runs that wait for somebody cost anything: claiming and listing beside ten thousand of them, and beside none."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.crowded import NOW, Mix, fill
from statecraft.records import RunFilter
from statecraft.store import open_store
from statecraft.store.port import ClaimDue

PARKED = 10_000
DUE, TIMES, SOME = 2_000, 40, 25


async def _took(what: Callable[[int], Awaitable[object]]) -> float:
    took: list[float] = []
    for number in range(TIMES):
        begun = time.perf_counter()
        await what(number)
        took.append(time.perf_counter() - begun)
    return statistics.quantiles(took[5:])[0] * 1000


async def costs(url: str, parked: int) -> tuple[float, float]:
    """Milliseconds (the first quartile, since disks are not steady) to claim 25 due runs, and to list 25 runs."""
    machine = await fill(url, Mix(due=DUE, later=0, reviews=parked))
    store = open_store(url)
    await store.open()
    claimed = await _took(lambda n: store.submit(ClaimDue(f"worker {n}", NOW, NOW * 10, (machine,), SOME)))
    listed = await _took(lambda _: store.runs(RunFilter(limit=SOME)))
    await store.close()
    return claimed, listed


def flat() -> tuple[float, float]:
    """(claiming, listing) on SQLite beside `PARKED` runs, to the same beside none."""
    with tempfile.TemporaryDirectory() as folder:
        none, many = (asyncio.run(costs(f"sqlite:///{Path(folder) / str(n)}.db", n)) for n in (0, PARKED))
    return many[0] / none[0], many[1] / none[1]
