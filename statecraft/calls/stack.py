"""The order of everything around a call. The only file that knows two members of the stack at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from statecraft.calls.call import Call, Middleware, Next, Reply, compose
from statecraft.calls.deadline import deadline
from statecraft.calls.recall import recall
from statecraft.calls.retry import Retry, RetryPolicy
from statecraft.calls.span import span


def build(policy: RetryPolicy, uniform: Callable[[], float]) -> Next:
    """The call stack of a runtime, outermost first.

    Recall stands outside retry so that a finished call costs nothing; whatever must see each attempt stands inside it.
    Members still to come have their places here: the gate (risk, review) between recall and retry, so that a question
    is asked once per call; budget, breaker and limiter between retry and deadline, so that each attempt is counted.
    """
    stack: tuple[Middleware, ...] = (
        span,
        recall,
        # gate
        Retry(policy, uniform),
        # budget
        # breaker
        # limiter
        deadline,
    )
    return compose(stack, perform)


async def perform(call: Call) -> Reply:
    """The call itself. One that cancels itself has failed; only who runs the handler can cancel that."""
    try:
        return await call.perform(call)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(f"{call.name} cancelled itself") from error
