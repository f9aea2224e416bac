"""The picture in Graphviz's language. Equal machines and runs give equal text, byte for byte.

In the SVG drawn from it each state has the id `s_<state>` and each row `e_<index>`, for style sheets and scripts.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from statecraft.diagram.graph import Spec
from statecraft.diagram.look import ANYWHERE, INK, LINE, PAPER, QUIET, START, TEXT, Arrow, Box, Line, Scene, scene
from statecraft.diagram.marks import Drawing, plain
from statecraft.diagram.way import Overlay, of_run

GRAPH = f"""\
  graph [rankdir=TB nodesep=0.35 ranksep=0.42 pad=0.25 bgcolor=white fontname="Helvetica" fontsize=11 labelloc=t labeljust=l]
  node [shape=box style="rounded,filled" fontname="Helvetica" fontsize=12 margin="0.16,0.08" height=0.42 penwidth=1.2
    fillcolor="{PAPER}" color="{LINE}" fontcolor="{INK}"]
  edge [fontname="Helvetica" fontsize=10 color="{QUIET}" fontcolor="{TEXT}" arrowsize=0.7 penwidth=1.1]"""


def to_dot(what: Spec | Drawing, overlay: Overlay | None = None) -> str:
    """A machine or a drawing as DOT text; with an `overlay`, a run's way through the machine."""
    drawn = scene(drawing(what, overlay))
    lines = [f"digraph {_quote(drawn.name)} {{", GRAPH, f"  label={_label(map(_line, drawn.title), 'LEFT')}", *_start(drawn)]
    lines += [_state(box) for box in drawn.boxes]
    if drawn.anywhere is not None:
        lines += _anywhere(drawn.anywhere)
    lines += [_row(arrow) for arrow in drawn.arrows]
    return "\n".join([*lines, "}", ""])


def drawing(what: Spec | Drawing, overlay: Overlay | None = None) -> Drawing:
    """What is to be drawn: as given, or a machine, or a run on its machine."""
    if isinstance(what, Drawing):
        return what
    return plain(what) if overlay is None else of_run(what, overlay)


# --- parts --------------------------------------------------------------------------------------------------------------


def _start(drawn: Scene) -> list[str]:
    color = drawn.start.line
    mark = {"shape": "circle", "width": "0.16", "height": "0.16", "label": "", "fillcolor": color, "color": color, "id": "start"}
    edge = _attributes({"color": color, "penwidth": f"{drawn.start.width:g}", "tooltip": "start"})
    return [f"  {_quote(START)} {_attributes(mark)}", f"  {_quote(START)} -> {_quote(drawn.start.target)} {edge}"]


def _state(box: Box) -> str:
    look = {"id": box.id, "tooltip": box.tooltip}
    if box.rings > 1:
        look["peripheries"] = f"{box.rings}"
    if box.style:
        look["style"] = f"rounded,filled,{box.style}"
    if (box.line, box.fill) != (LINE, PAPER):
        look |= {"color": box.line, "fillcolor": box.fill}
    if box.width != 1.2:
        look["penwidth"] = f"{box.width:g}"
    return f"  {_quote(box.key)} {_attributes(look, _label(map(_font, box.lines)))}"


def _anywhere(box: Box) -> list[str]:
    """The rows that hold in every state: one grey dotted group."""
    look = {"id": box.id, "style": "rounded,dotted", "color": LINE, "fontcolor": QUIET, "fontsize": "11", "tooltip": box.tooltip}
    # The unseen edge keeps the group below the start, so that its targets come to rest among the other ends.
    below = f"{_quote(START)} -> {_quote(ANYWHERE)} [style=invis weight=0]"
    return [f"  {_quote(ANYWHERE)} {_attributes(look, _label(map(_font, box.lines)))}", f"  {below}"]


def _row(arrow: Arrow) -> str:
    look = {"id": arrow.id, "tooltip": arrow.tooltip}
    if arrow.straight:
        look["weight"] = "8"
    if arrow.style:
        look["style"] = arrow.style
    if arrow.line != QUIET:
        look["color"] = arrow.line
    if arrow.width != 1.1:
        look["penwidth"] = f"{arrow.width:.1f}"
    label = _label(f"&#160;{_font(line)}&#160;" for line in arrow.lines)
    return f"  {_quote(arrow.source)} -> {_quote(arrow.target)} {_attributes(look, label)}"


# --- DOT's own grammar ----------------------------------------------------------------------------------------------------


def _escape(text: str) -> str:
    """For HTML-like labels: names and reasons are other people's text."""
    return html.escape("".join(char for char in text if char.isprintable()))


def _line(parts: Iterable[Line]) -> str:
    return "".join(map(_font, parts))


def _font(line: Line) -> str:
    inner = _escape(line.text)
    if line.italic:
        inner = f"<I>{inner}</I>"
    if line.strong:
        inner = f"<B>{inner}</B>"
    return f'<FONT COLOR="{line.color}" POINT-SIZE="{line.size}">{inner}</FONT>'


def _label(lines: Iterable[str], align: str = "CENTER") -> str:
    rows = "".join(f'<TR><TD ALIGN="{align}">{line}</TD></TR>' for line in lines)
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{rows}</TABLE>>'


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def _attributes(look: dict[str, str], label: str = "") -> str:
    pairs = [f"{name}={_quote(value)}" for name, value in look.items()]
    return f"[{' '.join([f'label={label}', *pairs] if label else pairs)}]"
