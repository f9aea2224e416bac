from __future__ import annotations

import re

from statecraft.diagram import to_mermaid
from statecraft.records import Status
from tests.diagram.letters import LETTERS, Did, machine, row, state, walked

LINE = re.compile(
    r"""stateDiagram-v2
      | \ \ classDef\ \w+\ [\w:#,\- ]+
      | \ \ state\ "[^"]+"\ as\ \w+
      | \ \ (\[\*\]|\w+)\ -->\ (\[\*\]|\w+)(\ :\ [^:;\[\]"{}]+)?
      | \ \ class\ \w+\ \w+""",
    re.VERBOSE,
)


def test_every_line_keeps_to_the_plain_part_of_the_language() -> None:
    ov = walked(Did("written", "approval", guards=(("is_risky", True),)), status=Status.WAITING)
    for text in (to_mermaid(LETTERS), to_mermaid(LETTERS, ov)):
        assert [line for line in text.splitlines() if not LINE.fullmatch(line)] == []


def test_rows_guards_start_and_ends_are_drawn() -> None:
    lines = [line.strip() for line in to_mermaid(LETTERS).splitlines()]
    assert "[*] --> s_draft" in lines
    assert "s_draft --> s_approval : written (is_risky)" in lines
    assert "s_draft --> s_sent : written (else)" in lines
    assert "anywhere_ --> s_dropped : failure" in lines
    assert "s_sent --> [*]" in lines
    assert "class s_sent good" in lines
    assert "class s_dropped bad" in lines
    assert "class s_approval review" in lines


def test_a_run_numbers_its_moves_and_counts_its_visits() -> None:
    text = to_mermaid(LETTERS, walked(Did("unclear", "draft"), status=Status.RUNNING))
    assert 'state "draft ×2 · 10 s is here" as s_draft' in text
    assert "s_draft --> s_draft : unclear ◆ 1" in text
    assert "class s_draft here" in text


def test_words_of_the_language_are_safe_as_names_of_states() -> None:
    text = to_mermaid(
        machine([state("state"), state('the "end"; [x]', "final", ok=True)], [row("state", "go: now;", 'the "end"; [x]', "<a>")])
    )
    assert [line for line in text.splitlines() if not LINE.fullmatch(line)] == []
    assert "s_state --> s_the_20__22_end_22__3b__20__5b_x_5d_ : go  now (‹a›)" in text
