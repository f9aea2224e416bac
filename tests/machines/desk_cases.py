"""Tickets that take different ways through the support agent, and how to play one to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from machines.support import Approved, Modified, Rejected, Reopened, Ticket, settings, support
from machines.support_offline import OfflineSupport
from statecraft import Approve, ErrorKind, Event, Modify, Reject, RunRecord, Runtime, Usage
from statecraft.decisions import Decision
from statecraft.llm import LLM, ModelError, Reply, Request
from statecraft.records import TransitionRecord
from statecraft.testing import ManualClock

ANN, BEN, CARLA, EVA, FARID, GRACE = (f"{name}@example.com" for name in ("ann", "ben", "carla", "eva", "farid", "grace"))

BROKEN = "The kettle of order 1042 arrived broken. Please refund it."
MOVED = "Please send order 1047 to 5 Mill Lane, Galway instead."
PACKED = "Please send order 1048 to Via Po 3, Torino."
WHERE = "Where is my order 1045?"
WHICH = "It arrived broken, I want my money back."
NONSENSE = "asdf qwer zxcv"
ABUSE = "You idiots, I will find you"
JOB = "Do you have a job for my brother?"
CHANGED_MIND = "I changed my mind about order 1041, refund please."


class Late(timedelta):
    """A step in which nobody decides for so long."""


Step = Event | Decision | Late


@dataclass(frozen=True)
class Case:
    """A ticket, who answers it, and what people do when they are asked."""

    email: str
    message: str
    path: str
    """The states it visits, in order."""
    steps: Sequence[Step] = ()
    model: Callable[[], LLM] = OfflineSupport


@dataclass(frozen=True)
class Played:
    """How it went."""

    run: RunRecord
    ticket: Ticket
    moves: tuple[TransitionRecord, ...]
    shop: str

    @property
    def path(self) -> str:
        return " ".join(move.target for move in self.moves)

    @property
    def edges(self) -> set[tuple[str, str, str]]:
        return {(move.source, move.event, move.target) for move in self.moves if move.source}


class Hungry(OfflineSupport):
    """The offline model, but one answer is said to have cost much of the budget."""

    def __init__(self, expensive: str, tokens: int) -> None:
        self.expensive, self.tokens = expensive, tokens

    async def complete(self, request: Request) -> Reply:
        reply = await super().complete(request)
        wanted = request.output.name if request.output is not None else ""
        return replace(reply, usage=Usage(self.tokens, 0)) if wanted == self.expensive and not reply.tool_uses else reply


class Silent(OfflineSupport):
    """A model that fails for good."""

    async def complete(self, request: Request) -> Reply:
        raise ModelError("no such model", kind=ErrorKind.PERMANENT)


class Speechless(OfflineSupport):
    """The offline model, which cannot write."""

    async def complete(self, request: Request) -> Reply:
        if request.output is not None and request.output.name == "Written":
            raise ModelError("no words", kind=ErrorKind.PERMANENT)
        return await super().complete(request)


class Boastful(OfflineSupport):
    """The offline model, which always claims a refund."""

    async def complete(self, request: Request) -> Reply:
        reply = await super().complete(request)
        if request.output is None or request.output.name != "Written":
            return reply
        text = '{"text": "Hello, we have refunded you €500.00.", "confidence": 1.0}'
        return replace(reply, content=({"type": "text", "text": text},))


class Circling(OfflineSupport):
    """The offline model, which looks at the same order again and again instead of deciding."""

    async def complete(self, request: Request) -> Reply:
        if request.output is None or request.output.name != "Decision":
            return await super().complete(request)
        block = {"type": "tool_use", "id": f"toolu_{len(request.messages)}", "name": "show_order", "input": {"order": 1045}}
        return Reply((block,), "tool_use", Usage(100, 10), request.model)


UP_TO_REVIEW = "intake looking_up deciding drafting human_review"

THROUGH = "intake looking_up deciding drafting sending answered"
LESS = {"order": 1042, "cents": 3000, "reason": "half of the kettle: it still boils"}

CASES = {
    "approved": Case(ANN, BROKEN, THROUGH, [Approve()]),
    "modified": Case(ANN, BROKEN, THROUGH, [Modify(LESS), Approve()]),
    "modified and approved": Case(ANN, BROKEN, THROUGH, [Modify(LESS, approve=True)]),
    "rejected": Case(ANN, BROKEN, f"{UP_TO_REVIEW} sending answered", [Reject("ask for a photo first"), Approved()]),
    "modified, then rejected": Case(ANN, BROKEN, f"{UP_TO_REVIEW} handed_over", [Modify(LESS), Reject("no"), Rejected()]),
    "unanswered": Case(ANN, BROKEN, f"{UP_TO_REVIEW} handed_over", [Late(days=2, seconds=1), Rejected()]),
    "reopened": Case(
        BEN,
        CHANGED_MIND,
        f"{UP_TO_REVIEW} deciding drafting sending answered",
        [Reopened(instructions="Refund €59.00 on order 1041, for once."), Approve()],
    ),
    "address": Case(FARID, MOVED, THROUGH),
    "status": Case(EVA, WHERE, THROUGH),
    "packed": Case(CARLA, PACKED, f"{UP_TO_REVIEW} sending answered", [Approved()]),
    "which": Case(ANN, WHICH, f"{UP_TO_REVIEW} sending answered", [Modified(reply="Hello Ann, is it the kettle?")]),
    "mind": Case(BEN, CHANGED_MIND, f"{UP_TO_REVIEW} handed_over", [Rejected(reason="he is a friend of mine")]),
    "forgotten": Case(CARLA, PACKED, f"{UP_TO_REVIEW} handed_over", [Late(days=2, seconds=1)]),
    "stranger": Case("who@example.com", WHERE, "intake looking_up drafting human_review handed_over", [Rejected()]),
    "nonsense": Case(ANN, NONSENSE, "intake discarded"),
    "abuse": Case(BEN, ABUSE, "intake handed_over"),
    "job": Case(GRACE, JOB, "intake looking_up deciding handed_over"),
    "endless": Case(
        ANN,
        WHICH,
        f"{UP_TO_REVIEW} {'deciding drafting human_review ' * 2}deciding handed_over",
        [Reopened(instructions=said) for said in ("Ask for a photo.", "And for the date.", "And for the weather.")],
    ),
    "dear": Case(
        EVA,
        WHERE,
        "intake looking_up deciding short_reply human_review sending answered",
        [Approved()],
        lambda: Hungry("Understanding", 40_000),
    ),
    "dear in the end": Case(
        FARID,
        MOVED,
        "intake looking_up deciding drafting short_reply human_review sending answered",
        [Approved()],
        lambda: Hungry("Decision", 40_000),
    ),
    "circling": Case(EVA, WHERE, "intake looking_up deciding short_reply human_review sending answered", [Approved()], Circling),
    "boastful": Case(EVA, WHERE, f"{UP_TO_REVIEW} handed_over", [Rejected()], Boastful),
    "speechless": Case(EVA, WHERE, "intake looking_up deciding drafting handed_over", model=Speechless),
    "silence": Case(ANN, BROKEN, "intake handed_over", model=Silent),
}


async def play(case: Case, folder: Path) -> Played:
    """Start the ticket in a shop and a database of its own, and take each step when the run waits for a person."""
    clock = ManualClock()
    ticket = Ticket(email=case.email, message=case.message, shop=str(folder / "shop.db"))
    url = f"sqlite:///{folder / 'runs.db'}"
    async with Runtime(url, machines=[support], llm=case.model(), settings=settings, clock=clock) as runtime:
        run = await runtime.wait((await runtime.start(support, ticket)).id)
        for step in case.steps:
            if isinstance(step, Late):
                await clock.advance(step)
                await runtime.resume(run.id)
            elif isinstance(step, Event):
                await runtime.send(run.id, step, by="ann")
            else:
                await runtime.decide(run.id, step, by="ann")
            run = await runtime.wait(run.id)
        ended = await runtime.data(run.id)
        assert isinstance(ended, Ticket)
        return Played(run, ended, tuple(await runtime.history(run.id)), ticket.shop)
