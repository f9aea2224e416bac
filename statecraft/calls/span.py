"""Outermost: say in the log that a call ended, how, and how long it took."""

from __future__ import annotations

from statecraft import trace
from statecraft.calls.call import Call, Next, Reply


async def span(call: Call, following: Next) -> Reply:
    """Log one `call` event when the call ends. Costs nothing when the logger is off."""
    if not trace.enabled():
        return await following(call)
    clock = call.visit.clock
    began, outcome, reply = clock.monotonic(), "cancelled", None
    recalled = call.visit.recall(call) is not None
    try:
        reply = await following(call)
        outcome = "ok"
        return reply
    except Exception as error:
        outcome = type(error).__name__
        raise
    finally:
        trace.emit(
            "call",
            {
                "run_id": call.visit.run_id.hex(),
                "seq": call.visit.seq,
                "kind": call.kind,
                "target": call.name,
                "key": call.key,
                "outcome": outcome,
                "recalled": recalled,
                "seconds": round(clock.monotonic() - began, 6),
                "tokens": reply.usage.total if reply else 0,
            },
        )
