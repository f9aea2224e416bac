"""Running an async test without a plugin for it, and saying where one hangs."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any, TypeVar

from statecraft.clock import SystemClock

T = TypeVar("T")


def run_async(test: Coroutine[Any, Any, T], *, limit: float = 60.0) -> T:
    """Run a coroutine on an event loop of its own and answer what it answers.

    After `limit` seconds of the real clock it is cancelled: a test that hangs fails, with the place at which each of its tasks
    waits. Beside pytest-asyncio or anyio it is not needed; write `async def` tests as they want them.

    Raises:
        TimeoutError: The limit passed; its message names the tasks that were waiting, and where.
        RuntimeError: An event loop is running already.
    """
    __tracebackhide__ = True

    async def bounded() -> T:
        __tracebackhide__ = True
        running = asyncio.ensure_future(test)
        clock = SystemClock().timeout(limit)
        try:
            async with clock:
                return await asyncio.shield(running)
        except TimeoutError as error:
            if not clock.expired():
                raise
            where = waiting_tasks()
            running.cancel()
            raise TimeoutError(f"the test did not end within {limit:g} seconds; its tasks wait:\n{where}") from error

    return asyncio.run(bounded())


def waiting_tasks() -> str:
    """The other tasks of this event loop, each with the line at which it waits."""
    own = asyncio.current_task()
    tasks = sorted((task for task in asyncio.all_tasks() if task is not own), key=lambda task: task.get_name())
    return "\n".join(f"  {task.get_name()}: {_place(task)}" for task in tasks)


def _place(task: asyncio.Task[Any]) -> str:
    frames = _frames(task.get_coro())
    if not frames:
        return "not begun, or inside the event loop"
    found = traceback.extract_stack(frames[-1], limit=1)[-1]
    return f"{found.filename}:{found.lineno} in {found.name}" + (f": {found.line}" if found.line else "")


def _frames(awaited: Any) -> list[Any]:
    """The frames of a coroutine and of what it awaits, outermost first."""
    frames: list[Any] = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        awaited = next(
            (found for name in ("cr_await", "ag_await", "gi_yieldfrom") if (found := getattr(awaited, name, None)) is not None),
            None,
        )
    return frames
