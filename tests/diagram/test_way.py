"""A run on its machine: what it took and paid, which guards refused, and what another definition or run has to do with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from statecraft.diagram import of_run, overlay, to_dot, to_mermaid
from statecraft.records import CallRecord, Json, Status, Usage
from tests.diagram.letters import BEGIN, LETTERS, RUN, Did, head, journal, walked
from tests.diagram.test_dot import line, said

CALL = CallRecord(RUN, 0, 0, "llm", "m", "d", 0, True, {}, {}, 1, BEGIN, BEGIN, 1, Usage(30, 4), cost=40_000_000)


def notes(drawing: Json, id: str) -> list[str]:
    mark = drawing.of_state(id[2:]) if id.startswith("s_") else drawing.of_row(int(id[2:]))
    return [note.text for note in mark.notes]


def test_what_a_state_cost_stands_beside_what_it_took() -> None:
    history = journal(Did("unclear", "draft", 34), Did("written", "sent", 34))
    calls = [CALL, replace(CALL, seq=1, cost=2_500_000), replace(CALL, seq=1, cost=None)]
    dot = to_dot(LETTERS, overlay(history, calls, head(history, Status.DONE)))
    assert said(line(dot, "s_draft")).endswith("×2 · 20 s · 2 calls · 68 tokens · $0.0425")
    assert "2 calls · 68 tokens · $0.0425" in next(text for text in dot.splitlines() if text.startswith("  label="))


def test_a_guard_that_refused_is_told_at_its_row_and_the_row_stays_faint() -> None:
    ov = walked(Did("unclear", "draft"), Did("written", "sent", guards=(("is_risky", False),)), status=Status.DONE)
    drawing = of_run(LETTERS, ov)
    assert notes(drawing, "e_0") == ["refused at #2"]
    assert drawing.of_row(0).tone == "faint"
    assert notes(drawing, "e_1") == ["#2"]
    assert "refused at 2" in to_mermaid(drawing)


def test_the_row_that_failed_a_run_says_what_the_event_said() -> None:
    ov = walked(Did("call_failed", "dropped", payload={"message": "the model is <down>\nfor long"}), status=Status.FAILED)
    drawing = of_run(LETTERS, ov)
    assert notes(drawing, "e_5") == ["#1 from draft", "the model is <down> for long"]
    assert drawing.of_row(5).tone == "bad"
    assert "the model is &lt;down&gt; for long" in to_dot(drawing)


def test_a_run_that_ended_well_has_no_bad_row() -> None:
    drawing = of_run(LETTERS, walked(Did("written", "sent", payload={"message": "fine"}), status=Status.DONE))
    assert {mark.tone for mark in drawing.rows.values()} == {"taken"}


def test_a_dead_run_says_where_it_died() -> None:
    assert notes(of_run(LETTERS, walked(status=Status.DEAD, reason="no row")), "s_draft")[-1] == "died here"


def test_a_loop_taken_very_often_has_a_label_that_fits() -> None:
    often = of_run(LETTERS, walked(*[Did("unclear", "draft")] * 50, status=Status.RUNNING))
    assert notes(often, "e_2") == ["#1 to #50"]
    gap = [*[Did("unclear", "draft")] * 5, Did("written", "approval"), Did("modified", "draft"), *[Did("unclear", "draft")] * 5]
    assert notes(of_run(LETTERS, walked(*gap, status=Status.RUNNING)), "e_2") == ["#1, #2, #3, … #12 (10 times)"]


def test_a_fork_tells_where_it_comes_from_and_counts_no_visit_for_it() -> None:
    history = journal(Did("unclear", "draft"), Did("forked", "draft", payload={"run": "ab" * 16}), Did("written", "sent"))
    run = head(history, Status.DONE, forked_from="ab" * 16, forked_step=1)
    drawing = of_run(LETTERS, overlay(history, [], run))
    assert drawing.title[1].text == "forked from run abababababab at #1"
    assert notes(drawing, "s_draft")[0].startswith("×2 ·")
    (fork,) = [edge for edge in drawing.graph.edges if edge.event == "forked"]
    assert drawing.of_row(fork.index).tone == "foreign"


def test_a_fork_does_not_count_the_time_before_it_was_made() -> None:
    history = journal(Did("written", "approval"), Did("approved", "sent"))
    run = head(history, Status.DONE, forked_from="ab" * 16, forked_step=1)
    late = replace(run, created_at=history[1].at + timedelta(seconds=7))
    assert overlay(history, [], late).stays["approval"].time == timedelta(seconds=3)
    assert overlay(history, [], late).stays["draft"].time == timedelta(seconds=10)


def test_a_delayed_start_does_not_count_the_time_it_waited() -> None:
    history = journal(Did("written", "sent"))
    late = replace(head(history, Status.DONE), created_at=history[1].at - timedelta(seconds=3))
    assert overlay(history, [], late).stays["draft"].time == timedelta(seconds=3)


def test_what_a_migrated_run_did_under_the_old_definition_is_drawn_dotted() -> None:
    history = journal(
        Did("jotted", "scribbling"),
        Did("migrated", "draft", payload={"visits": {"draft": 3}, "data": {}}),
        Did("written", "sent"),
        start="idea",
    )
    drawing = of_run(LETTERS, overlay(history, [], head(history, Status.DONE)))
    assert [(s.name, s.kind) for s in drawing.graph.shapes if s.kind == "foreign"] == [
        ("idea", "foreign"),
        ("scribbling", "foreign"),
    ]
    old = [(e.source, e.event, e.target, drawing.of_row(e.index).tone) for e in drawing.graph.edges[len(LETTERS["rows"]) :]]
    assert old == [("idea", "jotted", "scribbling", "foreign"), ("scribbling", "migrated", "draft", "foreign")]
    assert notes(drawing, "s_draft")[0].startswith("×3 ·")
    assert notes(drawing, "e_1") == ["#3"]
    assert drawing.graph.start == "idea"


@pytest.mark.parametrize("status", [Status.RUNNING, Status.WAITING, Status.CANCELLED])
def test_where_a_run_stands_is_marked_whatever_its_status(status: Status) -> None:
    assert of_run(LETTERS, walked(Did("written", "approval"), status=status)).of_state("approval").tone == "here"
