from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from statecraft import Data, Status, Usage
from statecraft.errors import ConfigError
from statecraft.evals import (
    Called,
    CalledInOrder,
    Case,
    Contains,
    Ends,
    Exact,
    Fits,
    Grade,
    Grader,
    Holds,
    Matches,
    Suite,
    Trial,
    Visited,
    Within,
    wilson,
)
from statecraft.evals.grade import graded
from statecraft.records import CallRecord, Json, RunRecord, TransitionRecord
from tests.evals.oracle import case, oracle

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Paper(Data):
    answer: str = "Call  Asyncio.wait_for."
    tags: list[str] = ["alpha", "beta"]
    price: dict[str, int] = {"cents": 40}


class Price(BaseModel):
    cents: int


def tool_call(name: str, ok: bool = True, **arguments: Json) -> CallRecord:
    request = {"tool": name, "arguments": arguments}
    return CallRecord("r", 0, 0, "tool", name, "d", 0, ok, request, None, 1, AT, AT, 1)


def llm_call(tokens: int, cost: int | None) -> CallRecord:
    return CallRecord("r", 0, 0, "llm", "m", "d", 0, True, {}, None, 1, AT, AT, 1, Usage(tokens, 0), "m", cost)


def trial(
    *moves: tuple[str, str], expect: dict[str, Json] | None = None, calls: Sequence[CallRecord] = (), trouble: str = ""
) -> Trial:
    """A trial that started in `intake` and made these moves (event, target)."""
    way = [("start", "intake"), *(moves or (("asked", "gathering"), ("found", "gathering"), ("no_more", "done")))]
    sources = ["", *(target for _, target in way)]
    history = tuple(
        TransitionRecord("r", seq, sources[seq], event, target, AT + timedelta(seconds=seq), 1, {})
        for seq, (event, target) in enumerate(way)
    )
    run = RunRecord("r", "m", "1", "f", Status.DONE, way[-1][1], len(way) - 1, 1, AT, AT)
    return Trial(Case({}, expect or {}), 1, run, Paper(), history, tuple(calls), trouble=trouble)


CALLS = [tool_call("search", query="tea", limit=6), tool_call("fetch", document="tea.md"), tool_call("search", query="cups")]
MODEL = [llm_call(900, 2_000_000), llm_call(100, None)]

ROWS: list[tuple[Grader, dict[str, Json], Sequence[CallRecord], bool]] = [
    (Exact("answer", "Call  Asyncio.wait_for."), {}, (), True),
    (Exact("answer", "call asyncio.wait_for."), {}, (), False),
    (Exact("price.cents"), {"price.cents": 40}, (), True),
    (Exact("tags.1", key="second"), {"second": "gamma"}, (), False),
    (Exact("nowhere", 1), {}, (), False),
    (Contains("answer", "asyncio.WAIT_for"), {}, (), True),
    (Contains("answer", ["call asyncio", ["never", "wait"]]), {}, (), True),
    (Contains("answer"), {"contains": ["asyncio", "shield"]}, (), False),
    (Contains("tags", ["beta"]), {}, (), True),
    (Contains("nowhere", ["beta"]), {}, (), False),
    (Matches("answer", r"wait_\w+"), {}, (), True),
    (Matches("answer"), {"matches": "^wait"}, (), False),
    (Matches("answer", "("), {}, (), False),
    (Fits("price", Price), {}, (), True),
    (Fits("tags", list[int]), {}, (), False),
    (Holds(lambda each: len(each.states) == 4), {}, (), True),
    (Holds(lambda each: each.states[0] == "done"), {}, (), False),
    (Ends("done"), {}, (), True),
    (Ends(["failed", "done"]), {}, (), True),
    (Ends(), {"state": "failed"}, (), False),
    (Visited(["intake", "gathering", "done"]), {}, (), True),
    (Visited(["gathering", "intake"]), {}, (), False),
    (Visited(["gathering", "gathering", "gathering"]), {}, (), False),
    (Visited(["intake.asked", "gathering", "gathering.NoMore"]), {}, (), True),
    (Visited(["gathering.NoMore", "gathering"]), {}, (), False),
    (Visited(), {"path": ["done"]}, (), True),
    (Visited(["done", "intake"], order="any"), {}, (), True),
    (Visited(["elsewhere"], order="any"), {}, (), False),
    (Visited(["intake", "gathering", "gathering", "done"], order="exactly"), {}, (), True),
    (Visited(["intake", "gathering", "done"], order="exactly"), {}, (), False),
    (Visited(["intake.Asked", "gathering.found", "gathering.NoMore"], order="exactly"), {}, (), True),
    (Visited(never=("gathering.found",)), {}, (), False),
    (Visited(never=("failed",)), {}, (), True),
    (Within(steps=3), {}, (), True),
    (Within(steps=2), {}, (), False),
    (Within(steps=3), {"within": {"steps": 2}}, (), False),
    (Within(steps=2), {"within": {"steps": 3}}, (), True),
    (Within(steps=3), {"within": {"stesp": 3}}, (), False),
    (Within(tokens=1_000, calls=2), {}, MODEL, True),
    (Within(tokens=999), {}, MODEL, False),
    (Within(calls=1), {}, MODEL, False),
    (Within(money="0.01"), {}, MODEL, False),
    (Within(money="0.002"), {}, MODEL[:1], True),
    (Within(money="0.001"), {}, MODEL[:1], False),
    (Called("search"), {}, CALLS, True),
    (Called("search", at_least=3), {}, CALLS, False),
    (Called("search", at_most=1), {}, CALLS, False),
    (Called("search", {"query": "tea"}, at_most=1), {}, CALLS, True),
    (Called("search", {"query": "milk"}), {}, CALLS, False),
    (Called("delete", at_most=0), {}, CALLS, True),
    (Called("fetch", at_most=0), {}, CALLS, False),
    (Called("fetch"), {}, [tool_call("fetch", ok=False)], False),
    (CalledInOrder(["search", "fetch", "search"]), {}, CALLS, True),
    (CalledInOrder(), {"tools": ["fetch", "fetch"]}, CALLS, False),
]


@pytest.mark.parametrize(("grader", "expect", "calls", "passes"), ROWS)
def test_what_each_grader_lets_pass(grader: Grader, expect: dict[str, Json], calls: Sequence[CallRecord], passes: bool) -> None:
    grade = graded(grader, trial(expect=expect, calls=calls))
    assert grade is not None
    assert (grade.grader, grade.passed) == (grader.name, passes)
    assert bool(grade.detail) is not passes, "a grade that failed says why"
    assert "\n" not in grade.detail


@pytest.mark.parametrize(
    "grader", [Exact("answer"), Contains("answer"), Matches("answer"), Ends(), Visited(), Within(), CalledInOrder()]
)
def test_a_grader_says_nothing_of_a_case_that_expects_nothing_of_it(grader: Grader) -> None:
    assert grader.grade(trial()) is None
    assert len(grader.expects) == 1


def test_a_grade_says_what_was_found_and_what_was_expected() -> None:
    missing = Contains("answer", ["tea", ["milk", "cream"]]).grade(trial())
    assert missing == Grade("contains answer", False, "answer lacks 'tea' and 'milk' or 'cream'", 0.0)
    way = Visited(["intake", "failed"]).grade(trial())
    assert way is not None
    assert "failed does not come in its turn; the way was intake > gathering > gathering > done" in way.detail


def test_a_grader_that_raises_fails_the_trial_and_not_the_suite() -> None:
    def divides(each: Trial) -> bool:
        return bool(1 / len(each.calls))

    grade = graded(Holds(divides), trial())
    assert grade == Grade("divides", False, "the grader raised ZeroDivisionError: division by zero")


def test_where_a_run_that_broke_stands_is_no_right_end() -> None:
    assert not (Ends("done").grade(trial(trouble="dead")) or Grade("", True)).passed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Visited(order=any_of("around")), "'in order', 'exactly' or 'any'"),
        (lambda: Within(money="much"), "an amount of dollars"),
        (lambda: Suite(oracle, [case("tea?", state="told")], []), "at least one grader"),
        (lambda: Suite(oracle, [case("tea?", state="told")], [Ends(), Ends("told")]), "two graders are called 'ends'"),
    ],
)
def test_a_grader_that_cannot_be_is_refused_at_once(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        wrong()


def any_of(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    # Computed apart, with the formula as in Brown, Cai and DasGupta (2001), section 3.1.1.
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_the_interval_is_wilsons(passed: int, total: int, low: float, high: float) -> None:
    assert wilson(passed, total) == pytest.approx((low, high), abs=5e-5)


def test_nothing_tried_says_nothing_and_more_tries_say_more() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    widths = [high - low for low, high in (wilson(n // 2, n) for n in (2, 20, 200))]
    assert widths == sorted(widths, reverse=True)
    assert wilson(5, 10, 0.99)[0] < wilson(5, 10)[0]
