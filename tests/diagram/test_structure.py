"""Every form shows exactly the rows of the table, whatever is painted over them."""

from __future__ import annotations

from datetime import datetime

import pytest

from machines.research import research
from machines.support import support
from statecraft.diagram import Drawing, of_change, of_fleet, of_run, plain, to_dot, to_mermaid
from statecraft.diagram.look import scene
from statecraft.diagram.svg import to_svg
from statecraft.records import Status
from statecraft.stats import Crowd, Flow, Heat
from tests.diagram import seen
from tests.diagram.letters import BEGIN, LETTERS, Did, walked

RUN = walked(
    Did("unclear", "draft", 10),
    Did("written", "approval", 5, guards=(("is_risky", True),)),
    Did("call_failed", "dropped"),
    status=Status.FAILED,
)
HEAT = Heat("letters", BEGIN, True, (Crowd("draft", Status.RUNNING, None, 3),), (Flow("draft", "written", "sent", (), 4),))
DRAWINGS = {
    "letters": plain(LETTERS),
    "research": plain(research.definition),
    "support": plain(support.definition),
    "run": of_run(LETTERS, RUN),
    "fleet": of_fleet(LETTERS, HEAT),
    "same": of_change(LETTERS, LETTERS),
    "change": of_change(support.definition, research.definition),
}


@pytest.mark.parametrize("drawing", DRAWINGS.values(), ids=DRAWINGS)
def test_dot_and_mermaid_show_the_rows_of_the_table_and_no_others(drawing: Drawing) -> None:
    rows = seen.table(drawing.graph)
    assert seen.in_dot(to_dot(drawing)) == rows
    assert seen.in_mermaid(to_mermaid(drawing)) == rows


@pytest.mark.slow
@pytest.mark.parametrize("drawing", DRAWINGS.values(), ids=DRAWINGS)
def test_the_layout_of_our_own_shows_every_state_and_row_once_with_its_words(drawing: Drawing) -> None:
    svg = to_svg(scene(drawing))
    states, rows = drawing.graph.shapes, drawing.graph.edges
    assert seen.ids_in_svg(svg) == {f"s_{s.name}" for s in states} | {f"e_{e.index}" for e in rows}
    for edge in rows:
        assert seen.words_in_svg(svg, f"e_{edge.index}")[: 2 if edge.guard else 1] == [
            edge.said,
            *([f"[{edge.guard}]"] if edge.guard else []),
        ]


def test_a_drawing_is_made_of_the_definition_alone() -> None:
    assert isinstance(HEAT.since, datetime)
    assert {edge.index for edge in DRAWINGS["run"].graph.edges} == {edge.index for edge in DRAWINGS["letters"].graph.edges}
