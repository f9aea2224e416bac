"""What a person needs who finds a run dead."""

from __future__ import annotations

import json

from statecraft.calls.call import canonical
from statecraft.engine.held import Held
from statecraft.engine.jsonable import to_json
from statecraft.machine.event import Event, event_name
from statecraft.records import Json
from statecraft.store.port import Store

LAST_CALLS = 5
"""How many of the last calls the diagnosis names."""


async def diagnosis(store: Store, held: Held, event: Event | None, reason: str, needs: str = "") -> str:
    """JSON: where the run died, on what, with which data, and what would let it go on (`needs`, or what follows from
    the event)."""
    calls = await store.calls(held.run_id)
    name = None if event is None else event_name(type(event))
    facts: dict[str, Json] = {
        "reason": reason,
        "state": held.state,
        "visit": held.visits[held.state],
        "seq": held.seq,
        "event": name,
        "payload": None if event is None else _readable(event),
        "data": _readable(held.data),
        "visits": dict(held.visits),
        "last_calls": [
            {"seq": call.seq, "kind": call.kind, "name": call.name, "ok": call.ok, "attempts": call.attempts}
            for call in calls[-LAST_CALLS:]
        ],
        "needs": needs or _needs(held, name),
    }
    return canonical(facts)


def _readable(value: object) -> Json:
    """A value as JSON; as Python shows it if it cannot be JSON, which may be what the run died of."""
    try:
        return json.loads(to_json(value))
    except ValueError:
        return ascii(value)[:2000]


def _needs(held: Held, event: str | None) -> str:
    if event is None:
        return f"a way to an end within {held.definition.max_steps} steps, or a larger max_steps"
    return f"a row for {event} in {held.state} (or in anywhere), or the cause removed"
