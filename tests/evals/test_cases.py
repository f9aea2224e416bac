from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from statecraft import Approve, Reject
from statecraft.errors import ConfigError
from statecraft.evals import Case, Ends, Exact, Suite, read_cases
from tests.evals.oracle import Approved, Modified, Question, case, oracle

TWO = """{"input": {"question": "a?"}, "expect": {"state": "told"}, "name": "first", "tags": ["x"]}

// later
{"input": {"question": "b?"}}
"""


def test_json_lines_are_read_with_the_place_of_each_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cases.jsonl").write_text(TWO)
    first, second = read_cases("cases.jsonl")
    assert first == Case({"question": "a?"}, {"state": "told"}, "first", ("x",))
    assert (first.where, second.where, second.title) == ("cases.jsonl:1", "cases.jsonl:4", "b?")
    assert [each.where for each in read_cases(tmp_path / "cases.jsonl")] == ["cases.jsonl:1", "cases.jsonl:4"]


def test_a_list_in_json_and_in_yaml_says_the_same(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "cases.json").write_text('[\n{"input": {"question": "a"}, "tags": ["x"]},\n{"input": {"question": "b"}}]')
    (tmp_path / "list.yaml").write_text("- input: {question: a}\n  tags: [x]\n- input:\n    question: b\n")
    (tmp_path / "many.yml").write_text("input: {question: a}\ntags: [x]\n---\ninput: {question: b}\n")
    read = [read_cases(tmp_path / name) for name in ("cases.json", "list.yaml", "many.yml")]
    assert read[0] == read[1] == read[2]
    assert [each[1].where.rpartition(":")[2] for each in read] == ["3", "3", "4"]


def test_a_date_in_yaml_that_no_calendar_has_is_told_as_what_it_is(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "cases.yaml").write_text("- input: {until: 2026-02-30}\n")
    with pytest.raises(ConfigError, match=r"cases\.yaml: not YAML: day is out of range for month"):
        read_cases(tmp_path / "cases.yaml")


def test_without_pyyaml_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cases.yaml").write_text("- input: {}\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "yaml" in sys.modules
    with pytest.raises(ConfigError, match=r"cases in YAML need PyYAML \(pip install pyyaml\)"):
        read_cases(tmp_path / "cases.yaml")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"input": {}}\n{"input": \n', "a.jsonl:2: not JSON: Expecting value at column 11"),
        ("a.jsonl", '{"input": {}}\n[1]\n', 'a.jsonl:2: a case is an object such as {"input": {...}}, not list'),
        ("a.jsonl", '{"inputs": {}}\n', "a.jsonl:1: a case has no 'inputs'; it has input, expect, name, tags, decisions"),
        ("a.jsonl", '{"expect": {}}\n', "a.jsonl:1: input is missing"),
        ("a.jsonl", '{"input": "what?"}\n', "a.jsonl:1: input is an object, not str"),
        ("a.jsonl", '{"input": {}, "expect": []}\n', "a.jsonl:1: expect is an object, not list"),
        ("a.jsonl", '{"input": {}, "tags": "x"}\n', "a.jsonl:1: tags is a list of names, not 'x'"),
        ("a.jsonl", '{"input": {}, "name": 7}\n', "a.jsonl:1: name is a text, not 7"),
        ("a.jsonl", "\n// none yet\n", "a.jsonl has no cases"),
        ("a.json", '[{"input": {}},\n', "a.json:2: not JSON"),
        ("a.json", "{}", "a.json: a list of cases, not dict"),
        ("a.json", '[{"input": {}}, 3]', "a.json:1: a case is an object"),
        ("a.csv", "input\n", "cases are read from .jsonl, .json, .yaml, .yml files, not from"),
        ("a.yaml", "- input: {a: [}\n", "a.yaml:1: not YAML"),
    ],
)
def test_each_way_to_be_wrong_names_file_and_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    if name.endswith(".yaml"):
        importlib.import_module("yaml")
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_cases(tmp_path / name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_cases(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([Case({"question": 3})], "case 'a case without a text': input does not validate as Question: question: Input should be"),
        ([Case({"question": "a?", "mood": 1}, where="c.jsonl:9")], "c.jsonl:9: input does not validate as Question: mood"),
        ([Case({"question": object()})], "input does not validate"),  # No file holds that.
        ([case("a?", stat="told")], "no grader of suite 'oracle' reads expect.stat (they read answer, state)"),
        ([case("a?", state="told"), case("a?", state="silent")], "another case is called 'a?' too"),
        ([Case({"question": "a?"}, name="x"), Case({"question": "a?"}, name="y")], "case 'y': it has the same input as 'x'"),
        ([Case({"question": "a?"}, decisions={"answering": "approved"})], "'answering' is neither (checking, look_up)"),
        ([Case({"question": "a?"}, decisions={"checking": "granted"})], "decided by approved, rejected, modified, not 'granted'"),
        ([Case({"question": "a?"}, decisions={"checking": {"modified": {}}})], "payload of modified is not valid: answer"),
        ([Case({"question": "a?"}, decisions={"checking": {"modified": {}, "approved": {}}})], "is a name, or"),
        ([Case({"question": "a?"}, decisions={"look_up": "perhaps"})], "decided by approve, reject, modify, not 'perhaps'"),
        ([Case({"question": "a?"}, decisions={"look_up": {"modify": {"words": 1}}})], "modify of look_up"),
        ([], "has no cases"),
    ],
)
def test_what_does_not_fit_the_machine_or_the_graders_is_refused_before_the_first_run(cases: list[Case], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Suite(oracle, cases, [Ends(), Exact("answer")])
    assert said in str(caught.value)


@pytest.mark.parametrize("changes", [{"repeat": 0}, {"needs": 0.0}, {"needs": 1.1}, {"concurrency": 0}])
def test_numbers_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="suite 'oracle'"):
        Suite(oracle, [case("a?")], [Ends("told")], **changes)


def test_decisions_may_be_values_or_names_with_fields() -> None:
    said = [
        Case(
            {"question": "a?"},
            decisions={
                "checking": [Modified(answer="b"), Approved()],
                "look_up": [Approve(), Reject("rejected by the case")],
            },
        ),
        Case(
            {"question": "a?"},
            decisions={"checking": [{"Modified": {"answer": "b"}}, "approved"], "look_up": ["approve", "reject"]},
        ),
    ]
    one, other = (Suite(oracle, [each], [Ends("told")]).prepared[0] for each in said)
    assert one.answers == other.answers
    assert one.digest == other.digest


def test_what_is_expected_does_not_decide_how_a_run_goes_but_its_input_and_decisions_do() -> None:
    def digest(each: Case) -> str:
        return Suite(oracle, [each], [Ends()]).prepared[0].digest

    plain = digest(case("a?", state="told"))
    assert digest(case("a?", state="silent")) == plain == digest(Case(Question(question="a?")))
    assert digest(case("b?", state="told")) != plain
    assert digest(Case({"question": "a?"}, decisions={"checking": "approved"})) != plain


def test_a_part_of_a_suite_is_taken_by_name_and_by_tag() -> None:
    cases = [Case({"question": name}, name=name, tags=tags) for name, tags in (("a", ("x",)), ("b", ("x", "y")), ("c", ()))]
    suite = Suite(oracle, cases, [Ends("told")])
    assert [each.name for each in suite.only(tags=["x"]).prepared] == ["a", "b"]
    assert [each.name for each in suite.only(names=["b", "c"], tags=["y"]).prepared] == ["b"]
    assert [each.name for each in suite.only().prepared] == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="no case 'd'"):
        suite.only(names=["d"])
    with pytest.raises(ConfigError, match="no case with the tag z; it has x, y"):
        suite.only(tags=["z"])
