"""Innermost but one: one attempt may take only so long by the wall clock.

A read timeout of a socket is per gap between bytes and lets a slow drip live for ever; this one does not.
"""

from __future__ import annotations

from statecraft.calls.call import Call, Next, Reply


class AttemptTimeout(Exception):
    """An attempt passed its deadline."""


async def deadline(call: Call, following: Next) -> Reply:
    """Cancel the attempt after `call.timeout` seconds and raise `AttemptTimeout`."""
    if call.timeout is None:
        return await following(call)
    limit = call.visit.clock.timeout(call.timeout)
    try:
        async with limit:
            return await following(call)
    except Exception as error:
        # Once the time is over it does not matter how the attempt took its end.
        if not limit.expired():
            raise
        raise AttemptTimeout(f"{call.name} took longer than {call.timeout:g} s") from error
