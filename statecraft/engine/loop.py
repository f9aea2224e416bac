"""A run that makes the same move again and again, noticed from move to move. Pure but for the counts in `Held.laps`.

A move is the same if the state, the data the handler saw, the event with its payload, and what its tools answered are the
same. (What a model answered is not asked: saying the same in other words gets nobody anywhere.) A visit that slept on
purpose, or that a person decided, starts the counting anew: the world may have changed. So does a run that is taken up
by another process.

Each new move is compared with one earlier one, however long the run is: with the latest that was repeated, and if none was
for a while, with a newer one (the idea of Brent's cycle detection: R. P. Brent, "An improved Monte Carlo factorization
algorithm", BIT 20, 1980). A loop is therefore noticed at most `moves_within` moves later than it could be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statecraft.calls.visit import Recorded
from statecraft.engine.held import Held, Lap
from statecraft.llm.loops import LoopPolicy
from statecraft.machine.event import Event, LoopDetected, event_name

MOVES = "moves"
"""What `LoopDetected.what` says about a run that repeats its moves; of a model it names the tool."""
_CHANCE = frozenset({"now", "random"})


def loop(held: Held, event: Event, payload: str, policy: LoopPolicy | None) -> LoopDetected | None:
    """What takes the place of `event`, if the run goes round in circles. Speaks once per run, like the other bounds."""
    if policy is None or policy.moves is None:
        return None
    visit = held.visit
    if visit.slept or held.definition.states[held.state].kind == "review":
        held.laps.clear()
        return None
    name, seq = event_name(type(event)), held.seq
    lap = held.laps.get((held.state, name))
    if lap is not None and payload == lap.payload and _same(held, lap):
        made = lap.made = [*(each for each in lap.made if each > seq - policy.moves_within), seq]
        if len(made) >= policy.moves and "loop_detected" not in held.events:
            return _detected(held, name, policy)
    elif lap is None or seq - lap.made[-1] >= policy.moves_within:
        held.laps[held.state, name] = Lap(held.data, payload, visit.recorded, [seq])
    return None


def _same(held: Held, lap: Lap) -> bool:
    return _equal(held.data, lap.data) and _tools(held.visit.recorded) == _tools(lap.recorded)


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of the run's data type are equal. The fields are compared directly: a model's own `==` costs
    more than the rest of the look."""
    if one is other:
        return True
    try:
        return bool(one.__dict__ == other.__dict__)
    except Exception:  # noqa: BLE001 - the fields are the user's: what cannot be compared is not the same
        return False


def _tools(recorded: Mapping[tuple[bytes, int], Recorded]) -> list[tuple[bytes, int, str]]:
    """What tools answered in a visit."""
    if not recorded:
        return []
    return sorted(
        (digest, occurrence, call.result)
        for (digest, occurrence), call in recorded.items()
        if call.model is None and call.name not in _CHANCE
    )


def _detected(held: Held, event: str, policy: LoopPolicy) -> LoopDetected:
    message = (
        f"{held.state} answered {event} {policy.moves} times within {policy.moves_within} moves, each time from the same data, "
        "with the same payload and the same answers of its tools"
    )
    return LoopDetected(what=MOVES, message=message)
