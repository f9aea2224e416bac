"""The picture in Graphviz's language. Equal machines and runs give equal text, byte for byte.

In the SVG drawn from it each state has the id `s_<state>` and each row `e_<index>`, for style sheets and scripts.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from statecraft.diagram.graph import Edge, Graph, Overlay, Shape, Spec, Stay, graph, spine, taken, words_for
from statecraft.records import Status

INK, TEXT, QUIET, LINE, FAINT = "#0f172a", "#334155", "#64748b", "#94a3b8", "#cbd5e1"
BLUE, PALE_BLUE = "#2563eb", "#dbeafe"
GREEN, PALE_GREEN = "#059669", "#ecfdf5"
RED, PALE_RED = "#dc2626", "#fef2f2"
AMBER, PALE_AMBER = "#d97706", "#fffbeb"
ANYWHERE = "__anywhere"
START = "__start"

GRAPH = f"""\
  graph [rankdir=TB nodesep=0.35 ranksep=0.42 pad=0.25 bgcolor=white fontname="Helvetica" fontsize=11 labelloc=t labeljust=l]
  node [shape=box style="rounded,filled" fontname="Helvetica" fontsize=12 margin="0.16,0.08" height=0.42 penwidth=1.2
    fillcolor="#f8fafc" color="{LINE}" fontcolor="{INK}"]
  edge [fontname="Helvetica" fontsize=10 color="{QUIET}" fontcolor="{TEXT}" arrowsize=0.7 penwidth=1.1]"""


def to_dot(spec: Spec, overlay: Overlay | None = None) -> str:
    """The machine as DOT text; with an `overlay`, a run's way through it."""
    drawn = graph(spec)
    steps = taken(drawn, overlay) if overlay else {}
    lines = [f"digraph {_quote(drawn.name)} {{", GRAPH, f"  label={_title(drawn, overlay)}", *_start(drawn, overlay)]
    lines += [_state(shape, overlay) for shape in drawn.shapes]
    lines += _anywhere(drawn, overlay, steps)
    straight = {edge.index for edge in spine(drawn)}
    lines += [_row(edge, overlay, steps.get(edge.index, ()), edge.index in straight) for edge in drawn.edges if edge.source]
    return "\n".join([*lines, "}", ""])


# --- parts --------------------------------------------------------------------------------------------------------------


def _start(drawn: Graph, ov: Overlay | None) -> list[str]:
    color = BLUE if ov else INK
    mark = _attributes(
        {"shape": "circle", "width": "0.16", "height": "0.16", "label": "", "fillcolor": color, "color": color, "id": "start"}
    )
    edge = _attributes({"color": color, "penwidth": "1.8" if ov else "1.2", "tooltip": "start"})
    return [f"  {_quote(START)} {mark}", f"  {_quote(START)} -> {_quote(drawn.start)} {edge}"]


def _state(shape: Shape, ov: Overlay | None) -> str:
    stay = ov.stays.get(shape.name) if ov else None
    look = {"id": f"s_{shape.name}", "tooltip": _short(shape.doc.split("\n\n")[0], 200) or shape.name}
    if shape.kind == "final":
        look |= {"peripheries": "2"} | _colors(*((GREEN, PALE_GREEN) if shape.ok else (RED, PALE_RED)))
    if shape.kind == "review":
        look |= {"style": "rounded,filled,dashed"} | _colors(AMBER, PALE_AMBER)
    if ov and not stay:
        look |= _colors(FAINT, "#ffffff") | {"fontcolor": LINE}
    elif ov and ov.state == shape.name:
        look |= _here(shape, ov)
    elif ov and shape.kind == "work":
        look |= _colors(BLUE, "#ffffff")
    return f"  {_quote(shape.name)} {_attributes(look, label=_state_label(shape, ov, stay))}"


def _here(shape: Shape, ov: Overlay) -> dict[str, str]:
    """Where the run is now (or ended): unmistakable without colour too, by its thick line."""
    if ov.status is Status.DEAD:
        return _colors(RED, PALE_RED) | {"penwidth": "3"}
    if shape.kind == "work":
        return _colors(BLUE, PALE_BLUE) | {"penwidth": "3"}
    return {"penwidth": "3"}


def _anywhere(drawn: Graph, ov: Overlay | None, steps: dict[int, tuple[int, ...]]) -> list[str]:
    """The rows that hold in every state: one grey dotted group."""
    rows = [edge for edge in drawn.edges if not edge.source]
    if not rows:
        return []
    look = {
        "id": "anywhere",
        "style": "rounded,dotted",
        "color": LINE,
        "fontcolor": QUIET,
        "fontsize": "11",
        "tooltip": "rows of every state",
    }
    node = _attributes(look, label=_label([_font("anywhere", QUIET, 11, italic=True)]))
    # The unseen edge keeps the group below the start, so that its targets come to rest among the other ends.
    below = f"{_quote(START)} -> {_quote(ANYWHERE)} [style=invis weight=0]"
    drawn_rows = [_row(edge, ov, steps.get(edge.index, ())) for edge in rows]
    return [f"  {_quote(ANYWHERE)} {node}", f"  {below}", *drawn_rows]


def _row(edge: Edge, ov: Overlay | None, steps: tuple[int, ...], straight: bool = False) -> str:
    look = {"id": f"e_{edge.index}", "tooltip": f"{edge.event} [{edge.guard}]" if edge.guard else edge.event}
    if straight:
        look["weight"] = "8"
    color, faint, badge = TEXT, QUIET, ""
    if not edge.source:
        look |= {"style": "dotted", "color": LINE}
        color = QUIET
    if ov and steps:
        badge = RED if _failing(edge, ov, steps) else BLUE
        look |= {"color": badge, "penwidth": f"{1.6 + 0.5 * min(len(steps), 5):.1f}", "style": "solid"}
        color = faint = badge
    elif ov:
        look |= {"color": FAINT, "penwidth": "0.9"}
        color = faint = LINE
    lines = [_font(edge.said, color, 10)]
    if edge.guard:
        lines.append(_font(f"[{edge.guard}]", faint, 9, italic=True))
    if badge:
        lines.append(_font(f"<B>{_escape(_numbers(edge, ov, steps))}</B>", badge, 10, raw=True))
    label = _label([f"&#160;{line}&#160;" for line in lines])
    return f"  {_quote(edge.source or ANYWHERE)} -> {_quote(edge.target)} {_attributes(look, label=label)}"


def _numbers(edge: Edge, ov: Overlay | None, steps: tuple[int, ...]) -> str:
    """The moves' places in the run; for a row of every state, also where each move came from."""
    if edge.source or ov is None:
        return ", ".join(f"#{step}" for step in steps)
    return ", ".join(f"#{move.seq} from {move.source}" for move in ov.path if move.seq in steps)


def _failing(edge: Edge, ov: Overlay, steps: tuple[int, ...]) -> bool:
    """Whether this row ended the run badly."""
    return ov.status is Status.FAILED and bool(ov.path) and ov.path[-1].seq in steps and ov.state == edge.target


# --- texts --------------------------------------------------------------------------------------------------------------


def _title(drawn: Graph, ov: Overlay | None) -> str:
    name = _font(f"<B>{_escape(drawn.name)}</B>", INK, 15, raw=True)
    lines = [f"{name}{_font(f'  version {drawn.version}', QUIET, 11)}"]
    if ov is None:
        if drawn.facts:
            lines.append(_font(" · ".join(drawn.facts), QUIET, 10))
        return _label(lines, align="LEFT")
    total = Stay(
        calls=sum(stay.calls for stay in ov.stays.values()),
        tokens=sum(stay.tokens for stay in ov.stays.values()),
        time=sum((stay.time for stay in ov.stays.values()), Stay().time),
    )
    said = [f"run {ov.run_id[:12]}", ov.status.value, _count(len(ov.path), "move"), *_spent(total)]
    lines.append(_font(" · ".join(said), QUIET, 10))
    if ov.reason:
        lines.append(_font(_short(ov.reason, 90), RED, 10))
    return _label(lines, align="LEFT")


def _state_label(shape: Shape, ov: Overlay | None, stay: Stay | None) -> str:
    absent = ov is not None and stay is None
    quiet = FAINT if absent else QUIET
    lines = [_font(f"<B>{_escape(shape.name)}</B>", LINE if absent else INK, 12, raw=True)]
    if stay:
        lines.append(_font(" · ".join([f"×{stay.visits}", *_spent(stay)]), BLUE, 9))
        if ov and ov.state == shape.name and not ov.status.closed:
            lines.append(_font(f"<B>{_escape(_standing(ov))}</B>", AMBER if shape.kind == "review" else BLUE, 9, raw=True))
        return _label(lines)
    if shape.facts:
        lines.append(_font(" · ".join(shape.facts), quiet, 9))
    if shape.tools:
        lines.append(_font(_short(", ".join(shape.tools), 44), quiet, 9, italic=True))
    return _label(lines)


def _standing(ov: Overlay) -> str:
    return "waiting here" if ov.status is Status.WAITING else "is here"


def _spent(stay: Stay) -> list[str]:
    said = [words_for(stay.time)] if stay.time else []
    if stay.calls:
        said.append(_count(stay.calls, "call"))
    if stay.tokens:
        said.append(f"{_thousands(stay.tokens)} tokens")
    return said


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _thousands(number: int) -> str:
    return f"{number / 1000:.1f}k" if number >= 10_000 else f"{number:,}"


def _short(text: str, most: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


# --- DOT's own grammar ----------------------------------------------------------------------------------------------------


def _colors(line: str, fill: str) -> dict[str, str]:
    return {"color": line, "fillcolor": fill}


def _escape(text: str) -> str:
    """For HTML-like labels: names and reasons are other people's text."""
    return html.escape("".join(char for char in text if char.isprintable()))


def _font(text: str, color: str, size: int, *, italic: bool = False, raw: bool = False) -> str:
    inner = text if raw else _escape(text)
    return f'<FONT COLOR="{color}" POINT-SIZE="{size}">{f"<I>{inner}</I>" if italic else inner}</FONT>'


def _label(lines: Iterable[str], align: str = "CENTER") -> str:
    rows = "".join(f'<TR><TD ALIGN="{align}">{line}</TD></TR>' for line in lines)
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{rows}</TABLE>>'


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def _attributes(look: dict[str, str], label: str = "") -> str:
    pairs = [f"{name}={_quote(value)}" for name, value in look.items()]
    return f"[{' '.join([f'label={label}', *pairs] if label else pairs)}]"
