"""Real questions to the real corpus through the real engine: different questions take different paths."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from machines.offline import OfflineModel
from machines.prompts import Analysis, Draft, Numbered, Plan, Quote, Selection
from machines.research import (
    DEMO_QUESTION,
    Approved,
    Brief,
    Modified,
    Rejected,
    citation_problems,
    research,
)
from statecraft import Event, RunRecord, Runtime, Status, Usage, run
from statecraft.llm import Reply, Request, ScriptedLLM

pytestmark = pytest.mark.slow
"""Reading all of the library's documents takes seconds."""

STRAIGHT = "How do I wait for a coroutine with a timeout?"
LOOPING = "How do I benchmark small code snippets?"
HOPELESS = "What is the boiling point of ethanol?"


class Hungry(OfflineModel):
    """The offline model, but each reply is said to have cost a fortune."""

    async def complete(self, request: Request) -> Reply:
        return replace(await super().complete(request), usage=Usage(90_000, 0))


def path(url: str, run_id: str) -> list[str]:
    async def read() -> list[str]:
        async with Runtime(url, machines=[research]) as runtime:
            return [move.target for move in await runtime.history(run_id)]

    return asyncio.run(read())


def decide(url: str, question: str, *decisions: Event) -> tuple[RunRecord, Brief, list[str]]:
    """Run to the review, send the decisions one after the other, and say where it went."""

    async def go() -> tuple[RunRecord, Brief, list[str]]:
        async with Runtime(url, machines=[research], llm=OfflineModel()) as runtime:
            begun = await runtime.start(research, Brief(question=question))
            ended = await runtime.wait(begun.id)
            for decision in decisions:
                assert ended.state == "human_review"
                await runtime.send(begun.id, decision, by="ann")
                ended = await runtime.wait(begun.id)
            data = await runtime.data(begun.id)
            assert isinstance(data, Brief)
            return ended, data, [move.target for move in await runtime.history(begun.id)]

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("question", "states"),
    [
        (STRAIGHT, ["intake", "gathering", "analyzing", "synthesizing", "reviewing", "complete"]),
        (LOOPING, ["intake", "gathering", "gathering", "analyzing", "synthesizing", "reviewing", "complete"]),
        (HOPELESS, ["intake", "gathering", "insufficient_data"]),
        (DEMO_QUESTION, ["intake", "gathering", "analyzing", "gathering", "analyzing", "synthesizing", "human_review"]),
        ("???", ["intake", "failed"]),
    ],
)
def test_different_questions_take_different_paths(url: str, question: str, states: list[str]) -> None:
    outcome = run(research, Brief(question=question), url=url, llm=OfflineModel())
    assert path(url, outcome.run.id) == states


@pytest.mark.parametrize(("question", "document"), [(STRAIGHT, "asyncio.tasks.wait_for"), (LOOPING, "timeit")])
def test_an_answer_quotes_the_right_document_word_for_word(url: str, question: str, document: str) -> None:
    outcome = run(research, Brief(question=question), url=url, llm=OfflineModel())
    assert outcome.run.status is Status.DONE
    assert outcome.data.citations[0].document == document
    assert citation_problems(outcome.data.answer, outcome.data.citations, outcome.data.sources) == []


def test_the_same_question_gets_the_same_answer_twice(url: str) -> None:
    first = run(research, Brief(question=DEMO_QUESTION), url=url, llm=OfflineModel())
    second = run(research, Brief(question=DEMO_QUESTION), url=url, llm=OfflineModel())
    assert first.run.id != second.run.id
    assert first.data == second.data


def test_an_approved_answer_is_published(url: str) -> None:
    ended, data, states = decide(url, DEMO_QUESTION, Approved(note="good enough"))
    assert ended.status is Status.DONE
    assert states[-2:] == ["human_review", "complete"]
    assert data.note == "good enough"


def test_a_rejected_answer_is_not(url: str) -> None:
    ended, data, _ = decide(url, DEMO_QUESTION, Rejected(reason="nothing about Slack"))
    assert (ended.status, ended.state) == (Status.FAILED, "failed")
    assert data.reason == "nothing about Slack"


def test_a_reviewers_text_becomes_the_answer_and_is_checked(url: str) -> None:
    ended, data, states = decide(url, DEMO_QUESTION, Modified(replacement="Use subprocess; Slack needs another library [1]."))
    assert states[-4:] == ["human_review", "synthesizing", "reviewing", "complete"]
    assert ended.status is Status.DONE
    assert data.answer == "Use subprocess; Slack needs another library [1]."


def test_a_reviewers_instructions_are_followed_and_shown_again(url: str) -> None:
    ended, data, states = decide(url, DEMO_QUESTION, Modified(instructions="Leave out 2"), Approved())
    assert states[-4:] == ["human_review", "synthesizing", "human_review", "complete"]
    assert ended.status is Status.DONE
    assert "Leave out 2" in data.answer


def test_a_reviewers_text_that_cites_what_is_not_there_does_not_pass(url: str) -> None:
    ended, data, states = decide(url, DEMO_QUESTION, Modified(replacement="As everybody knows [99]."))
    assert states.count("reviewing") > 1
    assert ended.state == "failed"
    assert data.feedback == ["The answer refers to [99], which is not a citation.", "The answer cites nothing."]


def test_a_made_up_quote_is_sent_back_until_it_is_right(url: str, library: Path) -> None:
    true = Numbered(number=1, source=1, quote="brewed at seventy degrees")
    sound = Draft(answer="At seventy degrees [1].", citations=[true], confidence=0.9)
    made_up = sound.model_copy(update={"citations": [true.model_copy(update={"quote": "brewed at ninety degrees"})]})

    def wrong_at_first(request: Request) -> BaseModel:
        prompt = str(request.messages[0]["content"])
        match request.output.name if request.output else "":
            case "Plan":
                return Plan(answerable=True, reason="", terms=["tea"], searches=["green tea"])
            case "Selection":
                return Selection(relevant=[1], searches=[])
            case "Analysis":
                quotes = [Quote(source=1, quote="brewed at seventy degrees")]
                return Analysis(verdict="complete", quotes=quotes, missing=[], searches=[], reason="")
            case _:
                return sound if "<problem>The quote of citation [1] does not occur in tea.md" in prompt else made_up

    brief = Brief(question="How hot is green tea brewed?", folder=str(library))
    outcome = run(research, brief, url=url, llm=ScriptedLLM(wrong_at_first))
    assert path(url, outcome.run.id)[-4:] == ["reviewing", "synthesizing", "reviewing", "complete"]
    assert outcome.data.answer == "At seventy degrees [1]."


def test_a_budget_that_runs_low_leads_from_gathering_to_an_answer_from_what_is_there(url: str) -> None:
    outcome = run(research, Brief(question=LOOPING), url=url, llm=Hungry())
    events = asyncio.run(_events(url, outcome.run.id))
    assert "budget_warning" in events
    assert path(url, outcome.run.id)[:4] == ["intake", "gathering", "gathering", "synthesizing"]


async def _events(url: str, run_id: str) -> list[str]:
    async with Runtime(url, machines=[research]) as runtime:
        return [move.event for move in await runtime.history(run_id)]


@pytest.mark.parametrize("question", [STRAIGHT, LOOPING, HOPELESS, DEMO_QUESTION, "???"])
def test_every_path_replays_without_a_difference(url: str, question: str) -> None:
    outcome = run(research, Brief(question=question), url=url, llm=OfflineModel())

    async def go() -> None:
        async with Runtime(url, machines=[research]) as runtime:
            assert (await runtime.replay(outcome.run.id)).divergence is None

    asyncio.run(go())


def test_the_readme_shows_these_questions() -> None:
    readme = (Path(__file__).parents[2] / "machines" / "README.md").read_text()
    assert [question for question in (STRAIGHT, LOOPING, HOPELESS, DEMO_QUESTION, "???") if f"| {question} |" not in readme] == []
