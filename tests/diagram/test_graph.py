from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from statecraft.diagram.graph import graph, spine, words_for
from statecraft.diagram.way import Stay, overlay, taken
from statecraft.records import CallRecord, RunRecord, Status, TransitionRecord, Usage
from tests.diagram.letters import BEGIN, LETTERS, RUN, Did, machine, row, state, walked


@dataclass
class Stored:
    spec: str


def test_a_spec_is_read_from_its_json_from_its_text_and_from_whatever_holds_it() -> None:
    text = json.dumps(LETTERS)
    assert graph(LETTERS) == graph(text) == graph(Stored(text))


def test_the_unguarded_row_beside_a_guarded_one_is_the_else() -> None:
    assert [edge.guard for edge in graph(LETTERS).edges] == ["is_risky", "else", "", "", "", ""]


def test_bounds_are_told_in_words() -> None:
    drawn = graph(LETTERS)
    assert drawn.facts == ("≤ 20 steps", "≤ 10 min")
    assert [shape.facts for shape in drawn.shapes] == [("≤ 3 visits", "≤ 90 s"), ("≤ 2 d",), (), ()]


def test_a_budget_is_told_in_tokens() -> None:
    assert "≤ 50,000 tokens" in graph({**LETTERS, "budget": {"tokens": 50_000, "warn_at": 0.8}}).facts


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "40 ms"),
        (0, "0 s"),
        (1.25, "1.25 s"),
        (60, "1 min"),
        (90, "90 s"),
        (600, "10 min"),
        (8000, "2.22 h"),
        (172800, "2 d"),
    ],
)
def test_durations_read_as_people_write_them(seconds: float, words: str) -> None:
    assert words_for(timedelta(seconds=seconds)) == words


def test_each_visit_counts_towards_its_state() -> None:
    ov = walked(Did("unclear", "draft", 5), Did("written", "approval", 7), status=Status.WAITING)
    assert ov.stays == {"draft": Stay(2, 2, 12, timedelta(seconds=20)), "approval": Stay(1, 0, 0, timedelta(0))}


def test_the_calls_of_an_open_visit_count_too() -> None:
    run = RunRecord(RUN, "letters", "2", "f" * 64, Status.RUNNING, "draft", 0, 1, BEGIN, BEGIN)
    begun = TransitionRecord(RUN, 0, "", "start", "draft", BEGIN, 1, {})
    call = CallRecord(RUN, 0, 0, "llm", "m", "d", 0, True, {}, {}, 1, BEGIN, BEGIN, 1, Usage(30, 4))
    assert overlay([begun], [call, replace(call, seq=7)], run).stays == {"draft": Stay(1, 1, 34)}


def test_a_guarded_row_and_its_else_are_told_apart_by_the_recorded_answers() -> None:
    drawn = graph(LETTERS)
    yes = walked(Did("written", "approval", guards=(("is_risky", True),)), status=Status.WAITING)
    no = walked(Did("written", "sent", guards=(("is_risky", False),)), status=Status.DONE)
    assert taken(drawn, yes) == {0: (1,)}
    assert taken(drawn, no) == {1: (1,)}


def test_two_guarded_rows_to_one_target_are_told_apart() -> None:
    drawn = graph(
        machine([state("a"), state("z", "final", ok=True)], [row("a", "go", "z", "first"), row("a", "go", "z", "second")])
    )
    ov = walked(Did("go", "z", guards=(("first", False), ("second", True))), status=Status.DONE, start="a")
    assert taken(drawn, ov) == {1: (1,)}


def test_a_failure_is_found_on_the_row_for_failures_of_every_state() -> None:
    ov = walked(Did("call_failed", "dropped"), status=Status.FAILED)
    assert taken(graph(LETTERS), ov) == {5: (1,)}


def test_a_move_that_no_row_explains_is_left_out() -> None:
    ov = walked(Did("written", "elsewhere"), status=Status.RUNNING)
    assert taken(graph(LETTERS), ov) == {}


def test_the_spine_follows_the_rows_in_order_to_a_good_end() -> None:
    assert [(edge.source, edge.target) for edge in spine(graph(LETTERS))] == [("draft", "approval"), ("approval", "sent")]


def test_a_machine_without_a_good_end_has_no_spine() -> None:
    assert spine(graph(machine([state("a"), state("z", "final")], [row("a", "go", "z")]))) == ()
