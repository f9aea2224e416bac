"""The fleet on its machine: live runs, shares of rows, how runs end, and what this version does not have."""

from __future__ import annotations

from statecraft.diagram import Drawing, of_fleet, to_dot, to_mermaid
from statecraft.records import Status, Waiting
from statecraft.stats import Crowd, Flow, Heat
from tests.diagram.letters import BEGIN, LETTERS

YES, NO = (("is_risky", True),), (("is_risky", False),)


def fleet(*crowds: Crowd, flows: tuple[Flow, ...] = (), whole: bool = True) -> Drawing:
    return of_fleet(LETTERS, Heat("letters", BEGIN, whole, crowds, flows))


def of_state(drawing: Drawing, name: str) -> list[str]:
    return [note.text for note in drawing.of_state(name).notes]


def of_row(drawing: Drawing, index: int) -> list[str]:
    return [note.text for note in drawing.of_row(index).notes]


def title(drawing: Drawing) -> list[str]:
    return [note.text for note in drawing.title]


def test_states_tell_their_live_runs_who_waits_for_a_person_and_who_is_dead() -> None:
    drawing = fleet(
        Crowd("draft", Status.RUNNING, None, 3),
        Crowd("draft", Status.READY, None, 1),
        Crowd("draft", Status.WAITING, Waiting.REVIEW, 2),
        Crowd("draft", Status.DEAD, None, 5),
        Crowd("approval", Status.WAITING, Waiting.REVIEW, 1200),
    )
    assert of_state(drawing, "draft") == ["6 runs, 2 for a person", "5 dead"]
    assert of_state(drawing, "approval") == ["1,200 wait for a person"]
    assert of_state(drawing, "sent") == []
    assert title(drawing)[0] == "1,206 runs open now · 5 dead · 0 moves since 2026-05-04 12:00 UTC"


def test_the_fullest_state_is_filled_deepest_and_one_run_is_still_seen() -> None:
    drawing = fleet(Crowd("draft", Status.RUNNING, None, 1), Crowd("approval", Status.WAITING, Waiting.REVIEW, 1000))
    assert drawing.of_state("approval").weight == 1.0
    assert 0.2 <= drawing.of_state("draft").weight < 0.25
    assert drawing.of_state("sent").weight == 0.0


def test_rows_tell_their_share_of_what_left_the_state_by_the_recorded_answers_of_guards() -> None:
    flows = (
        Flow("draft", "written", "approval", YES, 10),
        Flow("draft", "written", "sent", NO, 25),
        Flow("draft", "unclear", "draft", (), 5),
        Flow("draft", "call_failed", "dropped", (), 10),
        Flow("approval", "approved", "sent", (), 50),
    )
    drawing = fleet(flows=flows)
    assert [of_row(drawing, index) for index in range(6)] == [
        ["10 · 20 %"],
        ["25 · 50 %"],
        ["5 · 10 %"],
        ["50 · 100 %"],
        [],
        ["10 · 10 % of all"],
    ]
    assert drawing.of_row(4).tone == "faint"
    assert drawing.of_row(1).weight > drawing.of_row(0).weight


def test_ends_tell_how_many_ended_there_and_the_title_how_many_well() -> None:
    flows = (Flow("draft", "written", "sent", NO, 997), Flow("approval", "rejected", "dropped", (), 3))
    drawing = fleet(flows=flows)
    assert of_state(drawing, "sent") == ["997 ended · >99 %"]
    assert of_state(drawing, "dropped") == ["3 ended · <1 %"]
    assert title(drawing)[1] == "1,000 runs ended, >99 % of them well"


def test_what_this_version_does_not_have_is_said_and_not_hidden() -> None:
    drawing = fleet(
        Crowd("thinking", Status.RUNNING, None, 4),
        Crowd("thinking", Status.DEAD, None, 1),
        flows=(Flow("thinking", "thought", "gone", (), 9), Flow("thinking", "migrated", "draft", (), 2)),
        whole=False,
    )
    assert title(drawing)[1:] == [
        "older moves are not counted: too many for one look",
        "not drawn, in states of other versions: thinking (5)",
        "not drawn: 9 moves by rows of other versions",
        "2 runs migrated or forked",
    ]


def test_a_fleet_without_runs_is_drawn_too_in_every_language() -> None:
    drawing = fleet()
    assert "0 runs open now" in to_dot(drawing)
    assert "stateDiagram-v2" in to_mermaid(drawing)
    assert "class s_draft warm" not in to_mermaid(drawing)
    assert "class s_draft warm" in to_mermaid(fleet(Crowd("draft", Status.READY, None, 1)))
