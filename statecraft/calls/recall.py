"""A finished call answers from the journal; a new one is journaled when it ends, well or badly."""

from __future__ import annotations

from statecraft.calls.call import Call, Next, Reply
from statecraft.calls.visit import Recorded, failed
from statecraft.errors import CallError
from statecraft.records import Usage


async def recall(call: Call, following: Next) -> Reply:
    """Read the journal first. What comes back is durable before the handler sees it.

    A failure for good (`CallError`) is part of the record as well: the handler may have acted on it.
    """
    visit = call.visit
    found = visit.recall(call)
    if found is not None:
        return found.answer()
    started_at = visit.clock.now()
    try:
        reply = await following(call)
    except CallError as error:
        error.name = call.name  # As it will be when it is recalled, whatever name a tool gave it.
        await visit.record(call, Recorded(False, failed(error), Usage(), None, error.attempts, call.name), started_at)
        raise
    paid = (reply.cost, reply.price_source, reply.charges)
    done = Recorded(True, reply.result, reply.usage, reply.model, reply.attempts, call.name, *paid)
    await visit.record(call, done, started_at)
    return reply
