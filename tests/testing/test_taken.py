"""The path of a run, compared with what a test says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product

import pytest

from statecraft.errors import ConfigError
from statecraft.records import TransitionRecord
from statecraft.testing import TakenPath, assert_path, path_of
from statecraft.testing.alignment import aligned, difference
from statecraft.testing.taken import GAP, Stop, expected, fits

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def move(seq: int, source: str, event: str, target: str, *guards: tuple[str, bool]) -> TransitionRecord:
    return TransitionRecord("", seq, source, event, target, NOW, 0, {}, guards)


HISTORY = [
    move(0, "", "start", "intake"),
    move(1, "intake", "query_parsed", "gathering"),
    move(2, "gathering", "sources_found", "gathering", ("enough_sources", False)),
    move(3, "gathering", "sources_found", "analyzing", ("enough_sources", True)),
    move(4, "analyzing", "analysis_failed", "failed"),
]


@pytest.mark.parametrize(
    "text",
    [
        "intake -> gathering -> gathering -> analyzing -> failed",
        "intake -(query_parsed)-> gathering -(sources_found)-> gathering -> analyzing -(analysis_failed)-> failed",
        "intake -(query_parsed)-> gathering -> ... -> failed",
        "... -(analysis_failed)-> failed",
        "intake -> ...",
        "...",
        "intake -> ... -> gathering -(sources_found)-> analyzing -> ... -> failed",
        "... -> intake -> ... -> failed -> ...",
    ],
)
def test_a_text_that_describes_the_path_is_equal_to_it(text: str) -> None:
    assert path_of(HISTORY) == text
    assert_path(HISTORY, text)


@pytest.mark.parametrize(
    "text",
    [
        "intake -> gathering -> analyzing -> failed",
        "intake -(sources_found)-> gathering -> ... -> failed",
        "... -> analyzing",
        "gathering -> ... -> failed",
        "intake -> gathering -> gathering -> analyzing -> failed -> failed",
        "intake",
    ],
)
def test_any_other_text_is_not(text: str) -> None:
    assert path_of(HISTORY) != text


def test_a_path_reads_as_it_is_written() -> None:
    path = path_of(HISTORY)
    assert path == str(path)
    assert path == path_of(HISTORY)
    assert path != path_of(HISTORY[:-1])
    assert path.states == ("intake", "gathering", "gathering", "analyzing", "failed")
    assert path.events == ("query_parsed", "sources_found", "sources_found", "analysis_failed")
    assert path != 5


def test_what_is_equal_to_many_texts_cannot_be_hashed() -> None:
    with pytest.raises(TypeError):
        hash(path_of(HISTORY))


@pytest.mark.parametrize("text", ["", "intake->gathering", "a -(b)-> ...", "a -> ", "a => b", "a -(b c)-> d"])
def test_a_text_that_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no path"):
        assert path_of(HISTORY) == text


def by_expression(wanted: Sequence[str], states: str) -> bool:
    """The same question, asked of regular expressions."""
    return re.fullmatch("".join(".*" if each == GAP else each for each in wanted), states) is not None


def test_gaps_stand_for_any_number_of_moves() -> None:
    paths = ["".join(word) for size in range(1, 5) for word in product("ab", repeat=size)]
    wanted = [word for size in range(1, 4) for word in product(["a", "b", GAP], repeat=size)]
    for text in wanted:
        stops = tuple(Stop(each) for each in text)
        for path in paths:
            taken = tuple(Stop(state, "e") for state in path)
            assert fits(stops, taken) == by_expression(text, path), (text, path)
            assert all(pair.fits for pair in aligned(stops, taken)) == by_expression(text, path), (text, path)


def test_an_alignment_shows_every_stop_of_both_once_and_in_order() -> None:
    wanted = [Stop(each) for each in ("a", GAP, "c", "x", "d")]
    taken = [Stop(each, "e") for each in "abbcdd"]
    pairs = aligned(wanted, taken)
    assert [pair.wanted for pair in pairs if pair.wanted is not None] == wanted
    assert [pair.actual for pair in pairs if pair.actual is not None] == taken


def test_the_first_difference_is_marked_with_the_guards_that_refused_there() -> None:
    with pytest.raises(AssertionError) as failed:
        assert_path(HISTORY, "intake -(query_parsed)-> gathering -> analyzing -> ... -> complete")
    assert str(failed.value).splitlines() == [
        "the run took another path:",
        "  expected                      actual",
        "  intake                        intake",
        "  -(query_parsed)-> gathering   -(query_parsed)-> gathering",
        "> -> analyzing                  -(sources_found)-> gathering     (refused by enough_sources)",
        "  ...                           -(sources_found)-> analyzing",
        "  -> complete                   -(analysis_failed)-> failed",
    ]


def test_a_wrong_event_on_the_way_to_the_right_state_is_a_difference() -> None:
    lines = difference(expected("intake -(invalid_query)-> gathering -> ..."), path_of(HISTORY).stops)
    assert lines[3] == "> -(invalid_query)-> gathering   -(query_parsed)-> gathering"


def test_a_long_path_is_shown_around_its_first_difference() -> None:
    taken = TakenPath(tuple(Stop("a" if place != 90 else "b", "e") for place in range(150)))
    lines = difference(expected(" -> ".join(["a"] * 150)), taken.stops)
    assert len(lines) < 70
    assert [line for line in lines if line.startswith(">")] == [">" + " -> a       -(e)-> b"]
    assert lines[-1].endswith("further lines)")
