"""What the runtime lends for child runs: where they are started, found and cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from statecraft import trace
from statecraft.clock import Clock
from statecraft.errors import RunClosed
from statecraft.ids import Ids
from statecraft.machine.definition import Definition
from statecraft.records import RunFilter, RunRecord
from statecraft.store import port

_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class Nursery:
    """What the runtime lends for child runs."""

    store: port.Store
    clock: Clock
    ids: Ids
    register: Callable[[Definition], Awaitable[int]]
    """Makes the definition known, here and in the store; answers its number."""
    look_after: Callable[[bytes], None]
    """Have the run taken as soon as there is room."""
    forget: Callable[[bytes], None]
    """The run has ended: stop advancing it here."""

    async def of(self, parent: str) -> list[RunRecord]:
        """The child runs that a run ever started."""
        return await self.store.runs(RunFilter(parent=parent, limit=_ALL))

    async def cancel(self, run: RunRecord, reason: str) -> None:
        """End a child run in the name of its parent. One that has ended stays as it is."""
        raw = bytes.fromhex(run.id)
        try:
            await self.store.submit(port.Cancel(raw, self.clock.now(), f"run {run.parent}", reason))
        except RunClosed:
            return
        self.forget(raw)
        trace.emit("run.cancelled", {"run_id": run.id, "by": f"run {run.parent}"})

    async def cancel_open(self, parent: str, reason: str) -> None:
        """End all child runs of a run that are under way."""
        for run in await self.of(parent):
            if not run.status.closed:
                await self.cancel(run, reason)
