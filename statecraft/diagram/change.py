"""Two versions of a machine in one picture: what was added, what was removed, what was changed and how."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from statecraft.diagram.graph import Edge, Graph, Shape, Spec, count, graph, parsed
from statecraft.diagram.marks import Drawing, Hue, Mark, Note, Tone
from statecraft.records import Json

HUES: dict[Tone, Hue] = {"added": "green", "removed": "red", "changed": "amber"}


def of_change(old: Spec, new: Spec) -> Drawing:
    """The new definition, with what differs from the old one marked and what is gone drawn dashed.

    Rows are told apart by source, event, guard and target; a row of which only the guard or only the target differs is
    one that changed.
    """
    before, after = graph(old), graph(new)
    shapes = {shape.name: shape for shape in before.shapes}
    gone = tuple(shape for shape in before.shapes if shape.name not in {s.name for s in after.shapes})
    pairs, lost = _paired(before, after)
    first = len(after.edges)
    edges = (*after.edges, *(replace(edge, index=first + n) for n, edge in enumerate(lost)))
    rows = {edge.index: _row(edge, pairs.get(edge.index)) for edge in after.edges}
    rows |= {first + n: _mark("removed", ["removed"]) for n in range(len(lost))}
    states = {shape.name: _state(shape, shapes.get(shape.name), parsed(old), parsed(new)) for shape in after.shapes}
    states |= {shape.name: _mark("removed", ["removed"]) for shape in gone}
    both = replace(after, shapes=(*after.shapes, *gone), edges=edges)
    return Drawing(both, "change", _title(before, after, parsed(old), parsed(new), states, rows), states, rows, Mark("same"))


# --- what belongs together ----------------------------------------------------------------------------------------------


def _paired(before: Graph, after: Graph) -> tuple[dict[int, Edge], list[Edge]]:
    """The old row of each new one that has one, and the old rows that are left over.

    First those that are equal, then those of one source and event that lead to the same state, then those with one guard.
    """
    pairs: dict[int, Edge] = {}
    left = list(before.edges)

    def key(edge: Edge, how: int) -> tuple[str, ...]:
        whole = (edge.source, edge.event, edge.by)
        return ((*whole, edge.guard, edge.target), (*whole, edge.target), (*whole, edge.guard))[how]

    for how in range(3):
        waiting: defaultdict[tuple[str, ...], list[Edge]] = defaultdict(list)
        for edge in left:
            waiting[key(edge, how)].append(edge)
        for edge in after.edges:
            if edge.index not in pairs and (found := waiting[key(edge, how)]):
                pairs[edge.index] = found.pop(0)
        left = [edge for edge in before.edges if edge not in pairs.values()]
    return pairs, left


# --- what changed, in words ---------------------------------------------------------------------------------------------


def _state(shape: Shape, old: Shape | None, before: Mapping[str, Json], after: Mapping[str, Json]) -> Mark:
    if old is None:
        return _mark("added", ["added"])
    said: list[str] = []
    if (old.kind, old.ok) != (shape.kind, shape.ok):
        said.append(f"was {_sort(old)}, is {_sort(shape)}")
    said += _facts(old.facts, shape.facts)
    said += _names("tool", old.tools, shape.tools)
    said += _names("event", _of(before, shape.name, "events"), _of(after, shape.name, "events"))
    said += _names("child", _of(before, shape.name, "children"), _of(after, shape.name, "children"))
    return _mark("changed", said) if said else Mark("same")


def _row(edge: Edge, old: Edge | None) -> Mark:
    if old is None:
        return _mark("added", ["added"])
    said: list[str] = []
    if old.guard != edge.guard:
        said.append(f"was [{old.guard}]" if old.guard else "had no guard")
    if old.target != edge.target:
        said.append(f"led to {old.target}")
    return _mark("changed", said) if said else Mark("same")


def _mark(tone: Tone, said: list[str]) -> Mark:
    return Mark(tone, tuple(Note(text, HUES[tone], strong=True) for text in said))


def _sort(shape: Shape) -> str:
    return f"a {'good' if shape.ok else 'bad'} end" if shape.kind == "final" else f"a {shape.kind} state"


def _facts(old: tuple[str, ...], new: tuple[str, ...]) -> list[str]:
    gone, come = [fact for fact in old if fact not in new], [fact for fact in new if fact not in old]
    said = [f"was {' · '.join(gone)}"] if gone else []
    return said if gone or not come else [f"was without {' · '.join(come)}"]


def _of(spec: Mapping[str, Json], name: str, what: str) -> tuple[str, ...]:
    return next((tuple(state.get(what) or ()) for state in spec["states"] if state["name"] == name), ())


def _names(what: str, old: tuple[str, ...], new: tuple[str, ...]) -> list[str]:
    come = [f"+ {what} {name}" for name in new if name not in old]
    return come + [f"− {what} {name}" for name in old if name not in new]


def _title(
    before: Graph,
    after: Graph,
    old: Mapping[str, Json],
    new: Mapping[str, Json],
    states: Mapping[str, Mark],
    rows: Mapping[int, Mark],
) -> tuple[Note, ...]:
    name = "" if before.name == after.name else f"{before.name} "
    lines = [Note(f"compared with {name}version {before.version}", "quiet")]
    marks: list[Mark] = [*states.values(), *rows.values()]
    for tone, hue in HUES.items():
        of_states = sum(mark.tone == tone for mark in states.values())
        of_rows = sum(mark.tone == tone for mark in rows.values())
        said = [count(n, what) for n, what in ((of_states, "state"), (of_rows, "row")) if n]
        if said:
            lines.append(Note(f"{tone}: {', '.join(said)}", hue))
    said = [f"start was {before.start}"] if before.start != after.start else []
    said += [f"bounds: {' · '.join(after.facts)}, {words}" for words in _facts(before.facts, after.facts)]
    said += [f"{what} changed" for what in ("data", "events") if _canonical(old, what) != _canonical(new, what)]
    lines += [Note(text, "amber") for text in said]
    if not said and all(mark.tone == "same" for mark in marks):
        lines.append(Note("nothing that is drawn differs", "quiet"))
    return tuple(lines)


def _canonical(spec: Mapping[str, Json], what: str) -> str:
    return json.dumps(spec.get(what), sort_keys=True)
