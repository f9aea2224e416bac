"""Where breakers and limiters keep their small states: in this process, or in the database for several of them.

A state is a short text, changed by a pure function that nobody else's change can come between. The same functions work
in both homes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from statecraft import trace
from statecraft.calls.call import Call
from statecraft.errors import StoreError
from statecraft.store import port

A = TypeVar("A")
Change = Callable[[str | None], tuple[str, A]]
"""From the kept state (None: none yet) to the new one and an answer. May be called more than once; only one outcome counts."""


class Gauges(Protocol):
    """A home of small states."""

    @property
    def shared(self) -> bool:
        """Whether others may change a state between two looks at it."""
        ...

    async def adjust(self, meter: str, change: Change[A]) -> A:
        """Change one state and answer what the function answers. Raises `StoreError`."""
        ...


class MemoryGauges:
    """In this process. Gone with it, which costs a few failed calls to learn anew."""

    shared = False

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    async def adjust(self, meter: str, change: Change[A]) -> A:
        """Never yields to anybody, so nothing can come between."""
        self.states[meter], answer = change(self.states.get(meter))
        return answer


class StoredGauges:
    """In the database, one row each: all workers see one state."""

    shared = True

    def __init__(self, store: port.Store) -> None:
        self._store = store

    async def adjust(self, meter: str, change: Change[A]) -> A:
        """One transaction (shared with what else is waiting to be written)."""
        return cast(A, await self._store.submit(port.Adjust(meter, change)))


async def ask(gauges: Gauges, call: Call, meter: str, change: Change[A]) -> A:
    """Adjust before an attempt. A store that fails ends the visit, as if the journal had failed: nothing was sent yet."""
    try:
        return await gauges.adjust(meter, change)
    except StoreError as error:
        call.visit.end(error)
        raise


async def tell(gauges: Gauges, meter: str, change: Change[A]) -> A | None:
    """Adjust after an attempt. A store that fails must not cost the reply: it is logged, and the state is a little wrong."""
    try:
        return await gauges.adjust(meter, change)
    except StoreError as error:
        trace.emit("store.failed", {"what": f"meter {meter}", "error": repr(error)}, level=logging.WARNING)
        return None


def numbers(stored: str | None) -> dict[str, Any]:
    """A kept state as a dict; empty if there is none, or if it cannot be read (another version's, perhaps)."""
    try:
        found = json.loads(stored or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def text(state: dict[str, Any]) -> str:
    """The other way."""
    return _COMPACT.encode(state)


_COMPACT = json.JSONEncoder(separators=(",", ":"))
