"""One call of a handler to the world outside it, and how middlewares are put around it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from statecraft.errors import ErrorKind
from statecraft.records import Json, Usage
from statecraft.store.port import Blob, MessageNode

if TYPE_CHECKING:
    from statecraft.calls.visit import Visit


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call brought back."""

    result: str
    """JSON text: exactly what a later recall will read."""
    usage: Usage = Usage()
    model: str | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt failed, in the words that decide about another one."""

    kind: ErrorKind
    message: str
    retry_after: float | None = None
    """Seconds the server asked for."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call about to be made, or answered from the journal."""

    visit: Visit
    kind: str
    """`llm`, `tool`, `sleep`, `now` or `random`."""
    name: str
    """Model or tool."""
    request: str
    """Canonical JSON of everything the answer depends on."""
    digest: bytes
    """SHA-256 of kind and request."""
    occurrence: int
    """Equal requests made before it in this visit."""
    key: str
    """Idempotency key: equal for every attempt and every process that makes this call."""
    perform: Callable[[Call], Awaitable[Reply]]
    """Makes one attempt. Raises what the world raises."""
    classify: Callable[[Exception], Failure]
    """Says what an exception of `perform` means."""
    timeout: float | None = None
    """Seconds one attempt may take."""
    attempt: int = 1
    """Which attempt this is."""
    once: bool = False
    """A second run would do harm: write the intent first, never repeat blindly."""
    nodes: tuple[MessageNode, ...] = ()
    blobs: tuple[Blob, ...] = ()


Next = Callable[[Call], Awaitable[Reply]]
Middleware = Callable[[Call, Next], Awaitable[Reply]]


def compose(middlewares: Sequence[Middleware], perform: Next) -> Next:
    """One function that passes a call through the middlewares, first one outermost, down to `perform`."""
    stack = perform
    for middleware in reversed(middlewares):
        stack = _wrap(middleware, stack)
    return stack


def _wrap(middleware: Middleware, inner: Next) -> Next:
    async def wrapped(call: Call) -> Reply:
        return await middleware(call, inner)

    return wrapped


def canonical(value: Json) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
