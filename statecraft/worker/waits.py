"""Waiting for something to happen in this process, or for some time, whichever comes first."""

from __future__ import annotations

import asyncio

from statecraft.clock import Clock


async def either(clock: Clock, event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    limit = clock.timeout(seconds)
    try:
        async with limit:
            await event.wait()
    except TimeoutError:
        if not limit.expired():
            raise
