"""Having people told that a breaker opened."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from statecraft import trace
from statecraft.channel import Kind
from statecraft.errors import StoreError
from statecraft.store.outbox import Tell, event_id

Submit = Callable[[Tell], Awaitable[object]]
"""How an event gets into the store."""

EVERY = 600_000_000
"""Of a breaker that opens over and over, or in many processes, people are told once in so long (microseconds)."""


async def opened(submit: Submit, dependency: str, failures: int, pause: float, now: int) -> None:
    """Tell it. A store that fails costs the alert, never the call."""
    event = event_id(Kind.BREAKER_OPENED, dependency, now // EVERY)
    body = json.dumps({"dependency": dependency, "failures": failures, "pause": pause})
    try:
        await submit(Tell(event, Kind.BREAKER_OPENED.value, now, body))
    except StoreError as error:
        trace.emit("store.failed", {"what": "breaker.opened", "error": repr(error)}, level=logging.WARNING)
