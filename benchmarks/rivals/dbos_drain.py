"""One DBOS worker that drains a queue, as a program: `python -m benchmarks.rivals.dbos_drain URL [RUNS]`.

With RUNS it only enqueues so many. Otherwise it says `ready`, and begins when told. The queue is asked ten times a second instead
of once, so that its poll is not what is measured.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

from benchmarks.rivals.dbos import launched
from benchmarks.rivals.work import pad

QUEUE = "drain"
LEFT = "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING')"


async def enqueue(url: str, runs: int) -> None:
    """Put workflows into the queue, and run none. The schema is made by whoever launches first."""
    library, _ = launched(url)
    library.destroy()
    client: Any = importlib.import_module("dbos").DBOSClient(system_database_url=url)
    options = {"queue_name": QUEUE, "workflow_name": "launched.<locals>.five", "app_version": "1"}
    for start in range(0, runs, 50):
        await asyncio.gather(*(client.enqueue_async(options, pad(0)) for _ in range(min(50, runs - start))))


async def work(url: str) -> None:
    """Take what is queued until the end of the program, once told to."""
    library, _ = launched(url)
    print("ready", flush=True)
    sys.stdin.readline()
    await library.register_queue_async(QUEUE, polling_interval_sec=0.1)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(enqueue(sys.argv[1], int(sys.argv[2])))
    else:
        asyncio.run(work(sys.argv[1]))
