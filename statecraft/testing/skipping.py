"""A clock that skips to the next instant at which something is due, once nothing is left to do before it.

Time that passes while a run is held ends its lease, its calls' timeouts and its deadline. A test that advances a clock beside
a run at work therefore tests a machine that was asleep, or depends on how fast this one is. Here time moves only when no run is
in hand; then no lease is held that could end, and what waits is waited for by the database, which knows until when.

One wait is in hand all the same: a pause of a few seconds (a backoff, `run.sleep`) is not worth parking a run for. Such
a pause passes too, in steps between which the leases are renewed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from statecraft.clock import SystemClock, instant, stamp
from statecraft.records import RunFilter, RunRecord, Status
from statecraft.testing.clock import START, ManualClock
from statecraft.testing.running import waiting_tasks

if TYPE_CHECKING:
    from statecraft.runtime import Runtime

PATIENCE = 30.0
"""Seconds of the real clock that what is in hand may take."""
_MANY = 100_000
_STEPS = 6
"""In the time of a lease. Leases are renewed before each."""


class SkippingClock(ManualClock):
    """A `ManualClock` that can also skip: `await clock.skip_until(rt, run.id)` brings a run to its end, whatever it waits for
    on the way: timers, backoff, the timeout of a review, schedules, child runs.

    `patience` is how many seconds of the real clock the runs in hand may take before it gives up, and says where they are.
    Give all runtimes of this clock: the lease of a holder that is not given is waited out, like that of one that is gone.
    """

    def __init__(self, start: datetime = START, *, patience: float = PATIENCE) -> None:
        super().__init__(start)
        self._patience = patience
        self._pauses: list[int] = []
        """When the pauses under way end."""
        self._noticed: set[asyncio.Event] = set()

    async def sleep(self, seconds: float) -> None:
        end = self.now() + int(seconds * 1_000_000)
        self._pauses.append(end)
        for event in self._noticed:
            event.set()
        try:
            await super().sleep(seconds)
        finally:
            self._pauses.remove(end)

    async def skip(self, *runtimes: Runtime) -> datetime | None:
        """Wait until these runtimes hold no run, then move time on to the next instant at which something is due: a waiting run,
        a schedule, the end of somebody else's lease. Answers that instant; None if there is none, and time stands still.

        Raises `AssertionError` when what is in hand takes longer than the patience.
        """
        await self._settle(runtimes)
        due = await self._next_due(runtimes)
        if due is not None:
            await self.leap(due - instant(self.now()))
        return due

    async def skip_until(
        self,
        rt: Runtime,
        run_id: str,
        *,
        state: str | None = None,
        beside: Iterable[Runtime] = (),
        within: timedelta = timedelta(days=366),
    ) -> RunRecord:
        """Skip until a run has ended, or until it waits in `state`, and answer it. `beside`: the other runtimes of this clock.

        Raises `AssertionError` if time does not bring it there: it waits for a person without a timeout, it has ended before it
        came to `state`, it would take longer than `within`, or a handler takes longer than the patience.
        """
        runtimes = (rt, *beside)
        last = instant(self.now()) + within
        while True:
            await self._settle(runtimes)
            run = await rt.get(run_id)
            if run.status.closed and state in (None, run.state):
                return run
            if run.state == state and run.status is Status.WAITING:
                return run
            due = await self._next_due(runtimes)
            if run.status.closed or due is None or due > last:
                raise AssertionError(_stuck(run, state, due, last))
            await self.leap(due - instant(self.now()))

    # --- what is in hand ---------------------------------------------------------------------------------------------

    async def _settle(self, runtimes: tuple[Runtime, ...]) -> None:
        """Return when none of these holds a run and nothing is due that they may take."""
        noticed = asyncio.Event()
        self._noticed.add(noticed)
        idle = asyncio.ensure_future(self._all_idle(runtimes))
        limit = SystemClock().timeout(self._patience)
        try:
            async with limit:
                while not idle.done():
                    noticed.clear()
                    if not await self._pass_pause(runtimes):
                        await _either(idle, noticed)
                await idle
        except TimeoutError:
            if not limit.expired():
                raise
            raise AssertionError(await _in_hand(runtimes, self._patience)) from None
        finally:
            self._noticed.discard(noticed)
            idle.cancel()
            await asyncio.wait([idle])

    async def _all_idle(self, runtimes: tuple[Runtime, ...]) -> None:
        """`Runtime.idle` of all of them at one time of this clock. What one does may make work for another, and so may a pause
        that passes; so they are asked again until nothing happened since they were asked last."""
        seen: tuple[int, ...] = ()
        while seen != (seen := (self.now(), *(sum(rt.counts.values()) for rt in runtimes))):
            await asyncio.gather(*(rt.idle() for rt in runtimes))

    async def _pass_pause(self, runtimes: tuple[Runtime, ...]) -> bool:
        """Let the shortest pause in hand pass, if there is one that no run would have been parked for."""
        longest = max(max(rt.settings.retry.park_after, rt.settings.pace) for rt in runtimes)
        end = min(self._pauses, default=None)
        if end is None or end - self.now() > longest * 1_000_000:
            return False
        lease = min(rt.settings.lease for rt in runtimes)
        while (left := end - self.now()) > 0:
            for rt in runtimes:
                await _renew(rt)
            await self.leap(min(timedelta(microseconds=left), lease / _STEPS))
        await self.leap(timedelta(0))
        return True

    async def _next_due(self, runtimes: tuple[Runtime, ...]) -> datetime | None:
        """The next instant at which something is due. What is due already is for nobody here."""
        found: set[datetime | None] = set()
        for rt in runtimes:
            for status in (Status.WAITING, Status.READY):
                found |= {run.due_at for run in await rt.runs(RunFilter(status=status, limit=_MANY))}
            if rt.settings.take == "all":
                found |= {schedule.next_at for schedule in await rt.schedules()}
        found |= {run.lease_until for run in await self._held(runtimes)}
        return min((at for at in found if at is not None and stamp(at) > self.now()), default=None)

    async def _held(self, runtimes: tuple[Runtime, ...]) -> list[RunRecord]:
        """Runs under a lease that nobody here is behind. One that was taken just now, beside us, is waited for first."""
        ours = {rt.owner for rt in runtimes}
        seen: set[tuple[str, int]] = set()
        while True:
            held = [run for rt in runtimes for run in await rt.runs(RunFilter(status=Status.RUNNING, limit=_MANY))]
            own = {(run.id, run.epoch) for run in held if run.owner in ours}
            if own <= seen:
                return held
            seen |= own
            await self._settle(runtimes)


async def _renew(rt: Runtime) -> None:
    """Renew the leases of all runs in hand, and of those on their way there, as of now.

    The worker would do so by itself, but what the database says of a lease may be true before the worker knows.
    """
    worker = rt._worker  # noqa: SLF001 - nobody else needs this
    await worker._renew()  # noqa: SLF001
    while worker._taking or worker.claiming:  # noqa: SLF001
        await rt.runs(RunFilter(limit=1))
        await worker._renew()  # noqa: SLF001


async def _either(idle: asyncio.Future[None], noticed: asyncio.Event) -> None:
    noticing = asyncio.ensure_future(noticed.wait())
    try:
        awaited: list[asyncio.Future[Any]] = [idle, noticing]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        noticing.cancel()


def _stuck(run: RunRecord, state: str | None, due: datetime | None, last: datetime) -> str:
    wanted = "ended" if state is None else f"come to {state}"
    if run.status.closed:
        return f"run {run.id} is {run.status} in {run.state}{f' ({run.reason})' if run.reason else ''}; it has not {wanted}"
    stands = f"run {run.id} of {run.machine} is {run.status} in {run.state}"
    if run.waiting_for is not None:
        stands += f" for its {run.waiting_for}"
    if due is None:
        return (
            f"{stands} and has not {wanted}, but nothing is due: no time will move it. If it waits for a person, decide for them"
        )
    return f"{stands} and has not {wanted}; what is due next, at {due.isoformat()}, is later than {last.isoformat()}"


async def _in_hand(runtimes: Iterable[Runtime], patience: float) -> str:
    held = [
        f"{run.id} of {run.machine} in {run.state}"
        for rt in runtimes
        for run in await rt.runs(RunFilter(status=Status.RUNNING, limit=20))
    ]
    shown = "; ".join(dict.fromkeys(held)) or "no run, but something is always due"
    return (
        f"after {patience:g} seconds of the real clock this is still in hand: {shown}. A handler that waits for what time alone "
        f"brings, such as a call's timeout, needs `clock.advance(...)`. Tasks:\n{waiting_tasks()}"
    )
