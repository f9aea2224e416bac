"""A reply says what the shop's records say, or it is written again."""

from __future__ import annotations

import pytest

from machines.drafting import DRAFTS, Letter, drafting, problems_of
from machines.shop import Customer, Line, Order, Refund
from machines.support_prompts import Written
from statecraft import Status, run
from statecraft.llm import ScriptedLLM

ANN = Customer(number=1, email="ann@example.com", name="Ann Baker", since="2024-03-02")
KETTLE = Line(product="Copper kettle", quantity=1, cents=6490)
ORDER = Order(
    number=1042,
    placed_on="2026-10-02",
    status="delivered",
    address="14 Elm Street",
    carrier="",
    tracking="",
    lines=[KETTLE],
    paid=6490,
    refunded=6490,
)
REFUND = Refund(number=1, order=1042, cents=6490, reason="broken", key="k")
REFUNDED = Letter(message="The kettle of 1042 broke.", customer=ANN, orders=[ORDER], refunds=[REFUND], outcome="done")
NOTHING = Letter(
    message="Where is order 1042?", customer=ANN, orders=[ORDER.model_copy(update={"refunded": 0})], outcome="answered"
)
GOOD = "Hello Ann, we have refunded €64.90 on order 1042."


def test_the_machine_has_no_findings() -> None:
    assert drafting.findings == ()


@pytest.mark.parametrize(
    ("letter", "text", "said"),
    [
        (REFUNDED, GOOD, []),
        (REFUNDED, " ", ["The reply is empty."]),
        (REFUNDED, "We have refunded order 1042.", ["The reply does not name the refund of €64.90 on order 1042."]),
        (
            REFUNDED,
            "We have refunded €649.00 on order 1042.",
            ["Nothing in the records is €649.00.", "The reply does not name the refund of €64.90 on order 1042."],
        ),
        (REFUNDED, f"{GOOD} So is order 1077.", ["The customer has no order 1077."]),
        (REFUNDED, GOOD + "!" * 2000, ["The reply is longer than 2000 characters."]),
        (NOTHING, "Your kettle has been refunded.", ["The reply speaks of a refund, but none was made."]),
        (NOTHING, "We cannot say that it was refunded.", []),
        (NOTHING, "Order 1042 is delivered; the kettle was €64.90.", []),
        (NOTHING.model_copy(update={"message": "Where is 1099?"}), "We find no order 1099.", []),
    ],
)
def test_a_reply_is_compared_with_the_records(letter: Letter, text: str, said: list[str]) -> None:
    assert problems_of(letter.model_copy(update={"text": text})) == said


@pytest.mark.slow
def test_a_wrong_reply_is_written_again_with_what_was_wrong(url: str) -> None:
    model = ScriptedLLM([Written(text="We have refunded it.", confidence=0.9), Written(text=GOOD, confidence=0.8)])
    ended = run(drafting, REFUNDED, url=url, llm=model)
    assert (ended.run.state, ended.data.text, ended.data.confidence) == ("ready", GOOD, 0.8)
    again = str(model.requests[1].messages[0]["content"])
    assert "<problem>The reply does not name the refund of €64.90 on order 1042.</problem>" in again
    assert "<draft>We have refunded it.</draft>" in again


@pytest.mark.slow
def test_a_reply_that_stays_wrong_is_unfit_but_kept_with_its_problems(url: str) -> None:
    model = ScriptedLLM([Written(text="We have refunded it.", confidence=0.9)] * DRAFTS)
    ended = run(drafting, REFUNDED, url=url, llm=model)
    assert (ended.run.status, ended.run.state) == (Status.FAILED, "unfit")
    assert ended.data.problems == ["The reply does not name the refund of €64.90 on order 1042."]


def test_a_model_that_fails_leaves_it_unfit(url: str) -> None:
    assert run(drafting, REFUNDED, url=url, llm=ScriptedLLM([])).run.state == "unfit"
