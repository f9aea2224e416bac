"""A machine that writes one reply to a customer and checks it against the facts. The support agent starts it as a child."""

from __future__ import annotations

import re

from statecraft import Budget, Data, Event, Failure, Machine, Run, VisitsExhausted, minutes

from . import support_prompts as prompts  # noqa: TID252
from .shop import Customer, Order, Refund, money  # noqa: TID252
from .support_prompts import SYSTEM  # noqa: TID252

DRAFTS = 3
"""Drafts written at most."""
LONGEST = 2_000
"""Characters of a reply, at most."""
_AMOUNT = re.compile(r"€\s?(\d[\d,]*(?:\.\d{1,2})?)")
_ORDER = re.compile(r"\border(?: number| no\.?)? #?(\d{3,})", re.IGNORECASE)
_CLAIM = re.compile(r"\b(?:refunded|paid (?:you )?back|reimbursed)\b", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:not|no|cannot|can't|could not|unable)\b[^.]*\Z", re.IGNORECASE)


class Letter(Data):
    """What a reply is about, and the reply."""

    message: str
    customer: Customer | None = None
    orders: list[Order] = []
    outcome: str = ""
    summary: str = ""
    """What the reply has to say."""
    refunds: list[Refund] = []
    """Made for this message."""
    done: list[str] = []
    """What was done for this message, as the shop's records say."""
    instructions: str = ""
    text: str = ""
    confidence: float = 0.0
    problems: list[str] = []
    """What is wrong with the last draft."""


class Written(Event):
    text: str
    confidence: float


class Sound(Event):
    problems: list[str]


class Unsound(Event):
    problems: list[str]


def problems_of(letter: Letter) -> list[str]:
    """What a reply says that the shop's records do not, or leaves out; empty if it may be sent."""
    text = letter.text.strip()
    if not text:
        return ["The reply is empty."]
    problems = [f"The reply is longer than {LONGEST} characters."] if len(text) > LONGEST else []
    known = _amounts(letter)
    stated = {_cents(amount) for amount in _AMOUNT.findall(text)}
    problems += [f"Nothing in the records is {money(cents)}." for cents in sorted(stated - known)]
    numbers = {order.number for order in letter.orders}
    named = {int(number) for number in _ORDER.findall(text)}
    asked = {int(number) for number in re.findall(r"\b\d{3,}\b", letter.message)}
    problems += [f"The customer has no order {number}." for number in sorted(named - numbers - asked)]
    for refund in letter.refunds:
        if refund.cents not in stated or refund.order not in named:
            problems.append(f"The reply does not name the refund of {money(refund.cents)} on order {refund.order}.")
    if not any(order.refunded for order in letter.orders) and _claims_a_refund(text):
        problems.append("The reply speaks of a refund, but none was made.")
    return problems


def _amounts(letter: Letter) -> set[int]:
    found = {refund.cents for refund in letter.refunds}
    for order in letter.orders:
        found |= {order.paid, order.refunded, order.paid - order.refunded}
        found |= {line.cents for line in order.lines} | {line.cents * line.quantity for line in order.lines}
    return found


def _cents(amount: str) -> int:
    euros, _, cents = amount.replace(",", "").partition(".")
    return int(euros) * 100 + int(cents.ljust(2, "0") or 0)


def _claims_a_refund(text: str) -> bool:
    return any(not _DENIAL.search(text[: found.start()]) for found in _CLAIM.finditer(text))


drafting = Machine("drafting", data=Letter, version="1", max_steps=10, budget=Budget(tokens=30_000))


@drafting.state(start=True, max_visits=DRAFTS, timeout=minutes(3))
async def writing(run: Run[Letter]) -> Written:
    """Write the reply, heeding what was wrong with the last one."""
    data = run.data
    prompt = prompts.write(
        data.message,
        data.customer,
        data.outcome,
        data.summary,
        data.done,
        data.orders,
        draft=data.text,
        problems=data.problems,
        instructions=data.instructions,
    )
    reply = await run.llm.ask(prompt, output=prompts.Written, system=SYSTEM, max_tokens=1024)
    return Written(text=reply.text, confidence=reply.confidence)


@drafting.state(timeout=minutes(1), per_visit=0)
async def checking(run: Run[Letter]) -> Sound | Unsound:
    """Compare every amount and order in the reply with the shop's records. No model has a say in this."""
    problems = problems_of(run.data)
    return Unsound(problems=problems) if problems else Sound(problems=[])


ready = drafting.final("ready", ok=True)
unfit = drafting.final("unfit")

drafting.transitions(
    writing.on(Written) >> checking,
    writing.on(VisitsExhausted) >> unfit,
    checking.on(Sound) >> ready,
    checking.on(Unsound) >> writing,
    drafting.anywhere.on(Failure) >> unfit,
)
