"""Who decided a move: a handler, a model, a person, an operator, time, a bound, a call that failed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from statecraft.engine.history import MIGRATED, REWRITTEN
from statecraft.explaining.facts import Decider
from statecraft.explaining.past import SYSTEM, Stored
from statecraft.money import billionths, decimal, shown
from statecraft.records import CallRecord, Json, ReviewRecord, TransitionRecord

TIMERS = frozenset({"state_timeout", "deadline_passed", "review_expired"})


def decider(move: TransitionRecord, stored: Stored, calls: Sequence[CallRecord], reviews: Sequence[ReviewRecord]) -> Decider:
    """Who or what decided the move that ended a visit with these calls and questions."""
    payload = move.payload
    if move.event in REWRITTEN:
        return _rewrite(move, payload)
    if move.actor is not None:
        return _person(move, stored, reviews)
    if move.event in SYSTEM and move.event not in stored.state(move.source).get("events", ()):
        return _system(move, payload, calls)
    sources = dict(_sources(payload, calls))
    models = [call.name for call in calls if call.idx in sources.values() and call.kind == "llm"]
    if not sources:
        return Decider("handler", "", move.at, f"The handler of {move.source} answered {move.event}.")
    named = {call.idx: f"call {call.idx} ({call.kind} {call.name})" for call in calls}
    said = "; ".join(f"{field} is from {named[idx]}" for field, idx in sources.items())
    text = f"The handler of {move.source} answered {move.event}: {said}."
    name = models[0] if models else ""
    return Decider("model" if models else "handler", name, move.at, text, tuple(sorted(set(sources.values()))))


def _rewrite(move: TransitionRecord, payload: Mapping[str, Json]) -> Decider:
    data = "its data was put in place whole" if payload.get("data") is not None else "its data stayed"
    if move.event == MIGRATED:
        old = str(payload.get("fingerprint") or "")[:12]
        renamed = f"; {move.source} is called {move.target} now" if move.source != move.target else ""
        return Decider("migration", old, move.at, f"It was migrated from definition {old}{renamed}; {data}.")
    by, note = str(payload.get("by") or move.actor or "somebody"), payload.get("note")
    text = f"{by} forked it from step {payload.get('step', 0)} of run {payload.get('run', '')}; {data}."
    return Decider("fork", by, move.at, f"{text} They said: {note}" if note else text)


def _person(move: TransitionRecord, stored: Stored, reviews: Sequence[ReviewRecord]) -> Decider:
    name = move.actor or ""
    asked = next((each for each in reviews if each.kind == "state"), None)
    if asked is None and any(row["event"] == move.event and row.get("by") == "operator" for row in stored.spec["rows"]):
        return Decider("operator", name, move.at, f"{name} redrove the dead run with {move.event}.")
    question = "" if asked is None else f' to "{asked.question}"'
    return Decider("person", name, move.at, f"{name} answered {move.event}{question}.")


def _system(move: TransitionRecord, payload: Mapping[str, Json], calls: Sequence[CallRecord]) -> Decider:
    event, message = move.event, str(payload.get("message") or "")
    match event:
        case "handler_failed":
            return Decider("handler", "", move.at, f"The handler of {move.source} failed: {message}")
        case "invalid_output":
            name = str(payload.get("name", ""))
            return Decider("model", name, move.at, f"The output of {name} never fitted: {message}")
        case "call_failed":
            made = [call.idx for call in calls if not call.ok and call.result.get("message") == message]
            name, attempts = str(payload.get("name", "")), payload.get("attempts", 0)
            text = f"The call of {name} failed for good ({payload.get('kind', '')}, {attempts} attempts): {message}"
            return Decider("call", name, move.at, text, tuple(made))
        case _:
            return Decider("timer" if event in TIMERS else "bound", event, move.at, _bound(move.source, event, payload, message))


def _bound(state: str, event: str, payload: Mapping[str, Json], message: str) -> str:
    """A bound with its numbers."""
    match event:
        case "state_timeout":
            return f"The visit of {state} took longer than its {payload.get('seconds', 0):g} s."
        case "visits_exhausted":
            return f"{state} was entered once more than its {payload.get('visits', 0)} visits; its handler was not called."
        case "steps_exhausted":
            return f"The {payload.get('steps', 0)} steps of the run are used up."
        case "budget_warning" | "budget_exhausted":
            used, limit = (_amount(str(payload.get("unit", "")), payload.get(name, 0)) for name in ("used", "limit"))
            over = "is used up" if event == "budget_exhausted" else "is nearly used up"
            return f"The budget of the {payload.get('scope', 'run')} {over}: {used} of {limit}."
        case _:
            return f"The engine said {event}: {message}" if message else f"The engine said {event}."


def _amount(unit: str, value: Json) -> str:
    if unit == "money":
        return shown(billionths(decimal(value, "an amount")))
    return f"{value:g} s" if unit == "wall" else f"{value:,} {unit}"


def _sources(payload: Mapping[str, Json], calls: Sequence[CallRecord]) -> Iterator[tuple[str, int]]:
    """(field, call) for each field of the payload that a call of the visit answered word for word; the last call counts."""
    said = [
        (call.idx, list(_parts(call.result))) for call in reversed(calls) if call.ok and call.kind in ("llm", "tool", "child")
    ]
    for field, value in payload.items():
        if isinstance(value, str | list | dict) and value:
            idx = next((idx for idx, parts in said if value in parts or _all_in(value, parts)), None)
            if idx is not None:
                yield field, idx


def _all_in(value: Json, parts: Sequence[Json]) -> bool:
    """Whether a list was put together from what one call answered."""
    return isinstance(value, list) and all(item in parts for item in value)


def _parts(value: Json, depth: int = 6) -> Iterator[Json]:
    """A reply and all that is in it; a text that is JSON counts as what it says too."""
    yield value
    if depth and isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _parts(item, depth - 1)
    elif depth and isinstance(value, str) and value[:1] in ("{", "["):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):  # A model may write any number of brackets.
            return
        yield from _parts(inner, depth - 1)
