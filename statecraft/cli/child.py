"""The command line in a process of its own, watched through the database's feed."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from statecraft.cli.exits import Exit
from statecraft.cli.moves import line_of
from statecraft.clock import SystemClock
from statecraft.errors import StatecraftError
from statecraft.records import Status

if TYPE_CHECKING:
    from statecraft.runtime import Runtime

GLANCE = 0.02
"""Seconds between two looks at the feed."""


class Child:
    """A `statecraft` command in another process."""

    def __init__(self, running: Process) -> None:
        self._running = running
        self.pid = running.pid

    @classmethod
    async def start(cls, words: Sequence[str]) -> Child:
        """Start it. Its words are those of the command line."""
        command = [sys.executable, "-m", "statecraft", *words, "--no-progress", "--color", "never"]
        return cls(await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE))

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._running.returncode is not None

    async def first_line(self) -> str:
        """The first line it prints. Raises `StatecraftError` with what it said instead, if it ended without one."""
        assert self._running.stdout is not None
        line = (await self._running.stdout.readline()).decode().strip()
        if not line:
            await self.done()
            raise StatecraftError("the new process printed nothing")
        return line

    async def done(self) -> None:
        """Wait for its end. Raises `StatecraftError` with its last line if it ended by a mistake of its own."""
        _, said = await self._running.communicate()
        if self._running.returncode not in {Exit.DONE, Exit.FAILED, Exit.WAITING, Exit.REJECTED}:
            last = said.decode(errors="replace").strip().splitlines()
            raise StatecraftError(f"a process of the demo ended with code {self._running.returncode}: {last[-1] if last else ''}")

    async def kill(self) -> bool:
        """Kill it with SIGKILL, which it can neither see nor delay. False if it had ended by itself."""
        if self.over:
            return False
        self._running.kill()
        await self._running.communicate()
        return self._running.returncode != 0


@dataclass(slots=True)
class Watched:
    """A run being watched, and how far its feed was read."""

    run_id: str
    after: int = 0
    seq: int = 0
    """The visit it is in."""
    calls: int = 0
    """Finished calls of that visit."""


async def until_inside(rt: Runtime, watched: Watched, child: Child, say: Callable[[str], None]) -> None:
    """Show the run's moves until it pauses inside a later visit than the first, with some calls finished, or the child
    ends. It pauses where nothing came into the feed between two looks."""
    while not child.over:
        quiet = not await _read(rt, watched, say)
        run = await rt.get(watched.run_id)
        if quiet and watched.seq and watched.calls and run.status is Status.RUNNING and run.seq == watched.seq:
            return
        await SystemClock().sleep(GLANCE)


async def until_ended(rt: Runtime, watched: Watched, child: Child, say: Callable[[str], None]) -> None:
    """Show the run's moves until the child has ended."""
    ending = asyncio.ensure_future(child.done())
    while not ending.done():
        await _read(rt, watched, say)
        await asyncio.wait([ending], timeout=GLANCE)
    await _read(rt, watched, say)
    await ending


async def _read(rt: Runtime, watched: Watched, say: Callable[[str], None]) -> int:
    """Show what is new in the feed; answer how many entries that were."""
    entries = await rt.feed(watched.run_id, after=watched.after)
    for entry in entries:
        watched.after = entry.pos
        if entry.kind == "transition":
            watched.seq, watched.calls = entry.seq, 0
        elif entry.kind == "call":
            watched.calls += 1
        if line := line_of(entry):
            say(line)
    return len(entries)
