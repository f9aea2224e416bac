"""The half of a runtime that replays: one run, or every recorded run as a test of today's code."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from statecraft.calls.classify import said
from statecraft.divergence import Divergence, Replay
from statecraft.engine.services import Services
from statecraft.errors import ConfigError, StatecraftError
from statecraft.forking import Forking
from statecraft.looking import raw_id
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition
from statecraft.records import RunFilter, RunRecord
from statecraft.replay import replay

PAGE = 100
"""Runs whose heads are read at once."""


class Replaying(Forking):
    """Replays of a runtime. Nothing leaves the process and nothing is written, but for the fork that `fork=True` asks for."""

    _services: Services

    async def replay(self, run_id: str, machine: Machine[Any] | None = None, *, fork: bool = False, by: str = "") -> Replay:
        """Run the handlers again against the record, up to the first divergence. See `statecraft.replay`.

        `machine` is the code to try; the default is this runtime's own. With `fork`, a run that diverges is forked at the
        visit of the divergence, and the fork goes on there live, with this runtime's model, tools and machine: `Replay.fork`
        is its id, and `by` is who wanted it. Raises `NotFound`, `InvalidPayload` (its input fits no more), `ConfigError`
        (`fork` with a `machine`), or what `fork` raises.
        """
        if fork and machine is not None:
            raise ConfigError("replay(fork=True) goes on with the runtime's own machine; pass it in Runtime(machines=[...])")
        run = await self._store.run(raw_id(run_id))
        definition = machine.definition if machine is not None else self._named(run.machine)
        found = await replay(self._store, self._clock, definition, self._services, raw_id(run_id))
        if not fork or found.divergence is None:
            return found
        note = f"replay: {found.divergence.what}"
        forked = await self.fork(run_id, at=found.divergence.seq, by=by, note=note)
        return replace(found, fork=forked.id)

    async def replay_all(
        self,
        machine: Machine[Any] | None = None,
        *,
        since: datetime | None = None,
        limit: int | None = None,
        concurrency: int = 4,
    ) -> AsyncIterator[Replay]:
        """Replay every recorded run of `machine` (default: of each machine of this runtime), newest first.

        `since` leaves out runs created before it; at most `limit` runs of each machine. Open runs are replayed up to the
        visit they are in. A run that another definition of the machine started is tried, and if today's lacks what its
        record needs, its `Replay.skipped` says what. `concurrency` is how many runs are in memory at once. Raises
        `ConfigError` for a limit or a concurrency below 1.
        """
        if concurrency < 1 or (limit is not None and limit < 1):
            raise ConfigError(f"replay_all takes a limit and a concurrency of at least 1, not {limit} and {concurrency}")
        definitions = [machine.definition] if machine is not None else list(self._definitions.values())
        under_way: deque[asyncio.Task[Replay]] = deque()
        try:
            for definition in definitions:
                async for run in self._recorded(RunFilter(machine=definition.name, since=since), limit):
                    under_way.append(asyncio.ensure_future(self._tried(run, definition)))
                    if len(under_way) >= concurrency:
                        yield await under_way.popleft()
            while under_way:
                yield await under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _recorded(self, which: RunFilter, limit: int | None) -> AsyncIterator[RunRecord]:
        """Runs, newest first, a page at a time; those started meanwhile are not among them."""
        left = limit
        while left is None or left > 0:
            page = await self._store.runs(replace(which, limit=PAGE if left is None else min(PAGE, left)))
            for run in page:
                yield run
            if len(page) < PAGE:
                return
            left = None if left is None else left - len(page)
            which = replace(which, older_than=page[-1].id)

    async def _tried(self, run: RunRecord, definition: Definition) -> Replay:
        """The replay of one run among many: whatever goes wrong with it is told of it alone."""
        try:
            found = await replay(self._store, self._clock, definition, self._services, raw_id(run.id))
        except StatecraftError as error:
            lacks = Divergence(0, definition.start, None, "it cannot be replayed", "", str(error), foreign=True)
            found = Replay(run.id, 0, 0, lacks, definition.name)
        except Exception as error:  # noqa: BLE001 - a handler's code may raise anything; the other runs are still replayed
            what = f"the replay raised {type(error).__name__}"
            found = Replay(run.id, 0, 0, Divergence(0, run.state, None, what, "", said(error)), definition.name)
        lacking = found.divergence
        if lacking is None or not lacking.foreign or run.fingerprint == definition.fingerprint:
            return found
        why = f"it was started by another definition, and {lacking.what}: {lacking.recorded or lacking.actual}"
        return replace(found, divergence=None, skipped=why)
