"""One call of a handler to the world outside it, and how middlewares are put around it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from statecraft.errors import ErrorKind
from statecraft.records import Draw, Json, Usage
from statecraft.store.port import Blob, Charge, MessageNode

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
    cost: int | None = None
    """Billionths of a dollar; None if no price is known."""
    price_source: str | None = None
    charges: tuple[Charge, ...] = ()
    """What it used of budgets; charged with the call's record."""


@dataclass(frozen=True, slots=True)
class Scope:
    """On whose account a visit makes its calls, and what a gate may look at. One per visit."""

    run_id: str
    state: str
    data: Any
    tenant: str | None = None
    draws: tuple[Draw, ...] = ()
    """Budgets that its calls draw on."""
    used: dict[str, int] = field(default_factory=dict)
    """What the run's own meters have been charged, as far as this process knows; its calls keep it current."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a tool call would do, for a gate to judge and a person to see."""

    tool: str
    arguments: Mapping[str, Json]
    risk: str
    """`safe`, `low`, `medium` or `high`."""
    digest: bytes
    """SHA-256 of tool and arguments: what an approval is bound to."""
    check: Callable[[Mapping[str, Json]], object]
    """Raises if other arguments would not fit the tool."""
    perform: Callable[[Mapping[str, Json]], Callable[[Call], Awaitable[Reply]]]
    """The attempt with other arguments."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt failed, in the words that decide about another one."""

    kind: ErrorKind
    message: str
    retry_after: float | None = None
    """Seconds the server asked for."""
    maybe_billed: bool = False
    """Whether the work may have been done, and charged for, all the same."""
    most: int | None = None
    """Most attempts, if fewer than the policy grants its kind."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call about to be made, or answered from the journal."""

    visit: Visit
    kind: str
    """`llm`, `tool`, `child`, `join`, `sleep`, `now`, `random` or `budget`."""
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
    dependency: str = ""
    """What it depends on outside the process: `model:<id>` or `tool:<name>`. Empty for what never leaves the process;
    then budgets, breakers and limiters let it pass."""
    scope: Scope | None = None
    worst: Usage = Usage()
    """Most tokens one attempt may use."""
    price: int | None = None
    """What one attempt at a tool costs at most, in billionths of a dollar, if it says so."""
    action: Action | None = None
    """What a gate judges; None for calls that no gate looks at."""


Next = Callable[[Call], Awaitable[Reply]]
Middleware = Callable[[Call, Next], Awaitable[Reply]]


def compose(middlewares: Sequence[Middleware], perform: Next) -> Next:
    """One function that passes a call through the middlewares, first one outermost, down to `perform`."""
    stack = perform
    for middleware in reversed(middlewares):
        stack = _wrap(middleware, stack)
    return stack


def _wrap(middleware: Middleware, inner: Next) -> Next:
    def wrapped(call: Call) -> Awaitable[Reply]:
        return middleware(call, inner)

    return wrapped


def canonical(value: Json) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
"""Made once: `json.dumps` makes one for each text."""
