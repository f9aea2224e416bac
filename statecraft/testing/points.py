"""Persistence points by what is being written, so that they are the same in every run, however commits are put together."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from statecraft.store import port
from statecraft.store.database import Database
from statecraft.store.sql import SqlStore
from statecraft.store.writes import Step
from statecraft.testing.lives import Dying

Side = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Point:
    """A moment just before or just after the commit of one write."""

    side: Side
    write: str
    """What was written, in words."""
    nth: int
    """Which of the writes of these words, from 0."""

    def __str__(self) -> str:
        return f"{self.side} the commit of {self.write}" + (f", number {self.nth + 1} of these" if self.nth else "")


def name_of(write: Step, first: bytes) -> str | None:
    """A write in words; None for what is no part of any run's story: claims, leases, beats, deliveries."""
    if isinstance(write, port.MachineSpec):
        return f"the definition of {write.name}"
    if isinstance(write, port.Start | port.Move):
        row = write.transition
        whose = "" if row.run_id == first else " of a child run"
        return f"the start{whose}" if isinstance(write, port.Start) else f"move {row.seq} to {row.target}{whose}"
    if isinstance(write, port.Call | port.Attempt | port.Reserve | port.Settle | port.Park | port.Decide):
        whose = "" if write.run_id == first else " of a child run"
        return f"{_words(write)} in step {write.seq}{whose}"
    return None


def _words(write: port.Call | port.Attempt | port.Reserve | port.Settle | port.Park | port.Decide) -> str:
    match write:
        case port.Call():
            return f"the answer of {write.kind} {write.name}"
        case port.Attempt():
            return f"attempt {write.attempt} of {write.name} ({write.kind})"
        case port.Reserve():
            return "a reservation"
        case port.Settle():
            return "a reservation's end"
        case port.Park():
            return f"the wait ({write.head.waiting_for or write.head.status})"
        case port.Decide():
            return f"the decision {write.decision}"


class Marked(Dying):
    """A store's probe that knows what is being written, and ends its process at one point; with `kill`, by SIGKILL."""

    def __init__(self, first: bytes, at: Point | None, *, kill: bool = False) -> None:
        super().__init__()
        self.mark = at
        self.passed: list[Point] = []
        """The points so far, in order."""
        self._first, self._kill = first, kill
        self._times = Counter[str]()
        self._writing: list[tuple[str, int]] = []

    def batch(self, writes: Sequence[Step]) -> None:
        """These are about to be written, in one transaction if all goes well."""
        names = [name for write in writes if (name := name_of(write, self._first)) is not None]
        self._writing = []
        for name in names:
            self._writing.append((name, self._times[name]))
            self._times[name] += 1

    def __call__(self, side: str) -> None:
        if side not in ("before", "after"):
            raise ValueError(side)
        here = [Point("before" if side == "before" else "after", name, nth) for name, nth in self._writing]
        if self.mark in here:
            if self._kill:
                os.kill(os.getpid(), signal.SIGKILL)
            self.at = self.points
        self.passed += [point for point in here if point not in self.passed]
        super().__call__(side)


class MarkedStore(SqlStore):
    """A store that tells its probe what each batch writes."""

    def __init__(self, database: Database, probe: Marked) -> None:
        super().__init__(database, probe=probe)
        self._mark = probe

    async def open(self) -> None:
        await super().open()
        writer = self._writer
        assert writer is not None
        commit: Callable[[Sequence[Step]], list[object]] = writer._work  # noqa: SLF001 - where all writes come by, in batches

        def noticed(writes: Sequence[Step]) -> list[object]:
            self._mark.batch(writes)
            return commit(writes)

        writer._work = noticed  # noqa: SLF001
