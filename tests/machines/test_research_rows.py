"""The rows of the research agent that no question to the real corpus leads to, taken by the real engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from pydantic import BaseModel

from machines.prompts import Analysis, Draft, Numbered, Plan, Quote, Selection
from machines.research import GATHERINGS, Brief, research
from statecraft import RunRecord
from statecraft.clock import instant
from statecraft.llm import Request
from statecraft.testing import MakeRuntime, ScriptedLLM, SkippingClock, TakenPath, path_of, run_async

QUOTE = "brewed at seventy degrees"
TIRED = "-(needs_more_data)-> gathering -(sources_found)-> analyzing"

Play = Callable[..., tuple[RunRecord, TakenPath]]


class Reader:
    """A model that has the one document chosen and quoted, with this verdict on it and this much confidence."""

    def __init__(self, verdict: str = "complete", confidence: float = 0.9) -> None:
        self.verdict, self.confidence = verdict, confidence
        self.numbers = count()

    def __call__(self, request: Request) -> BaseModel:
        assert request.output is not None
        match request.output.name:
            case "Plan":
                return Plan(answerable=True, reason="", terms=["tea"], searches=["green tea"])
            case "Selection":
                return Selection(relevant=[1], searches=[])
            case "Analysis":
                new, quotes = [f"tea {next(self.numbers)}"], [Quote(source=1, quote=QUOTE)]
                return Analysis.model_validate(
                    {"verdict": self.verdict, "quotes": quotes, "missing": ["more"], "searches": new, "reason": "it is short"}
                )
            case _:
                cited = [Numbered(number=1, source=1, quote=QUOTE)]
                return Draft(answer="At seventy degrees [1].", citations=cited, confidence=self.confidence)


@pytest.fixture
def play(statecraft_runtime: MakeRuntime, manual_clock: SkippingClock, library: Path) -> Play:
    """Ask a question of the small library, and let the time pass that it takes to its end."""

    async def to_its_end(reader: Reader) -> tuple[RunRecord, TakenPath]:
        async with statecraft_runtime(research, llm=ScriptedLLM(reader)) as rt:
            begun = await rt.start(research, Brief(question="How hot is green tea brewed?", folder=str(library)))
            run = await manual_clock.skip_until(rt, begun.id)
            return run, path_of(await rt.history(run.id))

    return lambda reader: run_async(to_its_end(reader))


@pytest.mark.slow
def test_who_always_wants_more_answers_from_what_there_is(play: Play) -> None:
    _, path = play(Reader("needs_more_data"))
    again = " ".join([TIRED] * (GATHERINGS - 1))
    assert path == (
        f"intake -(query_parsed)-> gathering -(sources_found)-> analyzing {again} -(needs_more_data)-> gathering "
        "-(visits_exhausted)-> synthesizing -(synthesis_complete)-> reviewing -(validation_passed)-> complete"
    )


def test_sources_without_a_use_end_it(play: Play) -> None:
    run, path = play(Reader("unusable"))
    assert path == "intake -> gathering -> analyzing -(analysis_failed)-> failed"
    assert run.status == "failed"


def test_an_answer_that_nobody_looks_at_for_two_days_is_not_published(play: Play, manual_clock: SkippingClock) -> None:
    begun = instant(manual_clock.now())
    run, path = play(Reader(confidence=0.1))
    assert path == "... -> synthesizing -(synthesis_complete)-> human_review -(review_expired)-> failed"
    assert timedelta(days=2) <= run.updated_at - begun < timedelta(days=2, seconds=1)
    assert begun == datetime(2026, 1, 1, tzinfo=UTC)
