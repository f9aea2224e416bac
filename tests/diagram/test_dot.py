from __future__ import annotations

import re

from statecraft.diagram import to_dot
from statecraft.diagram.look import AMBER, BLUE, FAINT, GREEN, RED
from statecraft.records import Status
from tests.diagram.letters import LETTERS, Did, machine, row, state, walked


def line(dot: str, id: str) -> str:
    """The one line that draws the thing with this id."""
    found = [text for text in dot.splitlines() if f'id="{id}"' in text]
    assert len(found) == 1
    return found[0]


def said(text: str) -> str:
    """A line's label without its mark-up."""
    return re.sub(r"\s+", " ", re.sub(r"<[^<>]*>|&#160;", " ", text[text.index("label=<") : text.rindex("</TABLE>>")])).strip()


def test_equal_machines_draw_equal_text() -> None:
    assert to_dot(LETTERS) == to_dot(LETTERS)


def test_a_start_mark_points_at_the_start() -> None:
    assert '"__start" -> "draft"' in to_dot(LETTERS)


def test_every_state_and_every_row_is_drawn_once_under_a_stable_id() -> None:
    dot = to_dot(LETTERS)
    for name in ("draft", "approval", "sent", "dropped"):
        assert f'"{name}"' in line(dot, f"s_{name}")
    for index, (source, target) in enumerate([("draft", "approval"), ("draft", "sent"), ("draft", "draft")]):
        assert f'"{source}" -> "{target}"' in line(dot, f"e_{index}")


def test_final_states_have_two_rings_and_their_colour_says_how_they_end() -> None:
    dot = to_dot(LETTERS)
    assert 'peripheries="2"' in line(dot, "s_sent")
    assert GREEN in line(dot, "s_sent")
    assert 'peripheries="2"' in line(dot, "s_dropped")
    assert RED in line(dot, "s_dropped")


def test_a_review_is_dashed_and_amber() -> None:
    assert "dashed" in line(to_dot(LETTERS), "s_approval")
    assert AMBER in line(to_dot(LETTERS), "s_approval")


def test_a_guard_has_a_line_of_its_own_and_the_fall_through_says_else() -> None:
    dot = to_dot(LETTERS)
    assert said(line(dot, "e_0")).endswith("written [is_risky]")
    assert said(line(dot, "e_1")).endswith("written [else]")
    assert line(dot, "e_0").count("<TR>") == 2


def test_rows_of_every_state_leave_one_dotted_group() -> None:
    dot = to_dot(LETTERS)
    assert "dotted" in line(dot, "anywhere")
    assert "dotted" in line(dot, "e_5")
    assert line(dot, "e_5").strip().startswith('"__anywhere" -> "dropped"')


def test_a_machine_without_such_rows_has_no_such_group() -> None:
    assert "anywhere" not in to_dot(machine([state("a"), state("z", "final", ok=True)], [row("a", "go", "z")]))


def test_bounds_and_tools_stand_under_the_name() -> None:
    assert said(line(to_dot(LETTERS), "s_draft")).endswith("draft ≤ 3 visits · ≤ 90 s search")


def test_the_first_sentence_of_a_handler_is_its_tooltip() -> None:
    assert 'tooltip="Write the letter."' in line(to_dot(LETTERS), "s_draft")


def test_names_cannot_break_out_of_the_drawing() -> None:
    rude = 'x"]; evil [label="<B>&\\'
    dot = to_dot(machine([state(rude), state("z", "final", ok=True)], [row(rude, "go<", "z", "a&b")], name='m"'))
    assert "evil [label=<" not in dot
    assert '\\"]; evil [label=\\"' in dot
    assert "&lt;B&gt;&amp;" in dot


# --- a run --------------------------------------------------------------------------------------------------------------


def test_taken_rows_are_numbered_and_others_are_faint() -> None:
    ov = walked(Did("unclear", "draft"), Did("unclear", "draft"), Did("written", "sent"), status=Status.DONE)
    dot = to_dot(LETTERS, ov)
    assert said(line(dot, "e_2")).endswith("#1, #2")
    assert BLUE in line(dot, "e_2")
    assert FAINT in line(dot, "e_3")
    assert "#" not in said(line(dot, "e_3"))


def test_states_tell_visits_time_and_tokens() -> None:
    ov = walked(Did("unclear", "draft", 12_000), Did("written", "approval", 500), status=Status.WAITING)
    assert said(line(to_dot(LETTERS, ov), "s_draft")).endswith("draft ×2 · 20 s · 2 calls · 12.5k tokens")


def test_where_a_run_waits_is_said_in_words_and_by_a_thick_line() -> None:
    drawn = line(to_dot(LETTERS, walked(Did("written", "approval"), status=Status.WAITING)), "s_approval")
    assert "waiting here" in drawn
    assert 'penwidth="3"' in drawn


def test_the_row_that_failed_a_run_is_red_and_says_where_from() -> None:
    drawn = line(to_dot(LETTERS, walked(Did("call_failed", "dropped"), status=Status.FAILED)), "e_5")
    assert RED in drawn
    assert said(drawn).endswith("#1 from draft")


def test_a_dead_run_shows_where_it_died_and_why() -> None:
    dot = to_dot(LETTERS, walked(status=Status.DEAD, reason="no row for call_failed <here>"))
    assert RED in line(dot, "s_draft")
    assert "no row for call_failed &lt;here&gt;" in dot


def test_the_title_sums_the_run_up() -> None:
    dot = to_dot(LETTERS, walked(Did("written", "sent", 1500), status=Status.DONE))
    assert "run 0192ab340192 · done · 1 move · 10 s · 1 call · 1,500 tokens" in dot
