"""DBOS: a workflow of five steps, each recorded when it returns, as asynchronous functions.

https://docs.dbos.dev/python/tutorials/workflow-tutorial
"""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.rivals.work import STEPS, contend, crowded, pad


def launched(url: str) -> tuple[Any, Any]:
    """DBOS over this database, and the workflow."""
    dbos: Any = importlib.import_module("dbos")
    library = dbos.DBOS
    library(
        config={
            "name": "rival",
            "system_database_url": url,
            "log_level": "ERROR",
            "console_log_level": "ERROR",
            "enable_otlp": False,
            "application_version": "1",
        }
    )

    @library.step()  # type: ignore[untyped-decorator]
    async def step(count: int, text: str) -> tuple[int, str]:
        assert text
        return count + 1, pad(count + 1)

    @library.workflow()  # type: ignore[untyped-decorator]
    async def five(text: str) -> int:
        count = 0
        for _ in range(STEPS):
            count, text = await step(count, text)
        return count

    library.launch()
    return library, five


async def go(url: str, runs: int) -> float:
    library, five = launched(url)
    try:

        async def one(_: int) -> object:
            done = await five(pad(0))
            assert done == STEPS
            return done

        return await crowded(one, runs)
    finally:
        library.destroy()


def how(url: str) -> str:
    if url.startswith("sqlite"):
        return "async workflow and steps, its own journal mode, synchronous=FULL"
    return "async workflow and steps, synchronous_commit=on"


if __name__ == "__main__":
    contend(go, how)
