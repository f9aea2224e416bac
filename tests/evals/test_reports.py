from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from statecraft import Status
from statecraft.errors import ConfigError
from statecraft.evals import CaseReport, Grade, Report, Tried, compare, load_baseline, save_baseline, to_html, to_junit
from statecraft.evals.baseline import Baseline, baseline_of

NASTY = '<script>alert("x")</script>\x00\x1b[31m & \'\u2028 </failure> ]]>'


def tried(passed: bool, detail: str = "") -> Tried:
    grade = Grade("ends", passed, detail or ("" if passed else "elsewhere"))
    return Tried(1, "0f" * 16, Status.DONE, "told", (grade,), 100, 2_000_000, 2, 3, 0.25, 1, judge_tokens=7, judge_cost=None)


def report(**cases: tuple[int, int]) -> Report:
    """A report of cases with so many of so many trials passed."""
    found = [
        CaseReport(name, f"digest {name}", tuple(tried(n < good) for n in range(total)), 1.0)
        for name, (good, total) in cases.items()
    ]
    return Report("drinks", "oracle", "1", "f" * 64, "parrot", tuple(found))


def nasty() -> Report:
    case = CaseReport(NASTY, "d", (tried(False, NASTY),), 1.0, tags=(NASTY,), where="cases.jsonl:3")
    return replace(report(tea=(1, 1)), suite=NASTY, model=NASTY, cases=(*report(tea=(1, 1)).cases, case))


def test_sums_say_unknown_where_one_part_is_not_known() -> None:
    found = report(tea=(1, 2), milk=(1, 1))
    assert (found.sum("tokens"), found.sum("cost"), found.sum("judge_tokens"), found.sum("judge_cost")) == (
        300,
        6_000_000,
        21,
        None,
    )
    plain = found.to_json()
    assert (plain["dollars"], plain["judge_dollars"]) == (0.006, None)
    assert json.loads(json.dumps(plain)) == plain
    assert [each["passed"] for each in plain["cases"]] == [False, True]


def test_no_case_at_all_has_not_passed() -> None:
    assert not report().passed
    assert report().rate == 0.0


def test_junit_names_each_case_and_its_failure() -> None:
    root = ET.fromstring(to_junit(report(tea=(1, 1), milk=(1, 2))))
    [suite] = root.findall("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("time")) == ("2", "1", "0.750")
    tea, milk = suite.findall("testcase")
    assert (tea.get("name"), tea.get("classname"), tea.find("failure")) == ("tea", "eval.drinks", None)
    failure = milk.find("failure")
    assert failure is not None
    assert failure.get("message") == "ends: elsewhere"
    assert "FAILED 1 of 2  milk" in (failure.text or "")


def test_junit_holds_whatever_a_model_says() -> None:
    case = ET.fromstring(to_junit(nasty())).findall("testsuite/testcase")[1]
    assert case.get("name") == NASTY.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")


class Tags(HTMLParser):
    """The tags and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_and_holds_whatever_a_model_says() -> None:
    page = to_html(nasty(), lambda each: [f"statecraft show {each.run_id}"], [NASTY])
    found = Tags()
    found.feed(page)
    assert not found.tags & {"script", "link", "img", "iframe", "a"}
    assert not found.links
    assert "default-src 'none'" in page
    assert f"statecraft show {'0f' * 16}" in page
    assert "&lt;script&gt;" in page


def test_failed_cases_are_open_on_the_page_and_others_closed() -> None:
    page = to_html(report(tea=(1, 1), milk=(0, 1)))
    assert re.findall(r"<details( open)?><summary>(\w+)", page) == [("", "tea"), (" open", "milk")]


# --- baselines -----------------------------------------------------------------------------------------------------------


def test_a_baseline_is_the_same_file_for_the_same_results(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        save_baseline(report(tea=(1, 1), milk=(2, 3)), tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert load_baseline(tmp_path / "one.json") == baseline_of(report(tea=(1, 1), milk=(2, 3)))
    assert '\n  "milk": {"digest":"digest milk","passed":2,"trials":3}\n' in (tmp_path / "one.json").read_text()
    assert [path.name for path in tmp_path.iterdir() if "half" in path.name] == []


@pytest.mark.parametrize(
    ("then", "now", "kind"),
    [
        ((1, 1), (0, 1), "regression"),
        ((1, 1), (1, 1), None),
        ((0, 1), (0, 1), None),
        ((0, 1), (1, 1), "better"),
        ((5, 5), (4, 5), "within chance"),
        ((5, 5), (2, 5), "regression"),
        ((3, 5), (2, 5), "within chance"),
        ((3, 5), (1, 5), "regression"),
        ((1, 5), (0, 5), "regression"),
        ((1, 1), (4, 5), "within chance"),
    ],
)
def test_what_counts_as_worse(then: tuple[int, int], now: tuple[int, int], kind: str | None) -> None:
    steady = {f"steady {n}": (1, 1) for n in range(60)}
    found = compare(report(tea=now, **steady), baseline_of(report(tea=then, **steady)))
    assert [change.kind for change in found.changes if change.case == "tea"] == ([kind] if kind else [])


def test_many_cases_that_each_got_a_little_worse_are_seen_together() -> None:
    names = [f"case {n}" for n in range(30)]
    found = compare(report(**dict.fromkeys(names, (4, 5))), baseline_of(report(**dict.fromkeys(names, (5, 5)))))
    assert {change.kind for change in found.changes if change.case} == {"within chance"}
    [together] = found.regressions
    assert str(together) == "regression: all cases: 80% of 150 trials passed, 100% of 150 before"


def test_new_changed_and_gone_cases_are_told_and_are_no_regressions() -> None:
    before = baseline_of(report(tea=(1, 1), milk=(1, 1), wine=(1, 1)))
    now = report(tea=(1, 1), milk=(0, 1), beer=(0, 1))
    changed = replace(now, cases=(now.cases[0], replace(now.cases[1], digest="other"), now.cases[2]))
    found = compare(changed, before)
    assert [(change.kind, change.case) for change in found.changes] == [("changed", "milk"), ("new", "beer"), ("gone", "wine")]
    assert not found.regressions
    assert not compare(changed, before.only({"tea"})).regressions


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no baseline: Invalid JSON"),
        ("[]", "is no baseline"),
        ('{"v": 2, "suite": "s", "model": "m", "cases": {}}', "is no baseline: v: Input should be 1"),
        (
            '{"v": 1, "suite": "s", "model": "m", "cases": {"a": {"digest": "d", "passed": 2, "trials": 1}}}',
            "cases.a: Value error, 2 of 1",
        ),
    ],
)
def test_a_file_that_is_no_baseline_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_baseline(tmp_path / "b.json")
    assert said in str(caught.value)


def test_files_that_cannot_be_read_or_written_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make it with --save-baseline"):
        load_baseline(tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match="cannot be written"):
        save_baseline(report(tea=(1, 1)), tmp_path / "no" / "where.json")


def test_a_baseline_is_checked_like_any_data() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Baseline(suite="s", model="m", cases={"a": any_value({"digest": "d", "passed": 0, "trials": 0})})


def any_value(value: Any) -> Any:
    return value
