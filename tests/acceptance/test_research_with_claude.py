"""`statecraft start research` with a key: the command line, the real SDK, and an API that answers the agent's questions.

The answers are put together from what the requests really hold, so nothing here knows what the agent has found.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pydantic import BaseModel

from machines import prompts
from machines.prompts import Analysis, Draft, Numbered, Plan, Quote, Selection
from statecraft.testing import FakeMessagesAPI, answer, failure
from statecraft.testing.messages_api import Exchange, Received, Scenario
from tests.cli.support import cli, fields, one_error

pytestmark = pytest.mark.slow

KEY = "sk-nobodys-key-0002"
QUESTION = "How hot is the water for green tea?"
SENTENCE = "Green tea is brewed at seventy degrees for two minutes."
NOTES = {
    "tea.md": f"# Brewing tea\n\n{SENTENCE}\n\nBlack tea takes longer.\n",
    "water.txt": "Hot water for tea is taken before it boils.\n",
    "kettle.rst": "A kettle heats the water for tea; some stop at a temperature for green tea.\n",
    "cups.md": "# Cups\n\nGreen cups keep tea hot.\n",
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a folder of notes, and none of the caller's settings."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "STATECRAFT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in NOTES.items():
        (folder / name).write_text(text)
    return tmp_path


def prompt_of(exchange: Exchange | Received) -> str:
    """What was asked first in a conversation."""
    return str(exchange.body["messages"][0]["content"])


def numbered(tag: str, prompt: str) -> dict[int, str]:
    """The passages or sources in a prompt, by their number."""
    found = re.findall(rf'<{tag} n="(\d+)" title="[^"]*">\n(.*?)\n</{tag}>', prompt, re.DOTALL)
    return {int(number): text for number, text in found}


def plan(prompt: str) -> Plan:
    assert f"<question>{QUESTION}</question>" in prompt
    return Plan(answerable=True, reason="", terms=["tea", "water"], searches=["green tea water", "hot tea", "kettle temperature"])


def select(prompt: str) -> Selection:
    return Selection(relevant=sorted(numbered("passage", prompt)), searches=[])


def analyze(prompt: str) -> Analysis:
    quotes = [Quote(source=number, quote=SENTENCE) for number, text in numbered("source", prompt).items() if SENTENCE in text]
    return Analysis(verdict="complete", quotes=quotes, missing=[], searches=[], reason="it says so")


def draft(prompt: str, quote: str = SENTENCE, confidence: float = 0.9) -> Draft:
    (source,) = (number for number, text in numbered("source", prompt).items() if SENTENCE in text)
    citation = Numbered(number=1, source=source, quote=quote)
    return Draft(answer="Seventy degrees [1].", citations=[citation], confidence=confidence)


Answerer = Callable[[str], BaseModel]


@dataclass
class Answers:
    """Answers each question of the agent by the fields that its schema requires."""

    drafts: Sequence[Answerer] = (draft,)
    """Used in turn; the last one for good."""
    asked: list[str] = field(default_factory=list)
    """Names of the outputs that were asked for, in order."""

    def answerer(self, schema: Mapping[str, Any]) -> tuple[str, Answerer]:
        known: dict[type[BaseModel], Answerer] = {Plan: plan, Selection: select, Analysis: analyze}
        known[Draft] = self.drafts[min(self.asked.count("Draft"), len(self.drafts) - 1)]
        ((kind, found),) = ((kind, found) for kind, found in known.items() if set(schema["properties"]) == set(kind.model_fields))
        return kind.__name__, found

    async def __call__(self, exchange: Exchange) -> None:
        assert exchange.received.has_key(KEY)
        assert exchange.body["system"] == prompts.SYSTEM
        name, found = self.answerer(exchange.body["output_config"]["format"]["schema"])
        self.asked.append(name)
        text = found(prompt_of(exchange)).model_dump_json()
        await answer({"type": "text", "text": text}, model=exchange.body["model"])(exchange)


def research(monkeypatch: pytest.MonkeyPatch, scenario: Scenario, *words: Sequence[str]) -> tuple[list[Result], FakeMessagesAPI]:
    """Commands, one after the other, with a key and an API."""

    async def go() -> tuple[list[Result], FakeMessagesAPI]:
        async with FakeMessagesAPI(scenario) as api:
            monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
            monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
            return [await asyncio.to_thread(cli, *each) for each in words], api

    return asyncio.run(go())


START = ("start", "research", "--set", f"question={QUESTION}", "--set", "folder=notes")
SHOW = ("show", "@last", "--data", "--verify", "--json")
REPLAY = ("replay", "@last", "--json")


def test_a_sure_answer_is_complete_with_its_citation_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers()
    (started, shown, replayed), api = research(monkeypatch, answers, START, SHOW, REPLAY)
    assert started.exit_code == 0, started.stderr
    assert "model: claude-sonnet-5-5" in started.stderr
    assert answers.asked == ["Plan", "Selection", "Analysis", "Draft"]
    assert {exchange.body["model"] for exchange in api.requests} == {"claude-sonnet-5-5"}
    assert fields(shown)["run"]["state"] == "complete"
    moves = fields(shown)["path"]
    assert (moves[-1]["event"], moves[-1]["payload"]) == ("validation_passed", {"checked": 1})
    data = fields(shown)["data"]
    assert data["answer"] == "Seventy degrees [1]."
    (citation,) = data["citations"]
    assert (citation["quote"], Path(citation["document"]).name) == (SENTENCE, "tea.md")
    assert replayed.exit_code == 0, replayed.stderr


def test_an_unsure_answer_waits_for_a_person_who_approves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers([lambda prompt: draft(prompt, confidence=0.4)])
    approve = ("review", "approve", "@last", "--by", "ann")
    (started, review, approved, shown), _ = research(monkeypatch, answers, START, ("review", "show", "@last"), approve, SHOW)
    assert started.exit_code == 4, started.stderr
    assert "waiting in human_review" in started.stderr
    assert SENTENCE in review.stdout
    assert approved.exit_code == 0, approved.stderr
    assert fields(shown)["run"]["state"] == "complete"
    assert answers.asked.count("Draft") == 1


def test_a_citation_that_is_not_in_its_source_is_sent_back_and_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers([lambda prompt: draft(prompt, quote="Green tea is brewed at eighty degrees."), draft])
    (started, shown), api = research(monkeypatch, answers, START, SHOW)
    assert started.exit_code == 0, started.stderr
    events = [move["event"] for move in fields(shown)["path"]]
    assert events[-4:] == ["synthesis_complete", "validation_failed", "synthesis_complete", "validation_passed"]
    assert answers.asked[-2:] == ["Draft", "Draft"]
    assert "<problem>The quote of citation [1] does not occur in" in prompt_of(api.requests[-1])


def test_a_model_that_invents_its_quotes_never_completes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers([lambda prompt: draft(prompt, quote="Green tea is brewed at eighty degrees.")])
    (started, shown), _ = research(monkeypatch, answers, START, SHOW)
    assert started.exit_code == 1, started.stderr
    assert fields(shown)["run"]["state"] == "failed"
    assert answers.asked.count("Draft") == 5


def test_a_refused_key_fails_the_run_and_says_what_to_check_but_not_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = failure(401, "authentication_error", f"invalid bearer token {KEY}")
    (started, shown), api = research(monkeypatch, refuse, START, SHOW)
    assert started.exit_code == 1
    assert "check the key in ANTHROPIC_API_KEY" in started.stderr
    assert KEY not in started.output + shown.output
    assert len(api.requests) == 1


def test_a_key_is_asked_for_in_one_line_before_anything_is_written(place: Path) -> None:
    asked = cli(*START, "--model", "claude-sonnet-5-5")
    assert asked.exit_code == 2
    assert one_error(asked) == "error: no API key for Claude: set ANTHROPIC_API_KEY or pass Claude(api_key=...)"
    assert not list(place.glob("*.db"))


def test_a_key_that_cannot_be_one_is_told_before_anything_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"{KEY}\n")
    asked = cli(*START)
    assert asked.exit_code == 2
    assert "set ANTHROPIC_API_KEY anew" in one_error(asked)
    assert KEY not in asked.output
    assert not list(place.glob("*.db"))
