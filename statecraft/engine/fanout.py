"""Several awaitables at once, with an outcome that does not depend on which one was faster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from statecraft.calls.park import Park

T = TypeVar("T")
R = TypeVar("R")


async def together(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """Results in the order given. All are awaited to their end before anything is raised, so the set of calls that
    were made (and journaled) is the same in every execution; then the earliest park, or the first error in order."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    errors = [error for task in tasks if (error := _error(task)) is not None]
    parks = [error for error in errors if isinstance(error, Park)]
    if parks:
        raise min(parks, key=lambda park: park.due_at)
    if errors:
        raise errors[0]
    return [task.result() for task in tasks]


def _error(task: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def mapped(fn: Callable[[T], Awaitable[R]], items: Iterable[T], concurrency: int) -> list[R]:
    """`fn` of each item, at most `concurrency` at once, results in order."""
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    free = asyncio.Semaphore(concurrency)

    async def one(item: T) -> R:
        async with free:
            return await fn(item)

    return await together([one(item) for item in items])
