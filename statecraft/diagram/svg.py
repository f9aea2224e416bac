"""A picture as SVG without Graphviz, on the layout of `layered`. The ids are those of Graphviz's pictures."""

from __future__ import annotations

import html
from itertools import pairwise

from statecraft.diagram.layered import GAP, Layout, Place, Route, layout, text_height
from statecraft.diagram.look import WHITE, Arrow, Box, Line, Scene

FONT = "Helvetica, Arial, sans-serif"
DASHES = {"dashed": ' stroke-dasharray="6 4"', "dotted": ' stroke-dasharray="2 3"', "": ""}
TIP = 7.0
"""Pixels of an arrow's tip."""


def to_svg(scene: Scene) -> str:
    """A scene as the text of an SVG."""
    laid = layout(scene)
    top = sum(max(line.size for line in lines) * 1.5 for lines in scene.title) + 8
    wide = max(laid.width, *(sum(len(line.text) * line.size * 0.6 for line in lines) + 2 * GAP for lines in scene.title))
    size = f'width="{wide:.0f}" height="{laid.height + top:.0f}" viewBox="0 0 {wide:.0f} {laid.height + top:.0f}"'
    boxes = [*scene.boxes, *([scene.anywhere] if scene.anywhere else [])]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}">',
        f'<rect width="100%" height="100%" fill="{WHITE}"/>',
        *_title(scene),
        f'<g transform="translate(0,{top:.0f})">',
        *(_arrow(route, laid) for route in laid.routes),
        _start(laid.states[scene.start.source], scene.start),
        *(_box(box, laid.states[box.key]) for box in boxes),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts)


def _title(scene: Scene) -> list[str]:
    found, y = [], 4.0
    for lines in scene.title:
        y += max(line.size for line in lines) * 1.5
        spans = "".join(f"<tspan {_face(line)}>{_plain(line.text)}</tspan>" for line in lines)
        found.append(f'<text x="{GAP / 2:.0f}" y="{y:.1f}" xml:space="preserve">{spans}</text>')
    return found


def _start(place: Place, arrow: Arrow) -> str:
    mark = f'<circle cx="{place.x:.1f}" cy="{place.y + 6:.1f}" r="6" fill="{arrow.line}"/>'
    return f'<g id="start" class="node"><title>start</title>{mark}</g>'


def _box(box: Box, place: Place) -> str:
    half = place.left
    tall = place.frame
    top = place.y + (place.height - tall) / 2
    frames = []
    for ring in range(box.rings):
        inset = 3.5 * ring
        where = f'x="{place.x - half + inset:.1f}" y="{top + inset:.1f}" width="{2 * (half - inset):.1f}"'
        paint = f'fill="{box.fill}" stroke="{box.line}" stroke-width="{box.width:g}"{DASHES[box.style]}'
        frames.append(f'<rect {where} height="{tall - 2 * inset:.1f}" rx="8" {paint}/>')
    texts = _lines(box.lines, place.x, top + 5 + 2 * box.rings, "middle")
    return f'<g id="{_plain(box.id)}" class="node"><title>{_plain(box.tooltip)}</title>{"".join(frames)}{texts}</g>'


def _arrow(route: Route, laid: Layout) -> str:
    arrow = route.arrow
    path, tip, label = _loop(route, laid) if len(route.places) == 1 else _line(route, laid)
    paint = f'fill="none" stroke="{arrow.line}" stroke-width="{arrow.width:.1f}"{DASHES[arrow.style]}'
    drawn = f'<path d="{path}" {paint}/><polygon points="{tip}" fill="{arrow.line}"/>'
    texts = _lines(arrow.lines, label[0], label[1], "start")
    return f'<g id="{_plain(arrow.id)}" class="edge"><title>{_plain(arrow.tooltip)}</title>{drawn}{texts}</g>'


def _line(route: Route, laid: Layout) -> tuple[str, str, tuple[float, float]]:
    """A line through the places of a route, its tip, and where its label begins."""
    first, *middle, last = route.places
    points = [(_port(route, first, laid, lower=True), first.y + (first.height + first.frame) / 2)]
    for place in middle:
        points += [(place.x, place.y), (place.x, place.y + place.height)]
    points.append((_port(route, last, laid, lower=False), last.y + (last.height - last.frame) / 2))
    if route.upward:
        points.reverse()
    (x, y), sign = points[-1], -1 if route.upward else 1
    points[-1] = (x, y - sign * TIP)
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        bend = (y1 - y0) / 2
        path += f" C{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}"
    half = 3.0 + 0.6 * route.arrow.width
    tip = f"{x:.1f},{y:.1f} {x - half:.1f},{y - sign * TIP:.1f} {x + half:.1f},{y - sign * TIP:.1f}"
    label = max(middle, key=lambda place: place.right, default=first)
    return path, tip, (label.x + 6, label.y + (label.height - text_height(route.arrow.lines)) / 2)


def _loop(route: Route, laid: Layout) -> tuple[str, str, tuple[float, float]]:
    """Out of the right side of a state and back into it. Several loops of one state stand below each other."""
    (state,) = route.places
    loops = [other for other in laid.routes if other.places == [state]]
    step = state.height / len(loops)
    nth = loops.index(route)
    x, y = state.x + state.left, state.y + step * (nth + 0.5)
    reach = min(7.0, step / 3)
    bend = f"{x + 28:.1f} {y - 2 * reach:.1f} {x + 28:.1f} {y + 2 * reach:.1f}"
    path = f"M{x:.1f} {y - reach:.1f} C{bend} {x + TIP:.1f} {y + reach:.1f}"
    tip = f"{x:.1f},{y + reach:.1f} {x + TIP:.1f},{y + reach - 3.5:.1f} {x + TIP:.1f},{y + reach + 3.5:.1f}"
    return path, tip, (x + 28, y - text_height(route.arrow.lines) / 2)


def _port(route: Route, state: Place, laid: Layout, *, lower: bool) -> float:
    """Where a line touches a state: lines beside each other in the order of where they go."""
    index = 0 if lower else -1
    mine = [other for other in laid.routes if len(other.places) > 1 and other.places[index] is state]
    mine.sort(key=lambda other: other.places[1 if lower else -2].x)
    step = min(26.0, 2 * (state.left - 8) / len(mine))
    return state.x + (mine.index(route) - (len(mine) - 1) / 2) * step


# --- texts --------------------------------------------------------------------------------------------------------------


def _lines(lines: tuple[Line, ...], x: float, top: float, anchor: str) -> str:
    found, y = [], top
    for line in lines:
        y += line.size * 1.45
        where = f'x="{x:.1f}" y="{y - line.size * 0.4:.1f}" text-anchor="{anchor}"'
        found.append(f"<text {where} {_face(line)}>{_plain(line.text)}</text>")
    return "".join(found)


def _face(line: Line) -> str:
    weight = ' font-weight="bold"' if line.strong else ""
    slant = ' font-style="italic"' if line.italic else ""
    return f'font-size="{line.size}" fill="{line.color}"{weight}{slant}'


def _plain(text: str) -> str:
    """For text and attributes: names and reasons are other people's words."""
    return html.escape("".join(char for char in text if char.isprintable()))
