"""The mark a `once` call leaves before it begins, so that a crash leaves a question and never a blind second try.

Inside breaker and limiter: an attempt that they put off has not begun.
"""

from __future__ import annotations

from statecraft.calls.call import Call, Next, Reply


async def intent(call: Call, following: Next) -> Reply:
    """Write the attempt down as `begun` first, if the call may happen only once."""
    if call.once:
        call.visit.begun[(call.digest, call.occurrence)] = (call.name, call.request)
        await call.visit.attempted(call, call.attempt, "begun", "", None)
    return await following(call)
