"""How things look: every colour, width and line of text of a picture, decided once for all drawing languages.

Colour is never the only cue. What ends well and badly is also said in words, what was removed is dashed, what was added is thick,
where a run stands has a thick line, and counts are written out.
"""

from __future__ import annotations

from dataclasses import dataclass

from statecraft.diagram.graph import Edge, Shape, spine
from statecraft.diagram.marks import Drawing, Hue, Mark, Note
from statecraft.diagram.way import short

INK, TEXT, QUIET, LINE, FAINT = "#0f172a", "#334155", "#64748b", "#94a3b8", "#cbd5e1"
WHITE, PAPER = "#ffffff", "#f8fafc"
BLUE, PALE_BLUE = "#2563eb", "#dbeafe"
GREEN, PALE_GREEN = "#059669", "#ecfdf5"
RED, PALE_RED = "#dc2626", "#fef2f2"
AMBER, PALE_AMBER = "#d97706", "#fffbeb"
DEEP = (125, 176, 245)
"""The deepest fill of a state by weight, as red, green, blue: dark text on it stays readable."""

HUES: dict[Hue, str] = {"blue": "#1d4ed8", "red": "#b91c1c", "amber": "#b45309", "green": "#047857", "quiet": QUIET}
"""Of notes: dark enough to be read on any fill."""
FADED = "#748296"
"""Text of what the run did not do."""
ANYWHERE = "__anywhere"
START = "__start"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a label."""

    text: str
    color: str
    size: int
    strong: bool = False
    italic: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """A state, or the group of rows that hold in every state, ready to be drawn."""

    key: str
    id: str
    lines: tuple[Line, ...]
    tooltip: str
    line: str = LINE
    fill: str = PAPER
    style: str = ""
    """`dashed`, `dotted` or empty."""
    width: float = 1.2
    rings: int = 1


@dataclass(frozen=True, slots=True)
class Arrow:
    """A row, ready to be drawn."""

    id: str
    source: str
    target: str
    lines: tuple[Line, ...]
    tooltip: str
    line: str = QUIET
    style: str = ""
    width: float = 1.1
    straight: bool = False
    """Whether it is part of the way a reader follows first."""


@dataclass(frozen=True, slots=True)
class Scene:
    """All there is to draw."""

    name: str
    title: tuple[tuple[Line, ...], ...]
    boxes: tuple[Box, ...]
    anywhere: Box | None
    arrows: tuple[Arrow, ...]
    start: Arrow
    """From `START`, the mark before the first state."""


def scene(drawing: Drawing) -> Scene:
    """Decide how everything looks."""
    drawn = drawing.graph
    straight = {edge.index for edge in spine(drawn)}
    arrows = [arrow(edge, drawing.of_row(edge.index), edge.index in straight) for edge in drawn.edges]
    run = drawing.kind == "run"
    begin = Arrow("start_edge", START, drawn.start, (), "start", BLUE if run else INK, width=1.8 if run else 1.2)
    title: list[tuple[Line, ...]] = [(Line(drawn.name, INK, 15, strong=True), Line(f"  version {drawn.version}", QUIET, 11))]
    title += [(Line(note.text, HUES[note.hue], 10, strong=note.strong),) for note in drawing.title]
    group = Box(ANYWHERE, "anywhere", (Line("anywhere", QUIET, 11, italic=True),), "rows of every state", style="dotted")
    return Scene(
        name=drawn.name,
        title=tuple(title),
        boxes=tuple(box(shape, drawing.of_state(shape.name), facts=drawing.kind != "fleet") for shape in drawn.shapes),
        anywhere=group if any(not edge.source for edge in drawn.edges) else None,
        arrows=(*(a for a in arrows if a.source == ANYWHERE), *(a for a in arrows if a.source != ANYWHERE)),
        start=begin,
    )


def box(shape: Shape, mark: Mark, *, facts: bool = True) -> Box:
    """How a state looks."""
    line, fill, width, style = _frame(shape, mark)
    return Box(
        key=shape.name,
        id=f"s_{shape.name}",
        lines=_words(shape, mark, facts),
        tooltip=short(shape.doc.split("\n\n")[0], 200) or shape.name,
        line=line,
        fill=fill,
        style=style,
        width=width,
        rings=2 if shape.kind == "final" else 1,
    )


def arrow(edge: Edge, mark: Mark, straight: bool = False) -> Arrow:
    """How a row looks."""
    line, width, style, color, faint = _stroke(edge, mark)
    lines = [Line(edge.said, color, 10)]
    if edge.guard:
        lines.append(Line(f"[{edge.guard}]", faint, 9, italic=True))
    lines += [_noted(note, 10 if note.strong else 9) for note in mark.notes]
    tooltip = f"{edge.event} [{edge.guard}]" if edge.guard else edge.event
    return Arrow(f"e_{edge.index}", edge.source or ANYWHERE, edge.target, tuple(lines), tooltip, line, style, width, straight)


# --- parts --------------------------------------------------------------------------------------------------------------


def _frame(shape: Shape, mark: Mark) -> tuple[str, str, float, str]:
    """Line, fill, width and style of a state."""
    style = {"review": "dashed", "foreign": "dotted"}.get(shape.kind, "")
    own = {"review": (AMBER, PALE_AMBER), "final": (GREEN, PALE_GREEN) if shape.ok else (RED, PALE_RED)}
    line, fill = own.get(shape.kind, (LINE, PAPER))
    work = shape.kind == "work"
    match mark.tone:
        case "faint":
            return FAINT, WHITE, 1.2, style
        case "taken":
            return (BLUE, WHITE, 1.2, style) if work else (line, fill, 1.2, style)
        case "here":
            return (BLUE, PALE_BLUE, 3, style) if work else (line, fill, 3, style)
        case "bad":
            return RED, PALE_RED, 3, style
        case "warm":
            return line, _blend(mark.weight), 1.2, style
        case "same":
            return LINE, WHITE, 1.2, style
        case "added":
            return GREEN, PALE_GREEN, 2.4, style
        case "removed":
            return RED, WHITE, 1.4, "dashed"
        case "changed":
            return AMBER, PALE_AMBER, 2.4, style
        case "foreign":
            return QUIET, WHITE, 1.2, "dotted"
        case "plain":
            return line, fill, 1.2, style


def _stroke(edge: Edge, mark: Mark) -> tuple[str, float, str, str, str]:
    """Line, width, style, colour of the event and colour of the guard of a row."""
    loose = "" if edge.source else "dotted"
    taken = 1.6 + 2.5 * mark.weight
    match mark.tone:
        case "faint":
            return FAINT, 0.9, loose, FADED, FADED
        case "taken" | "here":
            return BLUE, taken, "", BLUE, BLUE
        case "bad":
            return RED, taken, "", RED, RED
        case "foreign":
            return QUIET, 1.6, "dashed", QUIET, QUIET
        case "warm":
            return BLUE, 0.9 + 4.5 * mark.weight, loose, TEXT, QUIET
        case "added":
            return GREEN, 2.2, "", "#047857", "#047857"
        case "removed":
            return RED, 1.3, "dashed", RED, RED
        case "changed":
            return AMBER, 2.2, "", "#b45309", "#b45309"
        case "same" | "plain":
            return (QUIET, 1.1, "", TEXT, QUIET) if edge.source else (LINE, 1.1, "dotted", QUIET, QUIET)


def _words(shape: Shape, mark: Mark, facts: bool) -> tuple[Line, ...]:
    absent = mark.tone == "faint"
    quiet = FADED if absent else QUIET
    lines = [Line(shape.name, FADED if absent else INK, 12, strong=True)]
    run = mark.tone in ("taken", "here", "bad", "foreign")
    if facts and not run and shape.facts:
        lines.append(Line(" · ".join(shape.facts), quiet, 9))
    if facts and not run and shape.tools:
        lines.append(Line(short(", ".join(shape.tools), 44), quiet, 9, italic=True))
    return (*lines, *(_noted(note, 9) for note in mark.notes))


def _noted(note: Note, size: int) -> Line:
    return Line(note.text, HUES[note.hue], size, strong=note.strong)


def _blend(weight: float) -> str:
    return "#" + "".join(f"{round(255 + (deep - 255) * weight):02x}" for deep in DEEP)
