"""Several awaitables at once, with an outcome that does not depend on which one was faster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from statecraft.calls.park import Park

Tasks = Sequence[asyncio.Future[Any]]


async def together(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """Results in the order given. All are awaited to their end before anything is raised, so the set of calls that
    were made (and journaled) is the same in every execution; then the earliest park, or the first error in order."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks)
    except BaseException:
        await stop(tasks)
        raise
    return results(tasks)


def results(tasks: Tasks) -> list[Any]:
    """The results of ended tasks in order. Raises the earliest park if there is one, or the first error in order."""
    raise_parks(tasks)
    for task in tasks:
        if (error := error_of(task)) is not None:
            raise error
    return [task.result() for task in tasks]


def raise_parks(tasks: Tasks) -> None:
    """Raise the park that time ends first, if any of the tasks has parked."""
    parks = [error for task in tasks if isinstance(error := error_of(task), Park)]
    if parks:
        raise min(parks, key=lambda park: park.turn)


def error_of(task: asyncio.Future[Any]) -> BaseException | None:
    """What an ended task raised."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def stop(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def spread(
    fn: Callable[[int], Awaitable[Any]], count: int, concurrency: int, enough: Callable[[Tasks], bool] = lambda _: False
) -> list[asyncio.Future[Any]]:
    """Tasks that ran `fn` of 0, 1, 2 ... at most `concurrency` at once, started in this order; all have ended.

    One that parks keeps its place, so no more than `concurrency` ever wait for something either, in this execution or
    a later one; what found no place was not started. When `enough` says so, the rest is cancelled.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    ended: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
    tasks: list[asyncio.Future[Any]] = []
    under_way = parked = 0
    try:
        while True:
            while len(tasks) < count and under_way + parked < concurrency:
                task = asyncio.ensure_future(_begun(fn, len(tasks)))
                task.add_done_callback(ended.put_nowait)
                tasks.append(task)
                under_way += 1
            if not under_way:
                return tasks
            parked += isinstance(error_of(await ended.get()), Park)
            under_way -= 1
            if enough(tasks):
                await stop(tasks)
                return tasks
    except BaseException:
        await stop(tasks)
        raise


async def _begun(fn: Callable[[int], Awaitable[Any]], place: int) -> Any:
    return await fn(place)
