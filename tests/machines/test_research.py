from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from machines import research as module
from machines.corpus import Passage
from machines.offline import OfflineModel
from machines.prompts import Analysis, Draft, Numbered, Plan, Quote, Selection
from machines.reading import Document
from machines.research import (
    GATHERINGS,
    AnalysisComplete,
    AnalysisFailed,
    Brief,
    Citation,
    InvalidQuery,
    Modified,
    NeedsMoreData,
    NoSources,
    QueryParsed,
    SourcesFound,
    SynthesisComplete,
    ValidationFailed,
    ValidationPassed,
    analyzing,
    citation_problems,
    confident,
    enough_sources,
    gathering,
    human_review,
    intake,
    new_passages,
    occurs,
    research,
    reviewing,
    synthesizing,
    untried,
)
from statecraft import BudgetWarning, CallFailed, Event, ReviewExpired, VisitsExhausted
from statecraft.llm import Claude, ScriptedLLM
from statecraft.machine.definition import Move

Visit = Callable[..., Any]
"""Makes a run for one visit to a state (see conftest)."""

TEXT = "Green tea is brewed at\nseventy degrees."
TEA = Document(id="tea.md", title="tea.md: Brewing tea", place="tea.md", text=TEXT)
READ = Brief(question="How hot is green tea brewed?", sources=[TEA], searched=["green tea"], notes=[Quote(source=1, quote=TEXT)])
CITED = Citation(number=1, document="tea.md", quote="brewed at seventy degrees")


def sources(count: int) -> list[Document]:
    return [TEA] * count


# --- the machine --------------------------------------------------------------------------------------------------------


def test_the_machine_has_no_findings() -> None:
    assert research.findings == ()


def test_it_has_exactly_the_states_of_the_table() -> None:
    kinds = {name: (state.kind, state.ok) for name, state in research.definition.states.items()}
    assert kinds == {
        "intake": ("work", False),
        "gathering": ("work", False),
        "analyzing": ("work", False),
        "synthesizing": ("work", False),
        "reviewing": ("work", False),
        "human_review": ("review", False),
        "complete": ("final", True),
        "failed": ("final", False),
        "insufficient_data": ("final", False),
    }


def test_its_moves_by_handlers_and_people_are_exactly_these() -> None:
    own = {name for name, event in research.definition.events.items() if event.__module__ == module.__name__}
    moves = {(row.source, row.target) for row in research.definition.rows if row.event in own}
    assert moves == {
        ("intake", "gathering"),
        ("intake", "failed"),
        ("gathering", "analyzing"),
        ("gathering", "gathering"),
        ("gathering", "insufficient_data"),
        ("analyzing", "synthesizing"),
        ("analyzing", "gathering"),
        ("analyzing", "failed"),
        ("synthesizing", "reviewing"),
        ("synthesizing", "human_review"),
        ("reviewing", "complete"),
        ("reviewing", "synthesizing"),
        ("human_review", "complete"),
        ("human_review", "failed"),
        ("human_review", "synthesizing"),
    }


@pytest.mark.parametrize(
    ("state", "event", "target"),
    [
        ("gathering", BudgetWarning(used=9, limit=10), "synthesizing"),
        ("gathering", VisitsExhausted(state="gathering"), "synthesizing"),
        ("gathering", CallFailed(name="search"), "failed"),
        ("synthesizing", VisitsExhausted(state="synthesizing"), "failed"),
        ("human_review", ReviewExpired(state="human_review"), "failed"),
        ("gathering", SourcesFound(sources=sources(3), searched=[], searches=["x"]), "analyzing"),
        ("gathering", SourcesFound(sources=sources(1), searched=[], searches=["x"]), "gathering"),
        ("gathering", SourcesFound(sources=sources(1), searched=[], searches=[]), "analyzing"),
        ("synthesizing", SynthesisComplete(answer="a", citations=[], confidence=0.7), "reviewing"),
        ("synthesizing", SynthesisComplete(answer="a", citations=[], confidence=0.69), "human_review"),
    ],
)
def test_where_events_lead(state: str, event: Event, target: str) -> None:
    move = research.definition.decide(state, event, Brief(question="?"))
    assert isinstance(move, Move)
    assert move.target == target


# --- guards and checks --------------------------------------------------------------------------------------------------


def test_enough_sources_counts_those_already_there() -> None:
    event = SourcesFound(sources=sources(1), searched=[], searches=["x"])
    assert not enough_sources(event, Brief(question="?", sources=sources(1)))
    assert enough_sources(event, Brief(question="?", sources=sources(2)))


def test_confident_begins_at_seven_tenths() -> None:
    sure = SynthesisComplete(answer="", citations=[], confidence=0.7)
    assert confident(sure, Brief(question="?"))
    assert not confident(sure.model_copy(update={"confidence": 0.699}), Brief(question="?"))


def test_a_quote_occurs_whatever_its_white_space() -> None:
    assert occurs("brewed at seventy   degrees", TEXT)
    assert not occurs("brewed at eighty degrees", TEXT)
    assert not occurs(" \n", TEXT)


@pytest.mark.parametrize(
    ("answer", "citations", "problem"),
    [
        ("", [CITED], "answer is empty"),
        ("Seventy.", [CITED], "cites nothing"),
        ("Seventy [1].", [], r"\[1\], which is not a citation"),
        ("Seventy [1] [2].", [CITED], r"\[2\], which is not a citation"),
        ("Seventy [1].", [CITED, CITED], "given to 2 citations"),
        ("Seventy [1].", [CITED.model_copy(update={"document": ""})], "source that does not exist"),
        ("Seventy [1].", [CITED.model_copy(update={"quote": "at eighty degrees"})], "does not occur in tea.md"),
    ],
)
def test_what_is_wrong_with_citations_is_named(answer: str, citations: list[Citation], problem: str) -> None:
    assert any(re.search(problem, found) for found in citation_problems(answer, citations, [TEA]))


def test_citations_that_stand_up_have_no_problems() -> None:
    assert citation_problems("At seventy degrees [1].", [CITED], [TEA]) == []


def test_a_search_is_not_made_twice_in_other_letters() -> None:
    assert untried(["Green  tea", "black tea", "Black Tea", ""], ["green tea"]) == ["black tea"]


def test_new_passages_come_by_rank_without_repeats_or_known_ones() -> None:
    def hit(name: str) -> Passage:
        return Passage(document=name, title=name, excerpt="", score=1.0)

    found = [[hit("a"), hit("b")], [hit("c"), hit("a"), hit("tea.md")], []]
    assert [passage.document for passage in new_passages(found, [TEA])] == ["a", "c", "b"]
    assert new_passages([], []) == []


def test_a_modification_says_what_to_change() -> None:
    with pytest.raises(ValidationError, match="give a replacement, or instructions"):
        Modified(replacement=" ")
    assert Modified(instructions="shorter").replacement == ""


def test_the_folder_of_a_brief_is_absolute_so_that_any_process_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Brief(question="?", folder="notes").folder == str(tmp_path / "notes")
    assert Brief(question="?").folder == ""


# --- handlers -----------------------------------------------------------------------------------------------------------


def test_intake_refuses_an_empty_or_endless_question_without_asking_anybody(visit: Visit) -> None:
    for question, reason in (("  ", "is empty"), ("why " * 301, "longer than 300 words")):
        event = asyncio.run(intake(visit(Brief(question=question), ScriptedLLM([]))))
        assert isinstance(event, InvalidQuery)
        assert reason in event.reason


def test_intake_tells_what_is_wrong_with_the_folder(visit: Visit, tmp_path: Path) -> None:
    event = asyncio.run(intake(visit(Brief(question="What is tea?", folder=str(tmp_path / "none")), ScriptedLLM([]))))
    assert event == InvalidQuery(reason=f"there is no folder {tmp_path / 'none'}")


def test_intake_turns_the_question_into_searches(visit: Visit, library: Path) -> None:
    plan = Plan(answerable=True, reason="", terms=["tea"], searches=["green tea", "Green Tea", "brew tea", "a", "b"])
    run = visit(Brief(question="How is green tea brewed?", folder=str(library)), ScriptedLLM([plan]))
    assert asyncio.run(intake(run)) == QueryParsed(plan=plan, searches=["green tea", "brew tea", "a"])
    assert "<question>How is green tea brewed?</question>" in run.model.prompts[0]
    assert "3 documents" in run.model.prompts[0]


def test_intake_passes_on_why_a_question_cannot_be_answered(visit: Visit, library: Path) -> None:
    plan = Plan(answerable=False, reason="a greeting", terms=[], searches=[])
    run = visit(Brief(question="hello", folder=str(library)), ScriptedLLM([plan]))
    assert asyncio.run(intake(run)) == InvalidQuery(reason="a greeting")


def test_gathering_makes_every_search_and_reads_what_was_chosen(visit: Visit, library: Path) -> None:
    data = Brief(question="How is green tea brewed?", folder=str(library), searches=["green tea", "kettle"])
    run = visit(data, ScriptedLLM([Selection(relevant=[1, 99, 1, 0], searches=["kettle", "leaves"])]))
    event = asyncio.run(gathering(run))
    assert [call for call in run.called if call[0] == "search"] == [("search", ("green tea",)), ("search", ("kettle",))]
    assert isinstance(event, SourcesFound)
    assert [source.id for source in event.sources] == ["tea.md"]
    assert event.searched == ["green tea", "kettle"]
    assert event.searches == ["leaves"]


def test_gathering_that_finds_nothing_and_has_nothing_left_to_try_says_so(visit: Visit, library: Path) -> None:
    data = Brief(question="Who won the match?", folder=str(library), searches=["football"])
    event = asyncio.run(gathering(visit(data, ScriptedLLM([Selection(relevant=[], searches=["football"])]))))
    assert isinstance(event, NoSources)
    assert "tried: football" in event.reason


def test_the_last_gathering_proposes_no_further_search(visit: Visit, library: Path) -> None:
    data = Brief(question="How is tea brewed?", folder=str(library), searches=["tea"])
    event = asyncio.run(gathering(visit(data, ScriptedLLM([Selection(relevant=[1], searches=["more"])]), GATHERINGS)))
    assert isinstance(event, SourcesFound)
    assert event.searches == []


def analysis(verdict: str, *quotes: Quote, searches: tuple[str, ...] = ()) -> Analysis:
    return Analysis.model_validate(
        {"verdict": verdict, "quotes": list(quotes), "missing": ["x"], "searches": list(searches), "reason": "because"}
    )


def test_analyzing_keeps_only_what_the_sources_really_say(visit: Visit) -> None:
    true, false, nowhere = Quote(source=1, quote="seventy degrees"), Quote(source=1, quote="eighty"), Quote(source=7, quote="tea")
    event = asyncio.run(analyzing(visit(READ, ScriptedLLM([analysis("complete", true, false, nowhere)]))))
    assert event == AnalysisComplete(notes=[true], missing=["x"])


def test_analyzing_fails_when_no_quote_is_true(visit: Visit) -> None:
    event = asyncio.run(analyzing(visit(READ, ScriptedLLM([analysis("complete", Quote(source=1, quote="made up"))]))))
    assert event == AnalysisFailed(reason="because")


def test_analyzing_asks_for_more_only_by_new_searches(visit: Visit) -> None:
    quote = Quote(source=1, quote="seventy degrees")
    more = analysis("needs_more_data", quote, searches=("green tea", "leaves"))
    assert asyncio.run(analyzing(visit(READ, ScriptedLLM([more])))) == NeedsMoreData(
        notes=[quote], missing=["x"], searches=["leaves"]
    )
    again = analysis("needs_more_data", quote, searches=("green tea",))
    assert asyncio.run(analyzing(visit(READ, ScriptedLLM([again])))) == AnalysisComplete(notes=[quote], missing=["x"])


DRAFT = Draft(
    answer="At seventy degrees [1].", citations=[Numbered(number=1, source=1, quote="at seventy degrees")], confidence=0.8
)


def test_synthesizing_names_the_documents_behind_the_citations(visit: Visit) -> None:
    wrong = DRAFT.model_copy(update={"citations": [*DRAFT.citations, Numbered(number=2, source=5, quote="x")]})
    event = asyncio.run(synthesizing(visit(READ, ScriptedLLM([wrong]))))
    assert [citation.document for citation in event.citations] == ["tea.md", ""]
    assert event.confidence == 0.8


def test_synthesizing_shows_the_model_what_the_check_and_the_reviewer_said(visit: Visit) -> None:
    said = {"answer": "old", "feedback": ["The quote of [1] is wrong."], "replacement": "my words", "instructions": "be brief"}
    run = visit(READ.model_copy(update=said), ScriptedLLM([DRAFT]))
    asyncio.run(synthesizing(run))
    for part in (
        "<draft>old</draft>",
        "<problem>The quote of [1] is wrong.</problem>",
        "<replacement>my words</replacement>",
        "<instructions>be brief</instructions>",
    ):
        assert part in run.model.prompts[0]


def test_synthesizing_without_sources_asks_no_model_and_is_not_sure(visit: Visit) -> None:
    event = asyncio.run(synthesizing(visit(Brief(question="?"), ScriptedLLM([]))))
    assert event.confidence == 0.0


def test_reviewing_checks_quotes_against_their_sources(visit: Visit) -> None:
    good = READ.model_copy(update={"answer": "At seventy degrees [1].", "citations": [CITED]})
    bad = good.model_copy(update={"citations": [CITED.model_copy(update={"quote": "eighty"})]})
    assert asyncio.run(reviewing(visit(good, ScriptedLLM([])))) == ValidationPassed(checked=1)
    failure = asyncio.run(reviewing(visit(bad, ScriptedLLM([]))))
    assert isinstance(failure, ValidationFailed)
    assert "'eighty'" in failure.feedback[0]


def test_a_person_sees_the_answer_and_what_speaks_against_it(visit: Visit) -> None:
    data = READ.model_copy(update={"answer": "Seventy [1] [3].", "citations": [CITED], "confidence": 0.4, "missing": ["time"]})
    ask = asyncio.run(human_review(visit(data, ScriptedLLM([]))))
    assert isinstance(ask.show, dict)
    assert ask.show["confidence"] == 0.4
    assert ask.show["missing"] == ["time"]
    assert ask.show["problems"] == ["The answer refers to [3], which is not a citation."]


# --- the model ----------------------------------------------------------------------------------------------------------


def test_it_uses_claude_with_a_key_and_the_offline_model_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    assert isinstance(module.model(), OfflineModel)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token")
    assert isinstance(module.model(), Claude)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    assert isinstance(module.model(), Claude)
