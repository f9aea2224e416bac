"""A machine that both type checkers accept as it stands. `bad.py` makes mistakes against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar, assert_never, assert_type

from pydantic import BaseModel

from statecraft.engine.machine_tool import machine_tool
from statecraft.machine.child import Child
from statecraft.machine.context import Run, ToolLike
from statecraft.machine.data import Append, Data
from statecraft.machine.declare import Machine
from statecraft.machine.event import (
    BudgetWarning,
    CallFailed,
    DeadlinePassed,
    Event,
    Failure,
    ReviewExpired,
    VisitsExhausted,
)
from statecraft.machine.joins import any_of, collect, first
from statecraft.machine.properties import Property, always, eventually, never
from statecraft.machine.state import Ask, Review, State
from statecraft.records import Status

P = ParamSpec("P")
R = TypeVar("R")


class Quote(BaseModel):
    page: str
    text: str


class Outline(BaseModel):
    terms: list[str]


class Paper(Data):
    topic: str
    outline: Outline | None = None
    quotes: Append[list[Quote]] = []
    draft: str = ""


class Outlined(Event):
    outline: Outline


class Hopeless(Event):
    reason: str


class Quoted(Event):
    quotes: list[Quote]


class Dry(Event): ...


class Drafted(Event):
    draft: str


class Accepted(Event):
    note: str = ""


class Returned(Event):
    note: str


class Search(Generic[P, R]):
    """As small as a tool can be."""

    name = "look_up"

    def __init__(self, fn: Callable[P, R]) -> None:
        self.fn = fn

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        return {"args": list(args), **kwargs}

    def load(self, text: str, /) -> R:
        raise NotImplementedError


def _pages(term: str, limit: int = 3) -> list[Quote]:
    return [Quote(page=term, text="")] * limit


look_up = Search(_pages)
as_tool: ToolLike[..., list[Quote]] = look_up

paper = Machine("paper", data=Paper, max_steps=30, deadline=timedelta(minutes=5))


def plenty(event: Quoted, data: Paper) -> bool:
    return len(event.quotes) + len(data.quotes) >= 4


def worth_another_try(event: CallFailed, data: Paper) -> bool:
    return event.kind == "overloaded" and not data.draft


@paper.state(start=True)
async def outlining(run: Run[Paper]) -> Outlined | Hopeless:
    """What to look for."""
    words = await run.llm.ask(f"Any terms in {run.data.topic}?", max_tokens=50)
    assert_type(words, str)
    if not words:
        return Hopeless(reason="no terms")
    outline = await run.llm.ask(run.data.topic, output=Outline)
    assert_type(outline, Outline)
    return Outlined(outline=outline)


@paper.state(max_visits=3, timeout=timedelta(minutes=1), tools=[look_up])
async def reading(run: Run[Paper]) -> Quoted | Dry:
    first = await run.tool(look_up, run.data.topic, limit=2)
    assert_type(first, list[Quote])
    second, hint = await run.gather(run.tool(look_up, "more"), run.llm.ask("a hint?"))
    assert_type(second, list[Quote])
    assert_type(hint, str)

    async def more(term: str) -> list[Quote]:
        return await run.tool(look_up, term)

    rest = await run.map(more, ["a", "b"], concurrency=2)
    assert_type(rest, list[list[Quote]])
    await run.sleep(timedelta(seconds=1))
    found = [*first, *second, *(quote for quotes in rest for quote in quotes)]
    return Quoted(quotes=found) if found else Dry()


@paper.state()
def writing(run: Run[Paper]) -> Drafted:
    """A handler that only computes may be a plain function."""
    return Drafted(draft="\n".join(quote.text for quote in run.data.quotes))


@paper.review(timeout=timedelta(days=1))
async def editor(run: Run[Paper]) -> Ask[Accepted | Returned]:
    return Ask("Print it?", show=run.data.draft)


printed = paper.final("printed", ok=True)
dropped = paper.final("dropped")

paper.transitions(
    outlining.on(Outlined) >> reading,
    outlining.on(Hopeless) >> dropped,
    reading.on(Quoted.when(plenty)) >> writing,
    reading.on(Quoted.when(lambda event, data: len(event.quotes) > len(data.quotes))) >> writing,
    reading.on(Quoted) >> reading,
    reading.on(Dry) >> dropped,
    reading.on(BudgetWarning) >> writing,
    reading.on(VisitsExhausted).to(writing),
    reading.on(CallFailed.when(worth_another_try)) >> reading,
    writing.on(Drafted) >> editor,
    editor.on(Accepted) >> printed,
    editor.on(Returned) >> writing,
    editor.on(ReviewExpired) >> dropped,
    paper.anywhere.on(DeadlinePassed) >> dropped,
    paper.anywhere.on(CallFailed.when(worth_another_try)) >> outlining,
    paper.anywhere.on(Failure) >> dropped,
    properties=[
        never(printed, before=Accepted),
        never(editor, printed, before=(Outlined, outlining)),
        always(Accepted, before=printed, since=(writing, outlining)),
        eventually(printed, dropped, within=34),
    ],
)

assert_type(never(printed, before=Accepted), Property[Paper])
assert_type(always(Accepted, editor, before=(printed, writing)), Property[Paper])

assert_type(outlining, State[Paper, Outlined | Hopeless])
assert_type(writing, State[Paper, Drafted])
assert_type(editor, Review[Paper, Accepted | Returned])


async def handlers_stay_awaitable(run: Run[Paper]) -> str:
    answer = await outlining(run)
    assert_type(await editor(run), Ask[Accepted | Returned])
    match answer:
        case Outlined():
            return answer.outline.terms[0]
        case Hopeless():
            return answer.reason
        case _:
            assert_never(answer)


@dataclass(frozen=True)
class Term:
    text: str


def paper_on(topic: str, pages: int = 1) -> Paper:
    """Write a paper."""
    return Paper(topic=topic * pages)


def draft_of(done: Paper) -> str:
    return done.draft


writer = machine_tool(paper, input=paper_on, result=draft_of)


async def runs_others(run: Run[Paper]) -> None:
    child = await run.child(paper, Paper(topic="bees"))
    assert_type(child, Child[Paper])
    assert_type(child.data.draft, str)
    assert_type((await run.child(paper, Paper(topic="bees"), ok_only=False)).status, Status)
    assert_type(await run.tool(writer, "bees", pages=2), str)
    assert_type(await run.tool(machine_tool(paper, input=paper_on), topic="bees"), Paper)

    async def shout(term: Term) -> str:
        return term.text.upper()

    terms = [Term("a"), Term("b")]
    assert_type(await run.map(shout, terms), list[str])
    assert_type(await run.map(shout, terms, join=first(2)), list[str])
    assert_type(await run.map(shout, terms, join=any_of), str)
    assert_type(await run.map(shout, terms, concurrency=2, join=collect), list[str | Exception])
