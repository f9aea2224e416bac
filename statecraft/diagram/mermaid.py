"""The picture in Mermaid's language, for pages that draw it themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable

from statecraft.diagram.graph import Edge, Overlay, Shape, Spec, graph, taken

ANYWHERE = "anywhere_"
LOOKS = (
    "classDef review fill:#fffbeb,stroke:#d97706,stroke-dasharray:5 4",
    "classDef good fill:#ecfdf5,stroke:#059669",
    "classDef bad fill:#fef2f2,stroke:#dc2626",
    "classDef anywhere fill:#ffffff,stroke:#94a3b8,stroke-dasharray:2 3",
    "classDef here stroke-width:4px",
)


def to_mermaid(spec: Spec, overlay: Overlay | None = None) -> str:
    """The machine as a Mermaid state diagram; with an `overlay`, moves are numbered and visits counted."""
    drawn = graph(spec)
    steps = taken(drawn, overlay) if overlay else {}
    anywhere = any(not edge.source for edge in drawn.edges)
    lines = ["stateDiagram-v2", *(f"  {look}" for look in LOOKS)]
    lines += [f'  state "{_state_label(shape, overlay)}" as {_id(shape.name)}' for shape in drawn.shapes]
    if anywhere:
        lines.append(f'  state "anywhere" as {ANYWHERE}')
    lines.append(f"  [*] --> {_id(drawn.start)}")
    lines += [_row(edge, steps.get(edge.index, ())) for edge in drawn.edges]
    lines += [f"  {_id(shape.name)} --> [*]" for shape in drawn.shapes if shape.kind == "final"]
    lines += _classes(drawn.shapes, anywhere, overlay)
    return "\n".join([*lines, ""])


def _state_label(shape: Shape, ov: Overlay | None) -> str:
    stay = ov.stays.get(shape.name) if ov else None
    return f"{_plain(shape.name)} ×{stay.visits}" if stay else _plain(shape.name)


def _row(edge: Edge, steps: tuple[int, ...]) -> str:
    source = _id(edge.source) if edge.source else ANYWHERE
    said = [_plain(edge.said)]
    if edge.guard:
        said.append(f"({_plain(edge.guard)})")
    if steps:
        said.append(f"◆ {', '.join(map(str, steps))}")
    return f"  {source} --> {_id(edge.target)} : {' '.join(said)}"


def _classes(shapes: Iterable[Shape], anywhere: bool, ov: Overlay | None) -> list[str]:
    looks = {"review": "review", "final": "bad"}
    lines = [f"  class {_id(shape.name)} {'good' if shape.ok else looks[shape.kind]}" for shape in shapes if shape.kind in looks]
    if anywhere:
        lines.append(f"  class {ANYWHERE} anywhere")
    if ov:
        lines.append(f"  class {_id(ov.state)} here")
    return lines


def _id(state: str) -> str:
    """A name that Mermaid takes for nothing else; `end` and `state` are words of its own."""
    return "s_" + re.sub(r"[^A-Za-z0-9_]", lambda char: f"_{ord(char[0]):x}_", state)


def _plain(text: str) -> str:
    """Without the characters that end a label or begin other syntax in Mermaid."""
    return re.sub(r"[^\w\s.,+/=<>!?-]", " ", text).replace("<", "‹").replace(">", "›").strip()
