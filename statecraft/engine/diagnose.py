"""What a person needs who finds a run dead."""

from __future__ import annotations

import json

from statecraft.calls.call import canonical
from statecraft.engine.held import Held
from statecraft.engine.jsonable import to_json
from statecraft.machine.event import CallFailed, Event, HandlerFailed, InvalidOutput, event_name
from statecraft.records import Json
from statecraft.store.port import Store

LAST_CALLS = 5
"""How many of the last calls the diagnosis names."""
LAST_STEPS = 20
"""How many of the last moves it names."""


async def diagnosis(store: Store, held: Held, event: Event | None, reason: str, needs: str = "") -> str:
    """JSON: where the run died, on what, with which data, and what would let it go on (`needs`, or what follows from
    the event)."""
    calls, history = await store.calls(held.run_id), await store.history(held.run_id)
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
        "path": [f"{move.source} {move.event} {move.target}" for move in history[-LAST_STEPS:] if move.source],
        "last_calls": [
            {"seq": call.seq, "kind": call.kind, "name": call.name, "ok": call.ok, "attempts": call.attempts}
            for call in calls[-LAST_CALLS:]
        ],
        "unfinished": await _unfinished(store, held),
        "needs": needs or _needs(held, name),
    }
    return canonical(facts)


def _readable(value: object) -> Json:
    """A value as JSON; as Python shows it if it cannot be JSON, which may be what the run died of."""
    try:
        return json.loads(to_json(value))
    except ValueError:
        return ascii(value)[:2000]


async def _unfinished(store: Store, held: Held) -> list[Json]:
    """The last attempt of each call of the visit that has no outcome."""
    done = {(digest.hex(), nth) for digest, nth in held.visit.recorded}
    steps = range(held.visit.first, held.seq + 1)
    every = [each for seq in steps for each in await store.attempts(held.run_id, seq)]
    tried = {(each.digest, each.occurrence): each for each in every}
    return [
        {"name": each.name, "kind": each.kind, "attempt": each.attempt, "message": each.message}
        for place, each in tried.items()
        if place not in done
    ]


_MORE = {
    "deadline_passed": "more time (redrive with deadline=), or ",
    "steps_exhausted": "more steps (redrive with steps=), or ",
    "visits_exhausted": "an operator's event that leads elsewhere, or ",
    "budget_exhausted": "an operator's event that leads to an end, or ",
}
"""What a redrive can give, by what the run died of."""


def _needs(held: Held, event: str | None) -> str:
    if event is None:
        return f"more steps (redrive with steps=), or a way to an end within {held.definition.max_steps} steps"
    return f"{_MORE.get(event, '')}a row for {event} in {held.state} (or in anywhere), or the cause removed"


def named(event: Event | None) -> tuple[str, str | None]:
    """(error, call) of a death, in one word each: for counting what runs died of."""
    match event:
        case None:
            return "", None
        case HandlerFailed(error=error):
            return error or "HandlerFailed", None
        case CallFailed(kind=kind, name=name):
            return kind or "CallFailed", name or None
        case InvalidOutput(name=name):
            return "InvalidOutput", name or None
        case _:
            return type(event).__name__, None


def attempted(held: Held) -> str | None:
    """The call of the visit that was last tried and has no outcome; None if there is none."""
    open_calls = [tries[-1] for place, tries in held.visit.tried.items() if place not in held.visit.recorded]
    return max(open_calls, key=lambda each: each.at).name if open_calls else None
