"""Saying that a breaker changed: in the log, and to people when it opened."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from statecraft import trace
from statecraft.channel import Kind
from statecraft.errors import StoreError
from statecraft.store.outbox import Tell, event_id

if TYPE_CHECKING:
    from statecraft.calls.breaker import Circuit

Submit = Callable[[Tell], Awaitable[object]]
"""How an event gets into the store."""

EVERY = 600_000_000
"""Of a breaker that opens over and over, or in many processes, people are told once in so long (microseconds)."""
_SECOND = 1_000_000


def changed(dependency: str, became: str, circuit: Circuit) -> None:
    """Say in the log that a breaker changed."""
    trace.emit(
        "breaker",
        {
            "dependency": dependency,
            "became": became,
            "failures": circuit.in_a_row,
            "window_calls": circuit.calls + circuit.calls_before,
            "window_failed": circuit.failed + circuit.failed_before,
            "pause": circuit.pause / _SECOND,
        },
        level=logging.WARNING if became == "opened" else logging.INFO,
    )


async def opened(submit: Submit, dependency: str, circuit: Circuit, now: int) -> None:
    """Have people told that it opened. A store that fails costs the alert, never the call."""
    event = event_id(Kind.BREAKER_OPENED, dependency, now // EVERY)
    facts = {"dependency": dependency, "failures": circuit.in_a_row, "pause": circuit.pause / _SECOND}
    try:
        await submit(Tell(event, Kind.BREAKER_OPENED.value, now, json.dumps(facts)))
    except StoreError as error:
        trace.emit("store.failed", {"what": "breaker.opened", "error": repr(error)}, level=logging.WARNING)
