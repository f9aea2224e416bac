"""Two runs side by side, or one run at two steps: where they part, and what differs then. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statecraft.engine.history import REWRITTEN, Past
from statecraft.records import CallRecord, Json, TransitionRecord, Usage


@dataclass(frozen=True, slots=True)
class Side:
    """A run up to a step, as read."""

    past: Past
    moves: Sequence[TransitionRecord]
    calls: Sequence[CallRecord]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one side used up to where it is compared."""

    run_id: str
    step: int
    state: str
    calls: int
    usage: Usage
    cost: int
    """Billionths of a dollar, as far as prices are known."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The first move that differs."""

    step: int
    one: TransitionRecord | None
    """None if this side ends before it."""
    other: TransitionRecord | None


@dataclass(frozen=True, slots=True)
class CallChange:
    """A call that one side made and the other did not, or that was answered otherwise."""

    step: int
    """The visit, counted from 0; moves that only put other data in place do not count."""
    what: str
    """`only one`, `only other`, or `answer` for one that both made."""
    one: CallRecord | None
    other: CallRecord | None


@dataclass(frozen=True, slots=True)
class Contrast:
    """What differs between two runs, or two steps."""

    one: Spent
    other: Spent
    shared: int
    """Moves that both begin with, the start included."""
    parting: Parting | None
    """None if neither made a move that the other did not."""
    fields: Mapping[str, tuple[Json, Json]]
    """Fields of the data whose values differ, with both; a field that one side lacks is None there."""
    calls: Sequence[CallChange]
    problems: Sequence[str]
    """Why data could not be folded; then it is not compared."""

    @property
    def equal(self) -> bool:
        """Whether the two have the same moves, data and calls."""
        return self.parting is None and not self.fields and not self.calls


def contrast(one: Side, other: Side) -> Contrast:
    """Compare two sides."""
    shared = _shared(one.moves, other.moves)
    return Contrast(
        one=_spent(one),
        other=_spent(other),
        shared=shared,
        parting=_parting(one.moves, other.moves, shared),
        fields=_fields(one.past, other.past),
        calls=_calls(one, other),
        problems=tuple(dict.fromkeys(side.past.problem for side in (one, other) if side.past.problem)),
    )


def _spent(side: Side) -> Spent:
    usage = sum((call.usage for call in side.calls), Usage())
    cost = sum(call.cost or 0 for call in side.calls)
    return Spent(side.past.run_id, side.past.step, side.past.state, len(side.calls), usage, cost)


def _facts(move: TransitionRecord) -> tuple[object, ...]:
    return move.source, move.event, move.target, dict(move.payload), move.guards, move.actor


def _shared(one: Sequence[TransitionRecord], other: Sequence[TransitionRecord]) -> int:
    pairs = zip(one, other, strict=False)
    parting = next((step for step, (a, b) in enumerate(pairs) if _facts(a) != _facts(b)), None)
    return min(len(one), len(other)) if parting is None else parting


def _parting(one: Sequence[TransitionRecord], other: Sequence[TransitionRecord], step: int) -> Parting | None:
    mine, theirs = (moves[step] if step < len(moves) else None for moves in (one, other))
    return None if mine is theirs is None else Parting(step, mine, theirs)


def _fields(one: Past, other: Past) -> dict[str, tuple[Json, Json]]:
    if one.data is None or other.data is None:
        return {}
    names = dict.fromkeys((*one.raw, *other.raw))
    pairs = {name: (one.raw.get(name), other.raw.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _calls(one: Side, other: Side) -> tuple[CallChange, ...]:
    """By visit, in the order of the calls: the same request in the same visit is the same call."""
    mine, theirs = _by_visit(one), _by_visit(other)
    found: list[CallChange] = []
    for key in dict.fromkeys((*mine, *theirs)):
        a, b = mine.get(key), theirs.get(key)
        if a is None or b is None:
            found.append(CallChange(key[0], "only other" if a is None else "only one", a, b))
        elif (a.ok, a.result) != (b.ok, b.result):
            found.append(CallChange(key[0], "answer", a, b))
    return tuple(sorted(found, key=lambda change: change.step))


def _by_visit(side: Side) -> dict[tuple[int, str, int], CallRecord]:
    """Calls by visit and request. Moves that only put other data in place do not count: the visit goes on."""
    visits: list[int] = []
    for move in side.moves:
        visits.append((visits[-1] if visits else -1) + (move.event not in REWRITTEN))
    return {(visits[call.seq], call.digest, call.occurrence): call for call in side.calls}
