"""The picture in Mermaid's language, for pages that draw it themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from statecraft.diagram.dot import drawing
from statecraft.diagram.graph import Edge, Shape, Spec
from statecraft.diagram.marks import Drawing, Mark
from statecraft.diagram.way import Overlay, short

ANYWHERE = "anywhere_"
LOOKS = {
    "review": "fill:#fffbeb,stroke:#d97706,stroke-dasharray:5 4",
    "good": "fill:#ecfdf5,stroke:#059669",
    "bad": "fill:#fef2f2,stroke:#dc2626",
    "anywhere": "fill:#ffffff,stroke:#94a3b8,stroke-dasharray:2 3",
    "here": "stroke-width:4px",
}
MORE = {
    "faint": "fill:#ffffff,stroke:#cbd5e1,color:#64748b",
    "foreign": "fill:#ffffff,stroke:#64748b,stroke-dasharray:2 3",
    "warm": "fill:#dbeafe,stroke:#2563eb",
    "added": "fill:#ecfdf5,stroke:#059669,stroke-width:3px",
    "removed": "fill:#ffffff,stroke:#dc2626,stroke-dasharray:6 3",
    "changed": "fill:#fffbeb,stroke:#d97706,stroke-width:3px",
}
"""Looks that only overlays use; declared where they are used."""


def to_mermaid(what: Spec | Drawing, overlay: Overlay | None = None) -> str:
    """A machine or a drawing as a Mermaid state diagram; with an `overlay`, moves are numbered and visits counted.

    Mermaid cannot colour or dash an arrow, so an overlay says in words at a row what the other forms show.
    """
    shown = drawing(what, overlay)
    drawn = shown.graph
    anywhere = any(not edge.source for edge in drawn.edges)
    classes = list(_classes(shown, anywhere))
    used = {name for _, name in classes}
    looks = LOOKS | {name: look for name, look in MORE.items() if name in used}
    lines = ["stateDiagram-v2", *(f"  classDef {name} {look}" for name, look in looks.items())]
    lines += [f'  state "{_state_label(shape, shown.of_state(shape.name))}" as {_id(shape.name)}' for shape in drawn.shapes]
    if anywhere:
        lines.append(f'  state "anywhere" as {ANYWHERE}')
    lines.append(f"  [*] --> {_id(drawn.start)}")
    lines += [_row(edge, shown.of_row(edge.index)) for edge in drawn.edges]
    lines += [f"  {_id(shape.name)} --> [*]" for shape in drawn.shapes if shape.kind == "final"]
    lines += [f"  class {name} {look}" for name, look in classes]
    return "\n".join([*lines, ""])


def _state_label(shape: Shape, mark: Mark) -> str:
    return " ".join([_plain(shape.name), *(_plain(note.text) for note in mark.notes)])


def _row(edge: Edge, mark: Mark) -> str:
    source = _id(edge.source) if edge.source else ANYWHERE
    said = [_plain(edge.said)]
    if edge.guard:
        said.append(f"({_plain(edge.guard)})")
    said += [f"◆ {_plain(note.text.replace('#', ''))}" for note in mark.notes]
    if mark.tone in ("added", "removed"):
        said.insert(0, {"added": "+", "removed": "−"}[mark.tone])
    return f"  {source} --> {_id(edge.target)} : {' '.join(said)}"


def _classes(shown: Drawing, anywhere: bool) -> Iterator[tuple[str, str]]:
    """What each state looks like. Mermaid takes the last look of a state for what several of them say."""
    looks = {"review": "review", "final": "bad"}
    for shape in shown.graph.shapes:
        if shape.kind in looks:
            yield _id(shape.name), "good" if shape.ok else looks[shape.kind]
    if anywhere:
        yield ANYWHERE, "anywhere"
    for shape in shown.graph.shapes:
        mark = shown.of_state(shape.name)
        if mark.tone in MORE and not (mark.tone == "warm" and not mark.weight):
            yield _id(shape.name), mark.tone
        elif mark.tone in ("here", "bad"):
            yield _id(shape.name), "here"


def _id(state: str) -> str:
    """A name that Mermaid takes for nothing else; `end` and `state` are words of its own."""
    return "s_" + re.sub(r"[^A-Za-z0-9_]", lambda char: f"_{ord(char[0]):x}_", state)


def _plain(text: str) -> str:
    """Without the characters that end a label or begin other syntax in Mermaid."""
    flat = re.sub(r"[^\w .,+/=<>!?×·≤→$%-]", " ", short(text, 120))
    safe = re.sub(r"([-%$])\1+", r"\1", flat)  # doubled, these begin an arrow, a comment, a formula
    return safe.replace("<", "‹").replace(">", "›").strip()
