"""What a person needs who finds a run dead."""

from __future__ import annotations

from statecraft.calls.call import canonical
from statecraft.engine.held import Held
from statecraft.machine.event import Event, event_name
from statecraft.records import Json
from statecraft.store.port import Store

LAST_CALLS = 5
"""How many of the last calls the diagnosis names."""


async def diagnosis(store: Store, held: Held, event: Event | None, reason: str) -> str:
    """JSON: where the run died, on what, with which data, and what would let it go on."""
    calls = await store.calls(held.run_id)
    name = None if event is None else event_name(type(event))
    facts: dict[str, Json] = {
        "reason": reason,
        "state": held.state,
        "visit": held.visits[held.state],
        "seq": held.seq,
        "event": name,
        "payload": None if event is None else event.model_dump(mode="json"),
        "data": held.data.model_dump(mode="json"),
        "visits": dict(held.visits),
        "last_calls": [
            {"seq": call.seq, "kind": call.kind, "name": call.name, "ok": call.ok, "attempts": call.attempts}
            for call in calls[-LAST_CALLS:]
        ],
        "needs": _needs(held, name),
    }
    return canonical(facts)


def _needs(held: Held, event: str | None) -> str:
    if event is None:
        return f"a way to an end within {held.definition.max_steps} steps, or a larger max_steps"
    return f"a row for {event} in {held.state} (or in anywhere), or the cause removed"
