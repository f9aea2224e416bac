"""Work done in batches: whatever waits while one batch is in hand makes up the next one.

One thread does the work. No timer: a lone item goes at once, and many share one transaction. All items that tasks
submit in one round of the event loop leave it as one list, and one call into the loop resolves a batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from statecraft.errors import StoreUnavailable

W = TypeVar("W")

LARGEST_BATCH = 200
"""More than this gains little and makes the last of a batch wait."""

Entry = tuple[W, "asyncio.Future[object]"]


class Batched(Generic[W]):
    """Feeds batches of items to `work` on a thread of its own, and gives each submitter its outcome.

    `work` answers one outcome per item, an exception meaning refusal. If it raises, the thread is dead: the items at
    hand and every later one fail with `StoreUnavailable`.
    """

    def __init__(self, work: Callable[[Sequence[W]], list[object]], name: str) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Entry[W]] = []
        self._queue: SimpleQueue[list[Entry[W]] | None] = SimpleQueue()
        self._ended = self._loop.create_future()
        self._closed = False
        self._dead: BaseException | None = None
        threading.Thread(target=self._serve, name=f"statecraft {name}", daemon=True).start()

    def submit(self, item: W) -> asyncio.Future[object]:
        """Answers when the item is done or refused. Items are worked on in the order in which they are submitted."""
        if self._dead is not None or self._closed:
            raise self._gone()
        if not self._waiting:
            self._loop.call_soon(self._flush)
        future = self._loop.create_future()
        self._waiting.append((item, future))
        return future

    async def close(self) -> None:
        """Finish what was submitted, then end the thread."""
        if not self._closed:
            self._closed = True
            self._flush()
            self._queue.put(None)
        await asyncio.shield(self._ended)

    def _flush(self) -> None:
        if self._waiting:
            self._queue.put(self._waiting)
            self._waiting = []

    def _gone(self) -> StoreUnavailable:
        if self._dead is None:
            return StoreUnavailable("the store is closed")
        gone = StoreUnavailable(f"the store stopped working ({self._dead!r}); open it again and resume the runs")
        gone.__cause__ = self._dead
        return gone

    # --- the working thread ------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while (entries := self._take()) is not None:
                for start in range(0, len(entries), LARGEST_BATCH):
                    self._one_batch(entries[start : start + LARGEST_BATCH])
        finally:
            self._call(self._finish)

    def _take(self) -> list[Entry[W]] | None:
        """Wait for items, then take the lists that came meanwhile too, as far as they fit."""
        entries = self._queue.get()
        while entries is not None and len(entries) < LARGEST_BATCH and not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self._queue.put(None)
                break
            entries += more
        return entries

    def _one_batch(self, entries: Sequence[Entry[W]]) -> None:
        if self._dead is None:
            try:
                outcomes = self._work([item for item, _ in entries])
            except BaseException as error:  # noqa: BLE001  # Nobody may wait for ever for a dead thread.
                self._dead = error
            else:
                self._call(_resolve, entries, outcomes)
                return
        self._call(_resolve, entries, [self._gone() for _ in entries])

    def _call(self, what: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            self._dead = self._dead or RuntimeError("the event loop is closed")

    def _finish(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def _resolve(entries: Sequence[Entry[W]], outcomes: Sequence[object]) -> None:
    """Give each submitter its outcome, unless it stopped waiting."""
    for (_, future), outcome in zip(entries, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
