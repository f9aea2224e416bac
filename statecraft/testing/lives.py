"""A run that outlives its processes, within one test: each life is one runtime over the same database, and may die.

A life dies at a persistence point, just before or just after a commit: the store's probe raises there, from then on that
runtime can write nothing, and it is taken down at once. The next life is a new runtime with a new owner. Time belongs to the
ground on which they live, not to a life: it stands still, but for those who sleep and for runs that are parked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

from statecraft.clock import instant
from statecraft.engine.settings import Settings
from statecraft.errors import ConfigError, RunClosed, RunHeld, StoreError, StoreUnavailable
from statecraft.ids import RandomIds
from statecraft.records import RunFilter, RunRecord, Waiting
from statecraft.runtime import Runtime
from statecraft.store import database_of, schema
from statecraft.store.database import Database
from statecraft.store.sql import SqlStore
from statecraft.store.sqlite import Sqlite, Target
from statecraft.testing.clock import LeapingClock, ManualClock

T = TypeVar("T")
R = TypeVar("R", bound=Runtime)

LONG = timedelta(days=300)
"""No lease ends and no poller looks around by itself: only what the run does makes commits."""
_MOST = 100_000
TIMED = frozenset({Waiting.TIMER, Waiting.RETRY, Waiting.QUOTA, Waiting.BREAKER, Waiting.LIMIT, Waiting.START})
"""What a parked run waits for that comes by itself."""


def refuse_inside_a_loop(what: str) -> None:
    """Raise `ConfigError` where an event loop runs already: each life has one of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(f"{what} runs an event loop for each process: call it from a plain `def` test, not from an async one")


def unhurried(settings: Settings | None) -> Settings:
    """The settings, for lives whose time stands still and which look after nothing but their own run. It is never a run's
    own fault here that its process dies."""
    return replace(settings or Settings(), lease=LONG, poll=LONG, poison=_MOST, take="own")


class Death(BaseException):
    """The end of a process: nobody catches it."""


class Dying:
    """A store's probe that raises `Death` at persistence point number `at` (from 0; None: never)."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.points = 0
        self.dead = False
        self.told: Callable[[], object] = lambda: None

    def die(self) -> None:
        """Now, wherever it is: no commit gets through any more."""
        self.at, self.dead = self.points, True
        self.told()

    def __call__(self, point: str) -> None:
        if self.points == self.at or self.dead:
            self.die()
            raise Death(point)
        self.points += 1


class SteadyIds(RandomIds):
    """The first run of a world has always the same id, so that two worlds can be compared."""

    def __init__(self, first: bytes, seed: int) -> None:
        super().__init__(seed)
        self.first = first
        self.begins = False
        """Whether the id that is asked for next is that of the first run."""

    def run_id(self, now: int) -> bytes:
        if self.begins:
            self.begins = False
            return self.first
        return super().run_id(now)


class _Kept(Sqlite):
    """A database in memory that is still there when its store is closed."""

    def dispose(self) -> None:
        """Whoever made it forgets it."""

    def forget(self) -> None:
        super().dispose()


@dataclass
class Ground:
    """What outlives a process: the database and the clock. Close it."""

    url: str = "sqlite://"
    clock: LeapingClock = field(default_factory=LeapingClock)
    shared: bool = False
    """Whether there may be other runs in the database."""
    hangs: float = 30.0
    """Real seconds after which a life that neither dies nor ends is a failure."""

    def __post_init__(self) -> None:
        self._made = False
        self._kept = _Kept(Target(None)) if self.url == "sqlite://" else None

    def database(self) -> Database:
        """The way into the database."""
        return self._kept or database_of(self.url, self.clock)

    def store(self, probe: Callable[[str], None] | None = None) -> SqlStore:
        """A store of its own for one life."""
        return SqlStore(self.database(), probe=probe)

    @contextlib.contextmanager
    def looking(self) -> Iterator[Any]:
        """A connection to read by, for a `with` block. A database that is not there yet is made first."""
        database = self.database()
        try:
            if not self._made:
                link = schema.prepare(database, bring_up=True)
                link.close()
                self._made = True
            with database.reader() as sql:
                yield sql
        finally:
            database.dispose()

    def close(self) -> None:
        """Forget a database in memory."""
        if self._kept is not None:
            self._kept.forget()

    # --- one life ----------------------------------------------------------------------------------------------------

    def live(self, probe: Dying, open_runtime: Callable[[], R], story: Callable[[R], Awaitable[T]]) -> T | None:
        """What the story answers, or None if the process died first. Raises `AssertionError` if it does neither."""

        async def tell() -> T:
            async with open_runtime() as runtime:
                return await story(runtime)

        return asyncio.run(self._live(probe, tell))

    async def _live(self, probe: Dying, tell: Callable[[], Awaitable[T]]) -> T | None:
        loop, died = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _loop, _context: None)  # What a dying process leaves behind is nobody's business.
        probe.told = lambda: loop.call_soon_threadsafe(died.set)
        told, death = asyncio.ensure_future(tell()), asyncio.ensure_future(died.wait())
        over, _ = await asyncio.wait({told, death}, return_when=asyncio.FIRST_COMPLETED, timeout=self.hangs)
        death.cancel()
        if over and not probe.dead:
            return await told
        told.cancel()
        with contextlib.suppress(asyncio.CancelledError, StoreUnavailable, *(() if not probe.dead else (Exception,))):
            await told
        if not over:
            raise AssertionError(
                f"the run neither ends nor dies within {self.hangs:g} s, after {probe.points} persistence points"
            )
        return None


# --- what every life does ---------------------------------------------------------------------------------------------


async def family(runtime: Runtime, run: RunRecord) -> list[RunRecord]:
    """The run and all runs under it, parents first."""
    found, todo = [run], [run]
    while todo:
        children = await runtime.runs(RunFilter(parent=todo.pop().id, limit=_MOST))
        found += children
        todo += children
    return found


async def take_over(runtime: Runtime, run: RunRecord, look_after: Callable[[str], object]) -> None:
    """Go on with everything that an earlier life held, and look after what waits."""
    for each in await family(runtime, run):
        look_after(each.id)
        if each.owner not in (None, runtime.owner):
            with contextlib.suppress(RunClosed):
                await runtime.resume(each.id, force=True)


async def let_time_pass(runtime: Runtime, clock: ManualClock, run_id: str) -> None:
    """If the run is parked until some instant, that instant comes."""
    run = await runtime.get(run_id)
    if run.waiting_for in TIMED and run.due_at is not None:
        await clock.advance(max(timedelta(0), run.due_at - instant(clock.now())))
        # A poller that was just about to sleep when the clock jumped would sleep for as long again.
        with contextlib.suppress(RunHeld, RunClosed, StoreError):
            await runtime.resume(run.id)


async def both(main: Awaitable[T], aside: Awaitable[Any]) -> T:
    """What `main` answers; `aside` goes on beside it until then, and what it raises is raised."""
    tasks = asyncio.ensure_future(main), asyncio.ensure_future(aside)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            await tasks[1]  # Raises: by itself it never ends.
        return await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
