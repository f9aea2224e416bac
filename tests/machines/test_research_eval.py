from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from machines import offline as model
from machines import prompts
from machines import research as module
from machines.corpus import library_corpus
from machines.offline import OfflineModel
from machines.reading import library_documents, library_root
from machines.research_eval import CASES, offline, suite
from statecraft.evals import Report, evaluate, read_cases
from statecraft.evals.baseline import baseline_of

ABOUT_THE_LIBRARY = "complete"


def test_thirty_questions_are_about_the_standard_library_and_others_are_not() -> None:
    cases = read_cases(CASES)
    answered = [case for case in cases if case.expect["state"] == ABOUT_THE_LIBRARY]
    assert len(answered) == 30
    assert all(case.expect["cites"] and case.expect["contains"] for case in answered)
    assert {case.expect["state"] for case in cases} == {"complete", "failed", "insufficient_data"}
    assert len(suite.prepared) == len(cases) == 34


@pytest.mark.slow
def test_every_expected_fact_stands_in_the_documentation_of_this_python() -> None:
    """Word for word, in a document that an answer may cite."""
    texts: dict[str, str] = {}
    for document in library_documents(library_root()):
        texts[document.id] = f"{texts.get(document.id, '')} {document.text}"
    assert library_corpus(library_root()).name.startswith("Python 3.")
    missing: list[str] = []
    for case in suite.prepared:
        cited = [" ".join(texts.get(name, "").casefold().split()) for name in case.case.expect.get("cites", [])]
        for fact in case.case.expect.get("contains", []):
            words = [fact] if isinstance(fact, str) else fact
            if not any(" ".join(word.casefold().split()) in text for word in words for text in cited):
                missing.append(f"{case.name}: {fact}")
    assert not missing


def without_ids_and_times(report: Report) -> Any:
    found = report.to_json()
    for case in found["cases"]:
        for trial in case["trials"]:
            del trial["run"], trial["seconds"]
    return found


@pytest.mark.slow
def test_the_agent_answers_all_of_it_offline_and_says_the_same_twice() -> None:
    first, second = (evaluate(suite, llm=offline()) for _ in range(2))
    assert first.passed, first
    assert without_ids_and_times(first) == without_ids_and_times(second)
    assert baseline_of(first) == baseline_of(second)


def threshold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "SURE", 0.97)


def sources(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "ENOUGH", 1)
    patch.setattr(module, "READ", 0)


def prompt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prompts, "ANALYZE", prompts.ANALYZE.replace("{question}\n", ""))


Worsened = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.slow
@pytest.mark.parametrize("worsen", [threshold, sources, prompt])
def test_a_worse_agent_fails(worsen: Worsened, monkeypatch: pytest.MonkeyPatch) -> None:
    part = suite.only(tags=["security"])
    assert evaluate(part, llm=offline()).passed
    worsen(monkeypatch)
    report = evaluate(part, llm=offline())
    assert not report.passed
    assert report.rate < 0.5, report


@pytest.mark.slow
def test_a_worse_model_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_MOST_QUOTES", 0)
    report = evaluate(suite.only(tags=["security"]), llm=OfflineModel())
    assert not report.passed


@pytest.mark.slow
def test_a_worsened_agent_is_noticed_in_a_database_that_has_good_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to remember to run it again: the trials of yesterday do not count for the code of today."""
    part, url = suite.only(tags=["security"]), f"sqlite:///{tmp_path / 'evals.db'}"
    assert evaluate(part, llm=offline(), url=url).passed
    assert all(trial.recalled for trial in evaluate(part, llm=offline(), url=url).trials)
    threshold(monkeypatch)
    report = evaluate(part, llm=offline(), url=url)
    # This one was not sure enough before either, so it goes the same way.
    assert [case.name for case in report.cases if case.trials[0].recalled] == ["quote for a shell"]
    assert not report.passed
