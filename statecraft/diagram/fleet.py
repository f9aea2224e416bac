"""The fleet on its machine: how many runs are in each state now, and which way they went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from statecraft.diagram.graph import Edge, Graph, Spec, count, graph
from statecraft.diagram.marks import Drawing, Mark, Note
from statecraft.diagram.way import REWRITES, Passage, guard_of, row_of
from statecraft.records import Status, Waiting
from statecraft.stats.heat import Flow, Heat


@dataclass(frozen=True, slots=True)
class _Counts:
    """What is known of each state and row of the machine that is drawn."""

    live: Counter[str]
    reviews: Counter[str]
    dead: Counter[str]
    taken: Counter[int]
    """Moves by the row that made them."""
    left: Counter[str]
    """Moves by the state they left."""
    strange: Counter[str]
    """Moves that no row of this version explains, by event."""


def of_fleet(spec: Spec, heat: Heat) -> Drawing:
    """A machine with its runs on it: filled by how many are there now, rows by how many of a state's moves they took."""
    drawn = graph(spec)
    counts = _counted(drawn, heat)
    most = max((counts.live[shape.name] for shape in drawn.shapes), default=0)
    ended = Counter[str]()
    for edge in drawn.edges:
        ended[edge.target] += counts.taken[edge.index]
    finals = {shape.name: ended[shape.name] for shape in drawn.shapes if shape.kind == "final"}
    return Drawing(
        drawn,
        kind="fleet",
        title=_title(drawn, heat, counts, finals),
        states={
            shape.name: _ended(finals[shape.name], sum(finals.values()))
            if shape.kind == "final"
            else _standing(shape.name, counts, most)
            for shape in drawn.shapes
        },
        rows={edge.index: _flow(edge, counts) for edge in drawn.edges},
    )


# --- parts --------------------------------------------------------------------------------------------------------------


def _counted(drawn: Graph, heat: Heat) -> _Counts:
    counts = _Counts(Counter(), Counter(), Counter(), Counter(), Counter(), Counter())
    for crowd in heat.crowds:
        sort = counts.dead if crowd.status is Status.DEAD else counts.live
        sort[crowd.state] += crowd.runs
        if crowd.waiting_for is Waiting.REVIEW:
            counts.reviews[crowd.state] += crowd.runs
    for flow in heat.flows:
        row = row_of(drawn, _passage(flow))
        if row is not None:
            counts.taken[row.index] += flow.moves
            counts.left[flow.source] += flow.moves
        else:
            counts.strange[flow.event] += flow.moves
    return counts


def _passage(flow: Flow) -> Passage:
    return Passage(0, flow.source, flow.event, flow.target, guard_of(flow.guards))


def _standing(name: str, counts: _Counts, most: int) -> Mark:
    live, reviews, dead = counts.live[name], counts.reviews[name], counts.dead[name]
    notes: list[Note] = []
    if live:
        asked = f", {reviews:,} for a person" if 0 < reviews < live else " wait for a person" if reviews else ""
        notes.append(Note(f"{count(live, 'run')}{asked}" if reviews < live else f"{live:,}{asked}", strong=True))
    if dead:
        notes.append(Note(f"{dead:,} dead", "red", strong=True))
    # One run among thousands is still seen: the least fill is a fifth of the deepest.
    return Mark("warm", tuple(notes), 0.2 + 0.8 * live / most if live else 0.0)


def _ended(here: int, all_of_them: int) -> Mark:
    notes = (Note(f"{here:,} ended · {_share(here, all_of_them)}", strong=True),) if here else ()
    return Mark("plain", notes)


def _flow(edge: Edge, counts: _Counts) -> Mark:
    """A row's share of the moves that left its state; for a row of every state, of all moves."""
    moves = counts.taken[edge.index]
    if not moves:
        return Mark("faint")
    whole = counts.left[edge.source] if edge.source else counts.left.total()
    said = f"{moves:,} · {_share(moves, whole)}{'' if edge.source else ' of all'}"
    return Mark("warm", (Note(said, strong=True),), moves / whole)


def _share(part: int, whole: int) -> str:
    """A share in percent. What happened is never 0 %, and what did not always happen never 100 %."""
    percent = 100 * part / whole
    if part < whole and percent > 99.5:
        return ">99 %"
    return "<1 %" if percent < 0.5 else f"{percent:.0f} %"


def _title(drawn: Graph, heat: Heat, counts: _Counts, finals: dict[str, int]) -> tuple[Note, ...]:
    live, dead, ended = counts.live.total(), counts.dead.total(), sum(finals.values())
    good = sum(finals[shape.name] for shape in drawn.shapes if shape.ok)
    said = [
        f"{count(live, 'run')} open now",
        f"{dead:,} dead",
        f"{count(sum(counts.taken.values()), 'move')} since {_since(heat)}",
    ]
    lines = [Note(" · ".join(said), "quiet")]
    if ended:
        lines.append(Note(f"{count(ended, 'run')} ended, {_share(good, ended)} of them well", "quiet"))
    if not heat.whole:
        lines.append(Note("older moves are not counted: too many for one look", "amber"))
    known = {shape.name for shape in drawn.shapes}
    gone = {name: runs for name, runs in (counts.live + counts.dead).items() if name not in known}
    if gone:
        where = ", ".join(f"{name} ({runs:,})" for name, runs in sorted(gone.items()))
        lines.append(Note(f"not drawn, in states of other versions: {where}", "amber"))
    strange = sum(moves for event, moves in counts.strange.items() if event not in REWRITES)
    rewritten = sum(counts.strange[event] for event in REWRITES)
    if strange:
        lines.append(Note(f"not drawn: {count(strange, 'move')} by rows of other versions", "amber"))
    if rewritten:
        lines.append(Note(f"{count(rewritten, 'run')} migrated or forked", "quiet"))
    return tuple(lines)


def _since(heat: Heat) -> str:
    return f"{heat.since:%Y-%m-%d %H:%M} UTC"
