"""The order of everything around a call. The only file that knows two members of the stack at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from statecraft.calls.call import Call, Middleware, Next, Reply, compose
from statecraft.calls.deadline import deadline
from statecraft.calls.intent import intent
from statecraft.calls.lease import Leases
from statecraft.calls.recall import recall
from statecraft.calls.retry import Retry, RetryPolicy
from statecraft.calls.span import span


def build(
    policy: RetryPolicy,
    uniform: Callable[[], float],
    *,
    gate: Middleware | None = None,
    doubt: Middleware | None = None,
    budget: Middleware | None = None,
    breaker: Middleware | None = None,
    limiter: Middleware | None = None,
    lease: Leases | None = None,
) -> Next:
    """The call stack of a runtime, outermost first; a member that is None is left out.

    Recall stands outside retry so that a finished call costs nothing. Gate and doubt stand between them, so that a
    question is asked once per call, and of exactly what would run. Budget, breaker and limiter stand inside, so that
    each attempt is counted. The lease is looked at last, before the intent and again behind it.
    """
    stack: tuple[Middleware | None, ...] = (
        None if lease is None else lease.follow,
        span,
        recall,
        gate,
        doubt,
        Retry(policy, uniform),
        budget,
        breaker,
        limiter,
        None if lease is None else lease.enter,
        intent,
        None if lease is None else lease.leave,
        deadline,
    )
    return compose([member for member in stack if member is not None], perform)


async def perform(call: Call) -> Reply:
    """The call itself. One that cancels itself has failed; only who runs the handler can cancel that."""
    try:
        return await call.perform(call)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(f"{call.name} cancelled itself") from error
