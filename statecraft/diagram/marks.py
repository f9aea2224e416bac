"""What an overlay says about a picture: a mark for each state and row, before any drawing language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from statecraft.diagram.graph import Graph, Spec, graph

Tone = Literal["plain", "faint", "taken", "here", "bad", "warm", "same", "added", "removed", "changed", "foreign"]
"""How something is painted. `faint`: the run was not there. `here`: it stands there. `bad`: it died or failed there. `warm`: by
its weight. `same`, `added`, `removed`, `changed`: between two versions. `foreign`: of another definition than the one drawn."""

Hue = Literal["blue", "red", "amber", "green", "quiet"]

Kind = Literal["definition", "run", "fleet", "change"]


@dataclass(frozen=True, slots=True)
class Note:
    """A line that an overlay adds to a label or to the title."""

    text: str
    hue: Hue = "blue"
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """What an overlay makes of one state or row."""

    tone: Tone = "plain"
    notes: tuple[Note, ...] = ()
    weight: float = 0.0
    """From 0 to 1: how deep a state is filled, how thick a row is drawn."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A machine with what an overlay says about it: all that a drawing language needs."""

    graph: Graph
    kind: Kind = "definition"
    title: tuple[Note, ...] = ()
    """Lines under the machine's name."""
    states: Mapping[str, Mark] = field(default_factory=dict)
    rows: Mapping[int, Mark] = field(default_factory=dict)
    rest: Mark = Mark()
    """The mark of all that has none of its own."""

    def of_state(self, name: str) -> Mark:
        """The mark of a state."""
        return self.states.get(name, self.rest)

    def of_row(self, index: int) -> Mark:
        """The mark of a row."""
        return self.rows.get(index, self.rest)


def plain(spec: Spec) -> Drawing:
    """A machine as it is declared."""
    drawn = graph(spec)
    return Drawing(drawn, title=(Note(" · ".join(drawn.facts), "quiet"),) if drawn.facts else ())
