"""What a worker has done since its process began, and the beat that tells the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from statecraft.clock import Clock, micros
from statecraft.engine.outcome import Ended, Moved, Outcome
from statecraft.engine.settings import Settings
from statecraft.errors import Fenced, StoreError
from statecraft.machine.definition import Definition
from statecraft.records import RunRecord
from statecraft.store import port


class NotOurs(Fenced):
    """Said by this process to a handler whose run it gave up. Nothing was written, so no write was refused."""


class Counts:
    """Counters that grow only, told to the database with each renewal of leases."""

    def __init__(self, store: port.Store, clock: Clock, settings: Settings, owner: str) -> None:
        self._store, self._clock, self._settings, self._owner = store, clock, settings, owner
        self.moves = 0
        """Transitions committed."""
        self.fenced = 0
        """Executions that ended because a fence refused a write."""
        self.recovered = 0
        """Runs taken over from others who held them."""
        self._first: asyncio.Future[object] | None = None
        """The first beat; with it the database knows of this worker."""

    def took(self, run: RunRecord) -> None:
        """A run was claimed."""
        self.recovered += run.taken_from is not None

    def went(self, outcome: Outcome) -> Outcome:
        """A step ended so."""
        self.moves += isinstance(outcome, Moved | Ended)
        return outcome

    def refused(self, error: Fenced) -> None:
        """An execution ended in `error`."""
        self.fenced += not isinstance(error, NotOurs)

    def tell(self, held: int, definitions: Iterable[Definition]) -> None:
        """Send a beat without waiting for it: it shares the transaction of what is sent next, and the next one says more.

        A runtime that takes no runs is no worker, and says nothing.
        """
        if self._settings.take == "none":
            return
        with contextlib.suppress(StoreError):
            sent = asyncio.ensure_future(self._store.submit(self._beat(held, definitions)))
            sent.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._first = self._first or sent

    async def announced(self) -> None:
        """Return when the first beat is written, if one was sent. Raises `StoreError` if it could not be."""
        if self._first is not None:
            await asyncio.shield(self._first)

    async def end(self, definitions: Iterable[Definition]) -> None:
        """Say that this worker stops, if anybody knows of it. Raises `StoreError`."""
        if self._first is not None:
            await self._store.submit(self._beat(0, definitions, stopped=True))

    def _beat(self, held: int, definitions: Iterable[Definition], *, stopped: bool = False) -> port.Beat:
        settings, now = self._settings, self._clock.now()
        # Who drives only its own runs has no machine for those of others.
        machines = tuple(sorted({definition.name for definition in definitions if settings.take == "all"}))
        done = (self.moves, self.fenced, self.recovered)
        return port.Beat(
            self._owner, now, micros(settings.lease), settings.concurrency, held, *done, settings.queues, machines, stopped
        )
