"""A run's way through its machine: the moves in order, what each state took, guards that refused, where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

from statecraft.diagram.graph import Edge, Graph, Shape, Spec, count, graph, words_for
from statecraft.diagram.marks import Drawing, Mark, Note, Tone
from statecraft.money import shown
from statecraft.records import CallRecord, RunRecord, Status, TransitionRecord

REWRITES = frozenset({"migrated", "forked"})
"""Moves that put a run elsewhere without entering a state."""

SAID = ("message", "reason", "error", "errors", "feedback", "what", "note")
"""Fields of an event that say what went wrong, the best first."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A move that a run made."""

    seq: int
    source: str
    event: str
    target: str
    guard: str
    """The guard that said yes; empty if none was needed."""
    refused: tuple[str, ...] = ()
    """Guards that said no on the way."""


@dataclass(frozen=True, slots=True)
class Stay:
    """What a run did in one state, over all its visits."""

    visits: int = 0
    calls: int = 0
    tokens: int = 0
    time: timedelta = timedelta(0)
    """Time in ended visits; an open one is not counted."""
    cost: int = 0
    """Billionths of a dollar, of calls whose price is known."""

    def __add__(self, other: Stay) -> Stay:
        return Stay(
            self.visits + other.visits,
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.time + other.time,
            self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True)
class Overlay:
    """A run, ready to be painted over its machine."""

    run_id: str
    status: Status
    state: str
    """Where the run stands."""
    reason: str
    """Why it died, was cancelled or failed; empty otherwise."""
    path: tuple[Passage, ...]
    """The moves in order, without the start."""
    stays: Mapping[str, Stay] = field(default_factory=dict)
    origin: str = ""
    """What it was forked from, in words; empty if it was not."""


def overlay(history: Sequence[TransitionRecord], calls: Sequence[CallRecord], run: RunRecord) -> Overlay:
    """A run's way through its machine: the moves in order, and what each state took.

    `calls` tell what was paid, and what the visit that is still open has used; ended visits carry their own sums.
    """
    stays: dict[str, Stay] = {}
    for entered, left in zip(history, [*history[1:], None], strict=True):
        visit = [call for call in calls if call.seq == entered.seq]
        paid = sum(call.cost or 0 for call in visit)
        if left is not None:
            # Where a fork parted from its origin, the visit is begun anew when it does; a delayed start begins later, too.
            began = max(entered.at, run.created_at) if entered.seq == (run.forked_step or 0) else entered.at
            stay = Stay(0, left.calls, left.usage.total, max(left.at - began, timedelta(0)), paid)
        else:
            stay = Stay(0, len(visit), sum(call.usage.total for call in visit), cost=paid)
        before = stays.get(entered.target, Stay())
        stays[entered.target] = replace(before + stay, visits=_visits(entered, before.visits))
    path = tuple(_passage(move) for move in history if move.source)
    origin = f"forked from run {run.forked_from[:12]} at #{run.forked_step}" if run.forked_from else ""
    return Overlay(run.id, run.status, run.state, _reason(run, history), path, stays, origin)


def taken(drawn: Graph, ov: Overlay) -> dict[int, tuple[int, ...]]:
    """Which rows a run took: the row's index, and the moves' numbers in order."""
    found: dict[int, tuple[int, ...]] = {}
    for move in ov.path:
        row = row_of(drawn, move)
        if row is not None:
            found[row.index] = (*found.get(row.index, ()), move.seq)
    return found


def refused(drawn: Graph, ov: Overlay) -> dict[int, tuple[int, ...]]:
    """Which rows a run did not take because their guard said no: the row's index, and the moves' numbers in order."""
    found: dict[int, tuple[int, ...]] = {}
    for move in ov.path:
        for guard in move.refused:
            here = [edge for edge in drawn.edges if edge.guard == guard and edge.source in (move.source, "")]
            asked = min(here, key=lambda edge: (edge.event != move.event, edge.source == ""), default=None)
            if asked is not None:
                found[asked.index] = (*found.get(asked.index, ()), move.seq)
    return found


def row_of(drawn: Graph, move: Passage) -> Edge | None:
    """The row that made a move. An event may have been taken by a row for its class's parent, such as `failure`."""
    if move.event in REWRITES:
        return None
    rows = [edge for edge in drawn.edges if edge.source in (move.source, "") and edge.target == move.target]

    def distance(edge: Edge) -> tuple[bool, bool, bool, bool]:
        declared = "" if edge.guard == "else" else edge.guard
        return (edge.event != move.event, edge.event != "failure", declared != move.guard, edge.source == "")

    return min(rows, key=distance, default=None)


def guard_of(guards: Sequence[tuple[str, bool]]) -> str:
    """The last guard asked, if it said yes: that is the one whose row was taken."""
    return guards[-1][0] if guards and guards[-1][1] else ""


def of_run(spec: Spec, ov: Overlay) -> Drawing:
    """A machine with a run's way on it. What the run did under an older definition is drawn too, dotted."""
    drawn = _with_history(graph(spec), ov)
    steps, no = taken(drawn, ov), refused(drawn, ov)
    foreign = {edge.index: tuple(m.seq for m in ov.path if _same(edge, m)) for edge in drawn.edges if edge.by == "history"}
    rows = {}
    for edge in drawn.edges:
        seen = foreign[edge.index] if edge.index in foreign else steps.get(edge.index, ())
        if seen or edge.index in no:
            rows[edge.index] = _row_mark(edge, ov, seen, no.get(edge.index, ()))
    return Drawing(
        replace(drawn, edges=tuple(replace(e, by="") if e.by == "history" else e for e in drawn.edges)),
        kind="run",
        title=_title(ov),
        states={shape.name: _state_mark(shape, ov, ov.stays[shape.name]) for shape in drawn.shapes if shape.name in ov.stays},
        rows=rows,
        rest=Mark("faint"),
    )


def spent(stay: Stay) -> list[str]:
    """Time, calls, tokens and cost, as far as there are any, in words."""
    said = [words_for(stay.time)] if stay.time else []
    if stay.calls:
        said.append(count(stay.calls, "call"))
    if stay.tokens:
        said.append(f"{stay.tokens / 1000:.1f}k tokens" if stay.tokens >= 10_000 else f"{stay.tokens:,} tokens")
    return [*said, shown(stay.cost)] if stay.cost else said


def short(text: str, most: int) -> str:
    """A text on one line, cut if it is longer than `most` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def said_by(move: TransitionRecord) -> str:
    """What an event says about what went wrong; empty if it says nothing."""
    return next((str(move.payload[name]) for name in SAID if move.payload.get(name)), "")


# --- parts --------------------------------------------------------------------------------------------------------------


def _passage(move: TransitionRecord) -> Passage:
    no = tuple(name for name, held in move.guards if not held)
    return Passage(move.seq, move.source, move.event, move.target, guard_of(move.guards), no)


def _visits(entered: TransitionRecord, before: int) -> int:
    """How often a state was entered. A rewrite enters none; a migration carries counts over to the states' new names."""
    if entered.event not in REWRITES:
        return before + 1
    mapped = entered.payload.get("visits")
    return max(before, int(mapped.get(entered.target, 1)) if isinstance(mapped, Mapping) else 1)


def _reason(run: RunRecord, history: Sequence[TransitionRecord]) -> str:
    if run.reason or run.status is not Status.FAILED:
        return run.reason or ""
    return said_by(history[-1])


def _with_history(drawn: Graph, ov: Overlay) -> Graph:
    """With the states and moves that the run has and the definition has not: rewrites, and what an older one declared."""
    known = {shape.name for shape in drawn.shapes}
    gone = [name for name in ov.stays if name not in known]
    moves = dict.fromkeys((m.source, m.event, m.target) for m in ov.path if row_of(drawn, m) is None)
    first = max((edge.index for edge in drawn.edges), default=-1) + 1
    return replace(
        drawn,
        start=ov.path[0].source if ov.path else drawn.start,
        shapes=(*drawn.shapes, *(Shape(name, "foreign", False, (), (), "A state of an older definition.") for name in gone)),
        edges=(*drawn.edges, *(Edge(first + n, *move, "", "history") for n, move in enumerate(moves))),
    )


def _same(edge: Edge, move: Passage) -> bool:
    return (edge.source, edge.event, edge.target) == (move.source, move.event, move.target)


def _title(ov: Overlay) -> tuple[Note, ...]:
    total = sum(ov.stays.values(), Stay())
    said = [f"run {ov.run_id[:12]}", ov.status.value, count(len(ov.path), "move"), *spent(total)]
    lines = [Note(" · ".join(said), "quiet")]
    if ov.origin:
        lines.append(Note(ov.origin, "quiet"))
    if ov.reason:
        lines.append(Note(short(ov.reason, 90), "red"))
    return tuple(lines)


def _state_mark(shape: Shape, ov: Overlay, stay: Stay) -> Mark:
    lines = [Note(" · ".join([f"×{stay.visits}", *spent(stay)]))]
    here = ov.state == shape.name
    if here and not ov.status.closed:
        standing = "waiting here" if ov.status is Status.WAITING else "is here"
        lines.append(Note(standing, "amber" if shape.kind == "review" else "blue", strong=True))
    if here and ov.status is Status.DEAD:
        lines.append(Note("died here", "red", strong=True))
    tone: Tone = "foreign" if shape.kind == "foreign" else "taken"
    if here:
        tone = "bad" if ov.status is Status.DEAD else "here"
    return Mark(tone, tuple(lines))


def _row_mark(edge: Edge, ov: Overlay, seen: tuple[int, ...], no: tuple[int, ...]) -> Mark:
    bad = ov.status is Status.FAILED and bool(ov.path) and ov.path[-1].seq in seen and ov.state == edge.target
    notes = [Note(_numbers(edge, ov, seen), "red" if bad else "blue", strong=True)] if seen else []
    if no:
        notes.append(Note(f"refused at {', '.join(f'#{seq}' for seq in no)}", "amber"))
    if bad and ov.reason:
        notes.append(Note(short(ov.reason, 44), "red"))
    tone: Tone = "foreign" if edge.by == "history" else "taken" if seen else "faint"
    return Mark("bad" if bad else tone, tuple(notes), min(len(seen), 5) / 5)


def _numbers(edge: Edge, ov: Overlay, seen: tuple[int, ...]) -> str:
    """The moves' places in the run; for a row of every state, also where each move came from."""
    if not edge.source:
        return ", ".join(f"#{move.seq} from {move.source}" for move in ov.path if move.seq in seen)
    if len(seen) > 6:  # A loop that went round a hundred times has a label that still fits.
        runs = sum(one + 1 != other for one, other in pairwise(seen))
        if not runs:
            return f"#{seen[0]} to #{seen[-1]}"
        return f"{', '.join(f'#{seq}' for seq in seen[:3])}, … #{seen[-1]} ({len(seen)} times)"
    return ", ".join(f"#{seq}" for seq in seen)
