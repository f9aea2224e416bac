"""What the tests of alerts share: a store with a channel, and a courier's parts with a clock to move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

from statecraft.alerts.courier import Carrier
from statecraft.channel import BY_DEFAULT, Alert, Channel, Kind, wanted
from statecraft.clock import micros
from statecraft.records import DeliveryRecord
from statecraft.store import open_store
from statecraft.store.outbox import Errand, Fetch, Subscribe
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock

EVERY = tuple(kind.value for kind in Kind if kind is not Kind.TEST)


@asynccontextmanager
async def outbox(
    url: str, *, kinds: tuple[str, ...] = EVERY, probe: Callable[[str], None] | None = None
) -> AsyncIterator[SqlStore]:
    """A store with one channel, `ops`, that has been there from the beginning of time."""
    store = cast(SqlStore, open_store(url, probe=probe))
    await store.open()
    try:
        if kinds:
            await store.submit(Subscribe("ops", kinds, 0))
        yield store
    finally:
        await store.close()


async def told(store: SqlStore) -> list[str]:
    """The kinds in the outbox, sorted."""
    return sorted(each.kind for each in await store.deliveries(limit=10_000))


async def errands(store: SqlStore, now: int = 10**15, *, channel: str = "ops") -> list[Errand]:
    """Everything that is due on a channel, taken."""
    return cast("list[Errand]", await store.submit(Fetch(channel, now, now + 1, 1000)))


@dataclass
class Ops:
    """A channel that keeps what it gets, and fails as told."""

    name: str = "ops"
    kinds: tuple[str, ...] = BY_DEFAULT
    got: list[Alert] = field(default_factory=list)
    fails: Callable[[Alert], Exception | None] = lambda _: None

    async def send(self, alert: Alert) -> None:
        self.got.append(alert)
        failure = self.fails(alert)
        if failure is not None:
            raise failure


def carrier(store: SqlStore, channel: Channel, clock: ManualClock, poll: float = 1.0) -> Carrier:
    """The carrier of a channel, with waits in the middle of what they may be."""
    return Carrier(store, clock, lambda: 0.5, channel, poll)


async def subscribed(store: SqlStore, channel: Channel) -> None:
    """Make a channel known from the beginning of time on."""
    await store.submit(Subscribe(channel.name, tuple(map(str, wanted(channel.kinds))), 0))


async def carried(one: Carrier, clock: ManualClock, during: timedelta, step: timedelta = timedelta(seconds=30)) -> None:
    """Let a carrier work for some time on the injected clock."""
    until = clock.now() + micros(during)
    while True:
        while await one.once() <= 0:
            pass
        if clock.now() >= until:
            return
        await clock.advance(step)


async def only(store: SqlStore) -> DeliveryRecord:
    """The one delivery there is."""
    (found,) = await store.deliveries()
    return found


async def turns(count: int = 20) -> None:
    """Let other tasks go on for a while."""
    for _ in range(count):
        await asyncio.sleep(0)
