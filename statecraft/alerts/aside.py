"""Calls that block, each in a thread that nobody waits for longer than they want.

Not the event loop's own pool: one receiver that hangs would fill it, and the store's and the users' threads come from it.
The threads are daemons, so one that hangs does not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from statecraft.channel import NotDelivered

MOST = 8
"""Threads of one channel at once. With so many hanging, the next call fails at once."""


class Aside:
    """The threads of one channel."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy = threading.BoundedSemaphore(MOST)

    async def run(self, call: Callable[[], object], abort: Callable[[], None] | None = None) -> None:
        """Make the call and wait for it. Cancelled, it goes on unheard, after `abort` was called to end it."""
        if not self._busy.acquire(blocking=False):
            raise NotDelivered(f"{MOST} earlier attempts are still under way")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        def work() -> None:
            error: BaseException | None = None
            try:
                call()
            except StopIteration:  # A future does not take it.
                error = RuntimeError("StopIteration")
            except BaseException as raised:  # noqa: BLE001 - it is the outcome, whatever it is
                error = raised
            self._busy.release()
            try:
                loop.call_soon_threadsafe(settle, error)
            except RuntimeError:
                return  # The loop is closed: nobody listens any more.

        threading.Thread(target=work, name=f"statecraft alerts {self._name}", daemon=True).start()
        try:
            await done
        except asyncio.CancelledError:
            if abort is not None:
                abort()
            raise
