"""A support agent over a shop's database: it understands a message, looks things up, acts, drafts a reply, and asks in doubt.

Money never leaves without a person: the policy `GATE` asks before each refund. The table at the end of this file is the
whole agent. Everything above it says what its states do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from statecraft import (
    Ask,
    Budget,
    BudgetWarning,
    Data,
    Event,
    Failure,
    GatePolicy,
    LoopDetected,
    Machine,
    ReviewExpired,
    Run,
    Settings,
    Status,
    VisitsExhausted,
    days,
    eventually,
    hours,
    minutes,
    never,
)
from statecraft.llm import LLM, Claude

from . import support_prompts as prompts  # noqa: TID252
from .desk import Desk, open_shop  # noqa: TID252
from .drafting import Letter  # noqa: TID252
from .drafting import drafting as letters  # noqa: TID252
from .shop import Customer, Order, Refund, money  # noqa: TID252
from .support_offline import OfflineSupport  # noqa: TID252
from .support_prompts import SYSTEM, Decision, Understanding  # noqa: TID252

SURE = 0.7
"""Confidence from which a reply needs no person."""
MOST_WORDS = 600
"""A longer message is for a person."""
CHEAP = "claude-haiku-5-5"
"""Writes the short reply when the budget runs low."""
TOPICS: dict[str, Literal["refunds", "changes", "delivery"]] = {
    "refund": "refunds",
    "change_address": "changes",
    "order_status": "delivery",
}
"""The policy to read first, by what is asked for."""


GATE = GatePolicy(max_auto_risk="medium", expires=days(2), remind_after=hours(4))
"""A refund is of high risk: a person approves, rejects or changes it first. All else that the tools do may be done at once."""
settings = Settings(gate=GATE)
"""What `statecraft start support` runs with. A program of your own passes it on: `Runtime(..., settings=support.settings)`."""


# --- what a run knows ------------------------------------------------------------------------------------------------


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


class Ticket(Data):
    """A customer's message, and everything found out and done about it so far."""

    email: str
    message: str
    shop: Annotated[str, AfterValidator(_absolute)] = ""
    """The shop's database; made if there is none. Empty: one in the user's cache folder."""
    intent: str = ""
    customer: Customer | None = None
    orders: list[Order] = []
    refunds: list[Refund] = []
    """All that the customer had before this message."""
    policy: str = ""
    outcome: str = ""
    summary: str = ""
    """What the reply has to say."""
    made: list[Refund] = []
    """Refunds made for this message."""
    done: list[str] = []
    """What was done for this message, as the shop's records say."""
    reply: str = ""
    confidence: float = 0.0
    problems: list[str] = []
    """What is wrong with the reply, if its check failed to the last."""
    instructions: str = ""
    """What the reviewer wants done."""
    reason: str = ""
    """Why a person has to deal with it."""
    sent: int = 0
    """Number of the reply that was sent."""


class Understood(Event):
    shop: str
    intent: str
    summary: str


class Nonsense(Event):
    reason: str


class HandedOver(Event):
    reason: str


class FactsFound(Event):
    customer: Customer
    orders: list[Order]
    refunds: list[Refund]
    policy: str


class Stranger(Event):
    outcome: str
    summary: str


class Decided(Event):
    outcome: str
    summary: str
    orders: list[Order]
    made: list[Refund]
    done: list[str]


class Drafted(Event):
    reply: str
    confidence: float
    problems: list[str]


class Apologized(Event):
    reply: str
    confidence: float
    orders: list[Order]
    made: list[Refund]
    done: list[str]


class Sent(Event):
    sent: int


class Approved(Event):
    note: str = ""


class Rejected(Event):
    reason: str = ""


class Modified(Event):
    """Send this reply instead."""

    reply: Annotated[str, Field(min_length=1)]


class Reopened(Event):
    """Deal with it again, by these instructions."""

    instructions: Annotated[str, Field(min_length=1)]


# --- guards and checks: pure -----------------------------------------------------------------------------------------


def confident(event: Drafted, data: Ticket) -> bool:  # noqa: ARG001
    """The reply passed its check, and is sure enough to be sent without a person."""
    return event.confidence >= SURE and not event.problems


def deeds(before: Sequence[Order], after: Sequence[Order], made: Sequence[Refund]) -> list[str]:
    """What was done, in words: the difference between the shop's records before and after."""
    addresses = {order.number: order.address for order in before}
    moved = [order for order in after if addresses.get(order.number, order.address) != order.address]
    paid = [f"refunded {money(refund.cents)} on order {refund.order}" for refund in made]
    return [*paid, *(f"order {order.number} now goes to {order.address}" for order in moved)]


# --- the states ------------------------------------------------------------------------------------------------------

support = Machine(
    "support", data=Ticket, version="1", max_steps=30, deadline=days(5), budget=Budget(tokens=60_000, calls=80, warn_at=0.6)
)
OFFERED = Desk("", "")
"""Names the tools of each state. A visit uses those of its own shop and customer."""


@support.state(start=True, timeout=minutes(3), tools=[open_shop])
async def intake(run: Run[Ticket]) -> Understood | Nonsense | HandedOver:
    """Find the shop, and say what the message asks for."""
    data = run.data
    words = len(data.message.split())
    if not words or words > MOST_WORDS:
        return HandedOver(reason=f"the message is longer than {MOST_WORDS} words") if words else Nonsense(reason="it is empty")
    opened = await run.tool(open_shop, shop=data.shop)
    if opened.problem:
        return HandedOver(reason=opened.problem)
    asked = await run.llm.ask(prompts.understand(data.message), output=Understanding, system=SYSTEM, max_tokens=1024)
    if asked.abusive:
        return HandedOver(reason=f"abusive: {asked.summary}")
    if asked.intent == "none":
        return Nonsense(reason=asked.summary)
    return Understood(shop=opened.shop, intent=asked.intent, summary=asked.summary)


@support.state(timeout=minutes(2), tools=OFFERED.lookups)
async def looking_up(run: Run[Ticket]) -> FactsFound | Stranger:
    """Look up the customer, their orders and refunds, and the policy, all at once."""
    desk = Desk(run.data.shop, run.data.email)
    topic = TOPICS.get(run.data.intent, "delivery")
    customer, orders, refunds, policy = await run.gather(
        run.tool(desk.customer), run.tool(desk.orders), run.tool(desk.refunds), run.tool(desk.policy, topic)
    )
    if customer is None:
        asked = f"We know no customer with the address {run.data.email}: which address was the order made with?"
        return Stranger(outcome="ask_back", summary=asked)
    return FactsFound(customer=customer, orders=orders, refunds=refunds, policy=policy)


@support.state(max_visits=3, timeout=days(3), tools=[*OFFERED.for_the_model, OFFERED.orders, OFFERED.refunds])
async def deciding(run: Run[Ticket]) -> Decided | HandedOver:
    """Let the model use the shop's tools; then read from the shop what was really done."""
    data, desk = run.data, Desk(run.data.shop, run.data.email)
    prompt = prompts.decide(
        data.message,
        data.intent,
        data.customer,
        data.orders,
        data.refunds,
        data.policy,
        done=data.done,
        instructions=data.instructions,
    )
    decision = await run.llm.ask(prompt, output=Decision, system=SYSTEM, tools=desk.for_the_model, max_tokens=2048)
    orders, made, done = await _records(run, desk)
    if decision.outcome == "hand_over":
        return HandedOver(reason="; ".join([decision.summary, *done]))
    return Decided(outcome=decision.outcome, summary=decision.summary, orders=orders, made=made, done=done)


@support.state(timeout=minutes(20), children=[letters])
async def drafting(run: Run[Ticket]) -> Drafted | HandedOver:
    """Have the reply written and checked, by a machine of its own."""
    data = run.data
    letter = Letter(
        message=data.message,
        customer=data.customer,
        orders=data.orders,
        outcome=data.outcome,
        summary=data.summary,
        refunds=data.made,
        done=data.done,
        instructions=data.instructions,
    )
    child = await run.child(letters, letter, ok_only=False)
    if not child.data.text.strip():
        return HandedOver(reason=f"no reply was written: child run {child.run_id} is {child.status} in {child.state}")
    problems = child.data.problems if child.status is Status.DONE else child.data.problems or [f"its check is {child.status}"]
    return Drafted(reply=child.data.text, confidence=child.data.confidence, problems=problems)


@support.state(timeout=minutes(3), tools=[OFFERED.orders, OFFERED.refunds])
async def short_reply(run: Run[Ticket]) -> Apologized:
    """A few words by a cheaper model, to be approved by a person, saying what was done before things went wrong."""
    data, desk = run.data, Desk(run.data.shop, run.data.email)
    orders, made, done = await _records(run, desk)
    prompt = prompts.short(data.message, data.customer, done)
    written = await run.llm.ask(prompt, output=prompts.Written, system=SYSTEM, model=CHEAP, max_tokens=512)
    return Apologized(reply=written.text, confidence=written.confidence, orders=orders, made=made, done=done)


@support.review(timeout=days(2))
async def human_review(run: Run[Ticket]) -> Ask[Approved | Rejected | Modified | Reopened]:
    """Show the reply with what it answers and what was done."""
    data = run.data
    shown = {
        "email": data.email,
        "message": data.message,
        "reply": data.reply,
        "confidence": data.confidence,
        "problems": data.problems,
        "outcome": data.outcome,
        "done": data.done,
    }
    return Ask("This reply is not sure enough to be sent unseen. Send it?", show=shown)


@support.state(timeout=minutes(3), tools=[OFFERED.reply])
async def sending(run: Run[Ticket]) -> Sent:
    """Send the reply, once."""
    return Sent(sent=await run.tool(Desk(run.data.shop, run.data.email).reply, run.data.reply))


answered = support.final("answered", ok=True)
discarded = support.final("discarded")
handed_over = support.final("handed_over")


async def _records(run: Run[Ticket], desk: Desk) -> tuple[list[Order], list[Refund], list[str]]:
    """What the shop's own records say now: the orders, the refunds made for this message, and all that was done."""
    if not run.data.shop or run.data.customer is None:
        return [], [], []
    orders, refunds = await run.gather(run.tool(desk.orders), run.tool(desk.refunds))
    known = {refund.number for refund in run.data.refunds}
    made = [refund for refund in refunds if refund.number not in known]
    return orders, made, [*run.data.done, *(deed for deed in deeds(run.data.orders, orders, made) if deed not in run.data.done)]


# --- the table -------------------------------------------------------------------------------------------------------

support.transitions(
    intake.on(Understood) >> looking_up,
    intake.on(Nonsense) >> discarded,
    intake.on(HandedOver) >> handed_over,
    looking_up.on(FactsFound) >> deciding,
    looking_up.on(Stranger) >> drafting,
    deciding.on(Decided) >> drafting,
    deciding.on(HandedOver) >> handed_over,
    deciding.on(LoopDetected) >> short_reply,
    deciding.on(BudgetWarning) >> short_reply,
    deciding.on(VisitsExhausted) >> handed_over,
    drafting.on(Drafted.when(confident)) >> sending,
    drafting.on(Drafted) >> human_review,
    drafting.on(HandedOver) >> handed_over,
    drafting.on(BudgetWarning) >> short_reply,
    short_reply.on(Apologized) >> human_review,
    human_review.on(Approved) >> sending,
    human_review.on(Modified) >> sending,
    human_review.on(Reopened) >> deciding,
    human_review.on(Rejected) >> handed_over,
    human_review.on(ReviewExpired) >> handed_over,
    sending.on(Sent) >> answered,
    support.anywhere.on(Failure) >> handed_over,
    properties=[
        never(sending, before=(drafting, human_review)),
        never(answered, before=Sent),
        eventually(answered, discarded, handed_over, within=20),
    ],
)


def model() -> LLM:
    """Claude if there is a key for it, else the offline model. Raises `ConfigError` for a key that cannot be one."""
    if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        return OfflineSupport()
    claude = Claude()
    claude.check()
    return claude
