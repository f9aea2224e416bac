"""Carries what the outbox has to the channels of this process: at least once, each alert under one id.

One task for each channel, so that one that hangs keeps nobody else waiting. A delivery is taken by putting its due time
off (`store.Fetch`), sent outside any transaction, and only then marked; if we are killed in between, somebody sends
it again when that time comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from statecraft import trace
from statecraft.alerts import pace
from statecraft.alerts.catalogue import alert_of
from statecraft.alerts.watch import Watch
from statecraft.channel import Alert, AlertPolicy, Channel, NotDelivered, wanted
from statecraft.clock import Clock
from statecraft.store import port
from statecraft.store.outbox import Carried, Enable, Errand, Fetch, Hurry, Missed, Subscribe

TIME_LIMIT = 15.0
"""Seconds for one attempt."""
LEASE = 60_000_000
"""Microseconds for which a delivery that was taken is nobody else's. Longer than an attempt and its record need."""
AT_ONCE = 4
"""Deliveries of one channel under way at once in a process."""
GRACE = 5.0
"""Seconds of the real clock in which a process that stops still delivers what is due."""
DOWN = 3
"""Failures in a row that mean a channel was down, not one alert ill-received: then all that waits goes when it is back."""


async def attempt(clock: Clock, channel: Channel, alert: Alert) -> NotDelivered | None:
    """Send one alert within the time limit; why it was not delivered, if it was not."""
    limit = clock.timeout(TIME_LIMIT)
    try:
        async with limit:
            await channel.send(alert)
    except NotDelivered as failure:
        return failure
    except TimeoutError:
        return NotDelivered(f"no answer in {TIME_LIMIT:g} s" if limit.expired() else "TimeoutError")
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return NotDelivered("CancelledError")  # The channel's own making; it must not end the carrier.
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - a channel may raise what it likes, and sys.exit() in it ends nobody's
        return NotDelivered(type(error).__name__)  # worker. Texts of others may hold secrets.
    return None


class Carrier:
    """Carries for one channel."""

    def __init__(self, store: port.Store, clock: Clock, uniform: Callable[[], float], channel: Channel, poll: float) -> None:
        self.channel = channel
        self._store, self._clock, self._uniform = store, clock, uniform
        self._poll = poll
        self._failures = 0
        """In a row."""
        self._rest_until = 0

    async def once(self) -> float:
        """Carry what is due, up to `AT_ONCE`; the seconds until there may be more."""
        now = self._clock.now()
        if now < self._rest_until:
            return min(self._poll, (self._rest_until - now) / 1_000_000)
        due = await self._store.next_delivery(self.channel.name)
        if due is None or due > now:
            return self._poll if due is None else min(self._poll, (due - now) / 1_000_000)
        many = AT_ONCE if self._failures == 0 else 1
        taken = await self._store.submit(Fetch(self.channel.name, now, now + LEASE, many))
        errands = cast("list[Errand]", taken)
        await asyncio.gather(*(self._carry(errand) for errand in errands))
        return 0.0 if errands and self._clock.now() >= self._rest_until else min(self._poll, 1.0)

    async def _carry(self, errand: Errand) -> None:
        failure = await attempt(self._clock, self.channel, alert_of(errand))
        name, now = self.channel.name, self._clock.now()
        if failure is None:
            was_down, self._failures = self._failures >= DOWN, 0
            await self._store.submit(Carried(name, errand.event, errand.attempt, now))
            if was_down:
                await self._store.submit(Hurry(name, now))
            return
        self._failures += 1
        self._rest_until = now + int(pace.rest(self._failures, failure.retry_after) * 1_000_000)
        wait = None if failure.gone else pace.delay(errand.attempt, self._uniform(), failure.retry_after)
        due = None if wait is None else now + int(wait * 1_000_000)
        told = {"channel": name, "id": errand.event.hex(), "attempt": errand.attempt, "reason": str(failure), "wait": wait}
        trace.emit("alert.missed", told, level=logging.WARNING)
        await self._store.submit(Missed(name, errand.event, errand.attempt, due, str(failure)[:500]))
        if failure.gone:
            await self._store.submit(Enable(name, now, str(failure)[:500]))


class Courier:
    """All channels of a process. Started and stopped by the runtime; nothing else may end it."""

    def __init__(
        self,
        store: port.Store,
        clock: Clock,
        uniform: Callable[[], float],
        channels: Sequence[Channel],
        policy: AlertPolicy,
        poll: float,
    ) -> None:
        self._store, self._clock, self._channels, self._poll = store, clock, tuple(channels), poll
        self._carriers = [Carrier(store, clock, uniform, channel, poll) for channel in channels]
        self._watch = Watch(store, clock, policy)
        self._every = policy.look_every.total_seconds()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the channels known and begin. Raises `StoreError`."""
        for channel in self._channels:
            kinds = tuple(str(kind) for kind in wanted(channel.kinds))
            await self._store.submit(Subscribe(channel.name, kinds, self._clock.now()))
        for carrier in self._carriers:
            self._tasks.append(
                asyncio.create_task(self._for_ever(carrier.once), name=f"statecraft alerts {carrier.channel.name}")
            )
        if self._carriers:
            self._watching = asyncio.create_task(self._for_ever(self._look), name="statecraft watch")

    async def stop(self) -> None:
        """Deliver what is due now, for `GRACE` seconds at most, and end. What is left goes later, from wherever."""
        self._stopping.set()
        if self._watching is not None:
            self._watching.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE)
        tasks = [*self._tasks, *([self._watching] if self._watching is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks, self._watching = [], None

    async def _look(self) -> float:
        await self._watch.once()
        return self._every

    async def _for_ever(self, once: Callable[[], Coroutine[Any, Any, float]]) -> None:
        """Again and again, whatever happens; told to stop, until there is nothing to do right now."""
        while True:
            stopping = self._stopping.is_set()
            try:
                pause = await once()
            except Exception as error:  # noqa: BLE001 - nothing may end a loop of the courier
                trace.emit("store.failed", {"what": "alerts", "error": repr(error)}, level=logging.WARNING)
                pause = self._poll
            if stopping and pause > 0:
                return
            if pause > 0 and not self._stopping.is_set():
                await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        limit = self._clock.timeout(seconds)
        try:
            async with limit:
                await self._stopping.wait()
        except TimeoutError:
            if not limit.expired():
                raise
