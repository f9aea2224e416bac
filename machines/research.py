"""A research agent: it plans, searches, reads, quotes and answers, checks its own citations, and asks a person in doubt.

The table at the end of this file is the whole agent. Everything above it says what its states do.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, model_validator

from statecraft import (
    Append,
    Ask,
    Budget,
    BudgetWarning,
    Data,
    Event,
    Failure,
    Machine,
    ReviewExpired,
    Run,
    VisitsExhausted,
    always,
    days,
    eventually,
    minutes,
    never,
)
from statecraft.llm import LLM, Claude

from . import prompts  # noqa: TID252
from .corpus import Passage, fetch, search, survey  # noqa: TID252
from .offline import OfflineModel  # noqa: TID252
from .prompts import Analysis, Draft, Plan, Quote, Selection  # noqa: TID252
from .reading import Document  # noqa: TID252

DEMO_QUESTION = "How do I run a command with a timeout and post its output to a Slack webhook?"
"""A question that the standard library's documentation answers in part, so a person has to decide."""

ENOUGH = 3
"""Sources to have before reading them."""
SURE = 0.7
"""Confidence from which an answer needs no person."""
MOST_WORDS = 300
"""A longer question is refused."""
GATHERINGS = 4
HITS = 6
"""Passages asked for in each search."""
READ = 5
"""New documents read in each visit to gathering, at most."""


# --- what a run knows ------------------------------------------------------------------------------------------------


class Citation(BaseModel):
    """What stands behind [number] in the answer."""

    number: int
    document: str
    """Empty if the model cited a source that does not exist."""
    quote: str


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().absolute()) if folder else ""


class Brief(Data):
    """The question, and everything found out about it so far."""

    question: str
    folder: Annotated[str, AfterValidator(_absolute)] = ""
    """Where the documents are; empty: the documentation of the Python standard library."""
    plan: Plan | None = None
    searches: list[str] = []
    """What to search for next."""
    searched: Append[list[str]] = []
    sources: Append[list[Document]] = []
    notes: list[Quote] = []
    missing: list[str] = []
    answer: str = ""
    citations: list[Citation] = []
    confidence: float = 0.0
    feedback: list[str] = []
    """Why the last answer failed its check."""
    replacement: str = ""
    """The answer as the reviewer wrote it."""
    instructions: str = ""
    """What the reviewer wants changed."""
    note: str = ""
    """What the reviewer said when approving."""
    reason: str = ""
    """Why the run failed."""


class QueryParsed(Event):
    plan: Plan
    searches: list[str]


class InvalidQuery(Event):
    reason: str


class SourcesFound(Event):
    sources: list[Document]
    searched: list[str]
    searches: list[str]
    """What else could be tried."""


class NoSources(Event):
    searched: list[str]
    reason: str


class AnalysisComplete(Event):
    notes: list[Quote]
    missing: list[str]


class NeedsMoreData(Event):
    notes: list[Quote]
    missing: list[str]
    searches: list[str]


class AnalysisFailed(Event):
    reason: str


class SynthesisComplete(Event):
    answer: str
    citations: list[Citation]
    confidence: float


class ValidationPassed(Event):
    checked: int
    """Citations found word for word in their sources."""


class ValidationFailed(Event):
    feedback: list[str]


class Approved(Event):
    note: str = ""


class Rejected(Event):
    reason: str = ""


class Modified(Event):
    """Answer again, with this text or by these instructions (or both)."""

    replacement: str = ""
    instructions: str = ""

    @model_validator(mode="after")
    def _says_something(self) -> Modified:
        if not self.replacement.strip() and not self.instructions.strip():
            raise ValueError("give a replacement, or instructions, or both")
        return self


# --- guards and checks: pure -----------------------------------------------------------------------------------------


def enough_sources(event: SourcesFound, data: Brief) -> bool:
    """There is enough to read, or something to read and nothing left to try."""
    return len(data.sources) + len(event.sources) >= ENOUGH or not event.searches


def confident(event: SynthesisComplete, data: Brief) -> bool:  # noqa: ARG001
    """The answer is sure enough to be published without a person."""
    return event.confidence >= SURE


def occurs(quote: str, text: str) -> bool:
    """Whether a text holds a quote, white space aside."""
    return bool(quote.strip()) and prompts.plain(quote) in prompts.plain(text)


def citation_problems(answer: str, citations: Sequence[Citation], sources: Iterable[Document]) -> list[str]:
    """What is wrong with an answer's citations; empty if every one of them stands up."""
    texts = {source.id: source.text for source in sources}
    problems = [] if answer.strip() else ["The answer is empty."]
    for citation in citations:
        mark, document = f"[{citation.number}]", citation.document
        if document not in texts:
            problems.append(f"Citation {mark} names a source that does not exist.")
        elif not occurs(citation.quote, texts[document]):
            problems.append(f"The quote of citation {mark} does not occur in {document}: {citation.quote!r}")
    listed = Counter(citation.number for citation in citations)
    used = {int(number) for number in re.findall(r"\[(\d{1,3})\]", answer)}
    problems += [f"Number [{number}] is given to {times} citations." for number, times in sorted(listed.items()) if times > 1]
    problems += [f"The answer refers to [{number}], which is not a citation." for number in sorted(used - set(listed))]
    return problems if used & set(listed) else [*problems, "The answer cites nothing."]


def untried(searches: Iterable[str], tried: Iterable[str]) -> list[str]:
    """The searches that differ from those tried, each once."""
    seen = {_folded(words) for words in tried} | {""}
    fresh: list[str] = []
    for words in searches:
        if _folded(words) not in seen:
            seen.add(_folded(words))
            fresh.append(words.strip())
    return fresh


def _folded(words: str) -> str:
    return " ".join(words.lower().split())


def new_passages(found: Sequence[Sequence[Passage]], sources: Iterable[Document]) -> list[Passage]:
    """The hits of several searches, best of each first, without documents already read."""
    seen = {source.id for source in sources}
    fresh: dict[str, Passage] = {}
    for rank in range(max(map(len, found), default=0)):
        for hit in (hits[rank] for hits in found if rank < len(hits)):
            if hit.document not in seen:
                fresh.setdefault(hit.document, hit)
    return list(fresh.values())


# --- the states ------------------------------------------------------------------------------------------------------

research = Machine(
    "research", data=Brief, version="1", max_steps=40, deadline=days(7), budget=Budget(tokens=200_000, warn_at=0.6)
)


@research.state(start=True, timeout=minutes(5), tools=[survey])
async def intake(run: Run[Brief]) -> QueryParsed | InvalidQuery:
    """See what can be searched, and turn the question into searches."""
    question = run.data.question.strip()
    if not question or len(question.split()) > MOST_WORDS:
        return InvalidQuery(reason=f"the question is longer than {MOST_WORDS} words" if question else "the question is empty")
    corpus = await run.tool(survey, folder=run.data.folder)
    if corpus.problem:
        return InvalidQuery(reason=corpus.problem)
    plan = await run.llm.ask(prompts.plan(question, corpus.name, corpus.documents), output=Plan, system=prompts.SYSTEM)
    searches = untried(plan.searches, [])[:3]
    if not plan.answerable or not searches:
        return InvalidQuery(reason=plan.reason or "nothing to search for could be made of the question")
    return QueryParsed(plan=plan, searches=searches)


@research.state(max_visits=GATHERINGS, timeout=minutes(5), tools=[search, fetch])
async def gathering(run: Run[Brief]) -> SourcesFound | NoSources:
    """Make all searches at once, let the model choose, and read the chosen documents at once."""
    data = run.data
    found = await run.map(lambda query: run.tool(search, query, limit=HITS, folder=data.folder), data.searches)
    passages = new_passages(found, data.sources)
    tried = [*data.searched, *data.searches]
    shown = [(passage.title, passage.excerpt) for passage in passages]
    prompt = prompts.select(data.question, [source.title for source in data.sources], tried, shown)
    selection = await run.llm.ask(prompt, output=Selection, system=prompts.SYSTEM)
    chosen = [passages[number - 1] for number in dict.fromkeys(selection.relevant) if 0 < number <= len(passages)][:READ]
    documents = await run.map(lambda passage: run.tool(fetch, passage.document, folder=data.folder), chosen)
    further = untried(selection.searches, tried)[:3] if run.visit < GATHERINGS else []
    if not data.sources and not documents and not further:
        return NoSources(
            searched=data.searches, reason=f"nothing in the corpus bears on the question (tried: {'; '.join(tried)})"
        )
    return SourcesFound(sources=documents, searched=data.searches, searches=further)


@research.state(timeout=minutes(5))
async def analyzing(run: Run[Brief]) -> AnalysisComplete | NeedsMoreData | AnalysisFailed:
    """Let the model quote what bears on the question; keep only what the sources really say."""
    data = run.data
    left = GATHERINGS - run.visit
    texts = [(source.title, source.text) for source in data.sources]
    analysis = await run.llm.ask(
        prompts.analyze(data.question, data.searched, left, texts), output=Analysis, system=prompts.SYSTEM
    )
    notes = [note for note in analysis.quotes if 0 < note.source <= len(texts) and occurs(note.quote, texts[note.source - 1][1])]
    searches = untried(analysis.searches, data.searched)[:3]
    if analysis.verdict == "needs_more_data" and searches:
        return NeedsMoreData(notes=notes, missing=analysis.missing, searches=searches)
    if analysis.verdict == "unusable" or not notes:
        return AnalysisFailed(reason=analysis.reason or "no quote of the model occurs in the sources")
    return AnalysisComplete(notes=notes, missing=analysis.missing)


@research.state(max_visits=5, timeout=minutes(5))
async def synthesizing(run: Run[Brief]) -> SynthesisComplete:
    """Write the answer, heeding the last check and the reviewer."""
    data = run.data
    if not data.sources:
        return SynthesisComplete(answer="No answer: nothing had been read when the budget ran low.", citations=[], confidence=0.0)
    cited = {note.source for note in data.notes} or set(range(1, len(data.sources) + 1))
    prompt = prompts.synthesize(
        data.question,
        [(note.source, note.quote) for note in data.notes],
        [(number, source.title, source.text) for number, source in enumerate(data.sources, 1) if number in cited],
        draft=data.answer,
        problems=data.feedback,
        replacement=data.replacement,
        instructions=data.instructions,
    )
    draft = await run.llm.ask(prompt, output=Draft, system=prompts.SYSTEM)
    names = {number: source.id for number, source in enumerate(data.sources, 1)}
    citations = [Citation(number=c.number, document=names.get(c.source, ""), quote=c.quote) for c in draft.citations]
    return SynthesisComplete(answer=draft.answer, citations=citations, confidence=draft.confidence)


@research.state(timeout=minutes(1), per_visit=0)
async def reviewing(run: Run[Brief]) -> ValidationPassed | ValidationFailed:
    """Check every citation against its source, word for word. No model has a say in this."""
    problems = citation_problems(run.data.answer, run.data.citations, run.data.sources)
    return ValidationFailed(feedback=problems) if problems else ValidationPassed(checked=len(run.data.citations))


@research.review(timeout=days(2))
async def human_review(run: Run[Brief]) -> Ask[Approved | Rejected | Modified]:
    """Show the answer with what speaks for and against it."""
    data = run.data
    shown = {
        "question": data.question,
        "answer": data.answer,
        "confidence": data.confidence,
        "citations": [citation.model_dump() for citation in data.citations],
        "problems": citation_problems(data.answer, data.citations, data.sources),
        "missing": data.missing,
    }
    return Ask("This answer is not sure enough to be published unseen. Publish it?", show=shown)


complete = research.final("complete", ok=True)
failed = research.final("failed")
insufficient_data = research.final("insufficient_data")

# --- the table -------------------------------------------------------------------------------------------------------

research.transitions(
    intake.on(QueryParsed) >> gathering,
    intake.on(InvalidQuery) >> failed,
    gathering.on(SourcesFound.when(enough_sources)) >> analyzing,
    gathering.on(SourcesFound) >> gathering,
    gathering.on(NoSources) >> insufficient_data,
    gathering.on(BudgetWarning) >> synthesizing,
    gathering.on(VisitsExhausted) >> synthesizing,
    analyzing.on(AnalysisComplete) >> synthesizing,
    analyzing.on(NeedsMoreData) >> gathering,
    analyzing.on(AnalysisFailed) >> failed,
    synthesizing.on(SynthesisComplete.when(confident)) >> reviewing,
    synthesizing.on(SynthesisComplete) >> human_review,
    reviewing.on(ValidationPassed) >> complete,
    reviewing.on(ValidationFailed) >> synthesizing,
    human_review.on(Approved) >> complete,
    human_review.on(Rejected) >> failed,
    human_review.on(Modified) >> synthesizing,
    human_review.on(ReviewExpired) >> failed,
    research.anywhere.on(Failure) >> failed,
    properties=[
        never(complete, before=(ValidationPassed, Approved)),
        always(SynthesisComplete, before=human_review, since=synthesizing),
        eventually(complete, failed, insufficient_data, within=25),
    ],
)


def model() -> LLM:
    """Claude if there is a key for it, else the offline model. Raises `ConfigError` for a key that cannot be one."""
    if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        return OfflineModel()
    claude = Claude()
    claude.check()
    return claude
