"""What the tests of evals share: a small machine that answers, and asks a person when it is not sure."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable

from statecraft import Ask, Data, Event, Failure, Machine, Run, days, tool
from statecraft.evals import Case
from statecraft.llm import Reply, Request
from statecraft.records import Json, Usage


class Question(Data):
    question: str
    answer: str = ""
    sure: float = 1.0
    found: list[str] = []


class Answered(Event):
    answer: str
    sure: float


class Approved(Event):
    note: str = ""


class Rejected(Event):
    reason: str = ""


class Modified(Event):
    answer: str


@tool(effect="read", risk="low")
def look_up(word: str, limit: int = 3) -> str:
    """Look a word up."""
    return f"{word}: {limit}"


def is_sure(event: Answered, data: Question) -> bool:
    return event.sure >= 0.5


PROMPT = {"text": "Answer this: {}"}
"""The prompt, where a test can change it as an edit would."""

oracle = Machine("oracle", data=Question, max_steps=10)


@oracle.state(start=True, tools=[look_up], max_visits=2)
async def answering(run: Run[Question]) -> Answered:
    """Look up, then answer."""
    await run.tool(look_up, run.data.question.split()[0])
    return await run.llm.ask(PROMPT["text"].format(run.data.question), output=Answered)


@oracle.review(timeout=days(1))
async def checking(run: Run[Question]) -> Ask[Approved | Rejected | Modified]:
    """A person looks at what is not sure."""
    return Ask("Is this right?", show={"answer": run.data.answer})


told = oracle.final("told", ok=True)
silent = oracle.final("silent")

oracle.transitions(
    answering.on(Answered.when(is_sure)) >> told,
    answering.on(Answered) >> checking,
    checking.on(Approved) >> told,
    checking.on(Modified) >> checking,
    checking.on(Rejected) >> silent,
    oracle.anywhere.on(Failure) >> silent,
)


class Parrot:
    """A model that answers by the question, and counts. Not of the library, so its code is part of what it is."""

    def __init__(
        self, says: Callable[[str], Json] = lambda question: {"answer": f"About {question}", "sure": 1.0}, name: str = "parrot"
    ) -> None:
        self.says = says
        self.model = name
        self.label = name
        self.asked: list[str] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        """Awaited before each answer."""

    async def complete(self, request: Request) -> Reply:
        said = str(request.messages[-1]["content"])
        if self.before is not None:
            await self.before()
        self.asked.append(said)
        question = re.sub(r"^Answer this: ", "", said)
        return Reply(({"type": "text", "text": json.dumps(self.says(question))},), "end_turn", Usage(10, 5), self.model)

    async def close(self) -> None:
        """Nothing to close."""


def case(question: str, **expect: Json) -> Case:
    return Case({"question": question}, expect)
