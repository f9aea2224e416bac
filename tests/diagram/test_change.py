"""Two versions in one picture: added, removed, changed, each in colour, in line and in words."""

from __future__ import annotations

from copy import deepcopy

from statecraft.diagram import Drawing, of_change, to_dot, to_mermaid
from statecraft.records import Json
from tests.diagram.letters import LETTERS, row, state
from tests.diagram.test_dot import line, said


def changed(**top: Json) -> Json:
    return {**deepcopy(LETTERS), **top}


def notes(drawing: Drawing, id: str) -> tuple[str, list[str]]:
    mark = drawing.of_state(id[2:]) if id.startswith("s_") else drawing.of_row(int(id[2:]))
    return mark.tone, [note.text for note in mark.notes]


def title(drawing: Drawing) -> list[str]:
    return [note.text for note in drawing.title]


def test_equal_definitions_differ_in_nothing() -> None:
    drawing = of_change(LETTERS, LETTERS)
    assert title(drawing) == ["compared with version 2", "nothing that is drawn differs"]
    assert {mark.tone for mark in [*drawing.states.values(), *drawing.rows.values()]} == {"same"}


def test_an_added_state_and_row_are_green_thick_and_say_so() -> None:
    new = changed(version="3")
    new["states"].append(state("archive", "final", ok=True))
    new["rows"].append(row("approval", "kept", "archive"))
    drawing = of_change(LETTERS, new)
    assert notes(drawing, "s_archive") == ("added", ["added"])
    assert notes(drawing, "e_6") == ("added", ["added"])
    assert title(drawing)[:2] == ["compared with version 2", "added: 1 state, 1 row"]
    assert 'penwidth="2.2"' in line(to_dot(drawing), "e_6")


def test_a_removed_state_and_its_rows_stay_in_the_picture_dashed() -> None:
    drawing = of_change(changed(), {**LETTERS, "states": LETTERS["states"][:-1], "rows": LETTERS["rows"][:4]})
    dot = to_dot(drawing)
    assert notes(drawing, "s_dropped") == ("removed", ["removed"])
    gone = [edge for edge in drawing.graph.edges if drawing.of_row(edge.index).tone == "removed"]
    assert [(edge.source, edge.event, edge.target) for edge in gone] == [
        ("approval", "rejected", "dropped"),
        ("", "failure", "dropped"),
    ]
    assert len({edge.index for edge in drawing.graph.edges}) == len(drawing.graph.edges)
    assert "dashed" in line(dot, "s_dropped")
    assert "dashed" in line(dot, f"e_{gone[0].index}")
    assert "− rejected" in to_mermaid(drawing)


def test_a_row_whose_guard_or_target_changed_tells_the_old_one() -> None:
    new = changed()
    new["rows"][0]["guard"] = "is_very_risky"
    new["rows"][3]["target"] = "dropped"
    drawing = of_change(LETTERS, new)
    assert notes(drawing, "e_0") == ("changed", ["was [is_risky]"])
    assert notes(drawing, "e_3") == ("changed", ["led to sent"])
    assert notes(drawing, "e_1") == ("same", [])


def test_a_guard_that_came_and_one_that_went_are_told() -> None:
    new = changed()
    new["rows"][2]["guard"] = "is_hopeful"
    assert notes(of_change(LETTERS, new), "e_2") == ("changed", ["had no guard"])
    assert notes(of_change(new, LETTERS), "e_2") == ("changed", ["was [is_hopeful]"])


def test_bounds_kinds_tools_and_events_of_a_state_are_told_in_words() -> None:
    new = changed()
    draft, approval = new["states"][:2]
    draft |= {"max_visits": 5, "tools": ["fetch"], "events": ["written"], "per_visit": {"calls": 2}}
    approval |= {"kind": "work", "timeout_s": None}
    drawing = of_change(LETTERS, new)
    assert notes(drawing, "s_draft") == ("changed", ["was ≤ 3 visits", "+ tool fetch", "− tool search", "+ event written"])
    assert notes(drawing, "s_approval") == ("changed", ["was a review state, is a work state", "was ≤ 2 d"])
    assert "≤ 2 calls a visit" in said(line(to_dot(drawing), "s_draft"))


def test_the_machines_own_bounds_its_start_and_its_data_are_told_in_the_title() -> None:
    new = changed(max_steps=50, start="approval", data={"title": "Other"}, name="post")
    assert title(of_change(LETTERS, new)) == [
        "compared with letters version 2",
        "start was draft",
        "bounds: ≤ 50 steps · ≤ 10 min, was ≤ 20 steps",
        "data changed",
    ]
