"""A layout of our own, so that a page needs nothing installed: layers from top to bottom, after K. Sugiyama, S. Tagawa and
M. Toda, "Methods for visual understanding of hierarchical system structures", IEEE Trans. SMC 11, 1981.

Modest beside Graphviz: edges are laid through the layers by weighted means, and only the order within layers is searched.
Labels of rows are places of their own between the layers, so that nothing is drawn over them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from statecraft.diagram.look import ANYWHERE, START, Arrow, Line, Scene

GAP, RISE, PAD = 26.0, 22.0, 12.0
"""Pixels between neighbours, between layers, and inside boxes."""
SWEEPS = 12


@dataclass(eq=False, slots=True)
class Place:
    """Something with a place of its own: a state, or a piece of an edge on its way through a layer."""

    key: str
    left: float
    """Pixels it takes to the left of its middle."""
    right: float
    height: float
    frame: float = 0.0
    """Height of a state's own box; a loop's label may be taller."""
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    """Of its upper edge."""
    above: list[Place] = field(default_factory=list)
    below: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class Route:
    """An edge on its way down the layers."""

    arrow: Arrow
    places: list[Place]
    """From the upper end to the lower one; only the state itself for a loop."""
    upward: bool
    """Whether the arrow points against the layers."""


@dataclass(slots=True)
class Layout:
    """Where everything is."""

    states: dict[str, Place]
    routes: list[Route]
    width: float
    height: float


def text_width(line: Line) -> float:
    """Pixels a line of a label takes, about: fonts differ from machine to machine."""
    return len(line.text) * line.size * (0.62 if line.strong else 0.56)


def text_height(lines: tuple[Line, ...]) -> float:
    """Pixels that lines take below each other."""
    return sum(line.size * 1.45 for line in lines)


def layout(scene: Scene) -> Layout:
    """Give everything its place."""
    arrows = [scene.start, *scene.arrows]
    states = _states(scene)
    upward = _against(arrows, states)
    layers = _layers(arrows, states, upward)
    routes = [_route(arrow, states, arrow.id in upward, layers) for arrow in arrows]
    _order(layers)
    _spread(layers)
    height = _stack(layers)
    left = min(place.x - place.left for layer in layers.values() for place in layer)
    for place in (place for layer in layers.values() for place in layer):
        place.x += GAP - left
    width = max(place.x + place.right for layer in layers.values() for place in layer) + GAP
    return Layout(states, routes, width, height)


# --- which layer --------------------------------------------------------------------------------------------------------


def _states(scene: Scene) -> dict[str, Place]:
    """The places of states; a loop's label stands to the right of its state."""
    states = {START: Place(START, 6, 6, 12, 12)}
    for box in [*scene.boxes, *([scene.anywhere] if scene.anywhere else [])]:
        half = max(map(text_width, box.lines), default=0) / 2 + PAD + 2 * box.rings
        tall = text_height(box.lines) + PAD + 4 * box.rings
        states[box.key] = Place(box.key, half, half, tall, tall)
    loops: defaultdict[str, float] = defaultdict(float)
    for arrow in scene.arrows:
        if arrow.source == arrow.target:
            state = states[arrow.source]
            state.right = max(state.right, state.left + 34 + max(map(text_width, arrow.lines), default=0))
            loops[arrow.source] += text_height(arrow.lines) + 6
            state.height = max(state.frame, loops[arrow.source])
    return states


def _against(arrows: list[Arrow], states: dict[str, Place]) -> set[str]:
    """The arrows that lead back to where a walk from the start came from; turned round, nothing goes in circles."""
    onward: defaultdict[str, list[Arrow]] = defaultdict(list)
    for arrow in arrows:
        onward[arrow.source].append(arrow)
    back: set[str] = set()
    open_ones: set[str] = set()
    seen: set[str] = set()
    for root in states:
        trail = [] if root in seen else [(root, iter(onward[root]))]
        seen.add(root)
        open_ones.update(name for name, _ in trail)
        while trail:
            name, rest = trail[-1]
            taken = next(rest, None)
            if taken is None:
                open_ones.discard(name)
                trail.pop()
            elif taken.target in open_ones:
                back.add(taken.id)
            elif taken.target not in seen:
                seen.add(taken.target)
                open_ones.add(taken.target)
                trail.append((taken.target, iter(onward[taken.target])))
    return back


def _layers(arrows: list[Arrow], states: dict[str, Place], upward: set[str]) -> defaultdict[int, list[Place]]:
    """States in even layers, each below all that lead to it; the odd ones are for labels."""
    down = [(a.target, a.source) if a.id in upward else (a.source, a.target) for a in arrows if a.source != a.target]
    for _ in states:
        for upper, lower in down:
            states[lower].layer = max(states[lower].layer, states[upper].layer + 2)
    if ANYWHERE in states:  # Close to what it leads to, rather than on top.
        below = [states[lower].layer for upper, lower in down if upper == ANYWHERE]
        states[ANYWHERE].layer = max(0, min(below, default=2) - 2)
    layers: defaultdict[int, list[Place]] = defaultdict(list)
    for state in states.values():
        layers[state.layer].append(state)
    return layers


def _route(arrow: Arrow, states: dict[str, Place], upward: bool, layers: defaultdict[int, list[Place]]) -> Route:
    ends = (states[arrow.source], states[arrow.target])
    if arrow.source == arrow.target:
        return Route(arrow, [ends[0]], upward=False)
    upper, lower = ends[::-1] if upward else ends
    # The label stands beside the line, just below where the arrow begins.
    labelled = lower.layer - 1 if upward else upper.layer + 1
    places = [upper]
    for number in range(upper.layer + 1, lower.layer):
        wide = max(map(text_width, arrow.lines), default=0) + 10 if number == labelled else 8
        tall = text_height(arrow.lines) if number == labelled else 4
        place = Place(f"{arrow.id}/{number}", 5, wide, tall, layer=number)
        layers[number].append(place)
        places.append(place)
    places.append(lower)
    for one, other in pairwise(places):
        one.below.append(other)
        other.above.append(one)
    return Route(arrow, places, upward)


# --- where in the layer -------------------------------------------------------------------------------------------------


def _order(layers: dict[int, list[Place]]) -> None:
    """Sort layers by the middle of their neighbours, down and up again, as long as fewer edges cross."""
    best, least = {number: list(layer) for number, layer in layers.items()}, _crossings(layers)
    for sweep in range(SWEEPS):
        downward = sweep % 2 == 0
        for number in sorted(layers, reverse=not downward):
            rank = {
                place: n for layer in (layers.get(number - 1, []), layers.get(number + 1, [])) for n, place in enumerate(layer)
            }
            here = {place: n for n, place in enumerate(layers[number])}

            def middle(
                place: Place, rank: dict[Place, int] = rank, here: dict[Place, int] = here, down: bool = downward
            ) -> float:
                near = [rank[other] for other in (place.above if down else place.below) if other in rank]
                return sum(near) / len(near) if near else float(here[place])

            layers[number].sort(key=middle)
        if (now := _crossings(layers)) < least:
            best, least = {number: list(layer) for number, layer in layers.items()}, now
    for number, layer in best.items():
        layers[number][:] = layer


def _crossings(layers: dict[int, list[Place]]) -> int:
    found = 0
    for number, layer in layers.items():
        rank = {place: n for n, place in enumerate(layers.get(number + 1, []))}
        ends = [rank[other] for place in layer for other in sorted(place.below, key=lambda p: rank.get(p, 0)) if other in rank]
        found += sum(one > other for n, one in enumerate(ends) for other in ends[n + 1 :])
    return found


def _spread(layers: dict[int, list[Place]]) -> None:
    """Put each place over the mean of its neighbours, as near as its layer's order allows."""
    for layer in layers.values():
        _settle(layer, [0.0] * len(layer))
    for sweep in range(2 * SWEEPS):
        for number in sorted(layers, reverse=sweep % 2 == 1):
            wished = []
            for place in layers[number]:
                near = [*place.above, *place.below] if sweep > SWEEPS else (place.above if sweep % 2 == 0 else place.below)
                wished.append(sum(other.x for other in near) / len(near) if near else place.x)
            _settle(layers[number], wished)


def _settle(layer: list[Place], wished: list[float]) -> None:
    """The nearest places to those wished for that keep order and distance (pooling adjacent violators)."""
    offset, offsets = 0.0, []
    for n, place in enumerate(layer):
        offset += layer[n - 1].right + GAP / 2 + place.left if n else 0.0
        offsets.append(offset)
    pools: list[tuple[float, int]] = []
    for wish, shift in zip(wished, offsets, strict=True):
        pools.append((wish - shift, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, many), (high, more) = pools.pop(), pools.pop()
            pools.append(((low * many + high * more) / (many + more), many + more))
    means = [mean for mean, size in pools for _ in range(size)]
    for place, mean, shift in zip(layer, means, offsets, strict=True):
        place.x = mean + shift


def _stack(layers: dict[int, list[Place]]) -> float:
    """Layers below each other; answers the height of all."""
    y = PAD
    for number in sorted(layers):
        tall = max(place.height for place in layers[number])
        for place in layers[number]:
            if place.frame:
                place.y = y + (tall - place.height) / 2
            else:  # A line passes the whole layer before it turns, and so none of its states.
                place.y, place.height = y, tall
        y += tall + RISE
    return y
