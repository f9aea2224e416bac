"""Budgets as declared: what they limit, what they refuse, and what a machine's fingerprint makes of them."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from statecraft import Budget, Data, Event, Failure, Machine, Run, minutes
from statecraft.diagram.graph import graph
from statecraft.errors import ConfigError
from statecraft.machine.budget import public, said
from statecraft.machine.definition import Definition


class Note(Data):
    text: str = ""


class Next(Event): ...


def machine(budget: Budget | None = None, of_state: Budget | None = None) -> Definition:
    m = Machine("m", data=Note, budget=budget)

    @m.state(start=True, budget=of_state)
    async def work(run: Run[Note]) -> Next:
        return Next()

    m.transitions(work.on(Next) >> m.final("done", ok=True), m.anywhere.on(Failure) >> m.final("failed"))
    return m.definition


def test_a_budget_knows_its_limits_in_whole_units() -> None:
    budget = Budget(1000, money="1.50", calls=7, wall=minutes(2))
    assert budget.limits == {"tokens": 1000, "calls": 7, "money": 1_500_000_000}
    assert budget.wall_micros == 120_000_000


@pytest.mark.parametrize("amount", ["0.1", 0.1, Decimal("0.1"), Decimal("0.10")])
def test_money_may_be_written_in_any_way_and_is_exact(amount: Any) -> None:
    assert Budget(money=amount) == Budget(money="0.1")
    assert Budget(money=amount).limits == {"money": 100_000_000}
    assert machine(Budget(money=amount)).fingerprint == machine(Budget(money="0.1")).fingerprint


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "at least one limit"),
        ({"tokens": True}, "at least 1 token"),
        ({"tokens": 1.5}, "at least 1 token"),
        ({"calls": 0}, "at least 1 call"),
        ({"money": 0}, "more than 0"),
        ({"money": "-1"}, "from 0 up"),
        ({"money": "cheap"}, "from 0 up"),
        ({"money": float("nan")}, "from 0 up"),
        ({"money": True}, "from 0 up"),
        ({"wall": timedelta(0)}, "wall"),
        ({"wall": 60}, "wall"),
        ({"tokens": 1, "warn_at": "half"}, "warn_at"),
    ],
)
def test_what_is_no_budget_is_refused_and_says_why(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Budget(**wrong)


def test_a_state_has_no_wall_but_a_timeout() -> None:
    with pytest.raises(ConfigError, match="timeout="):
        machine(of_state=Budget(wall=minutes(1)))


def test_a_state_keeps_its_budget() -> None:
    definition = machine(of_state=Budget(calls=3))
    assert definition.states["work"].budget == Budget(calls=3)
    assert json.loads(definition.spec)["states"][0]["budget"] == {"tokens": None, "warn_at": 0.8, "calls": 3}


@pytest.mark.parametrize("other", [Budget(100, money=1), Budget(100, calls=1), Budget(100, wall=minutes(1)), Budget(100, 0.5)])
def test_every_limit_counts_in_the_fingerprint(other: Budget) -> None:
    assert machine(other).fingerprint != machine(Budget(100)).fingerprint
    assert machine(None, Budget(100)).fingerprint != machine(None, Budget(100, calls=2)).fingerprint != machine().fingerprint


def test_a_picture_tells_every_limit() -> None:
    drawn = graph(machine(Budget(50_000, money="2.5", wall=minutes(5)), Budget(calls=1200)))
    assert {"≤ 50,000 tokens", "≤ $2.50", "≤ 5 min"} <= set(drawn.facts)
    assert "≤ 1,200 calls" in next(state for state in drawn.shapes if state.name == "work").facts


@pytest.mark.parametrize(
    ("unit", "amount", "number", "words"),
    [
        ("tokens", 1200, 1200, "1,200 tokens"),
        ("calls", 1, 1, "1 call"),
        ("money", 200_000_000, 0.2, "$0.20"),
        ("wall", 90_000_000, 90.0, "90 s"),
    ],
)
def test_an_amount_has_a_number_for_events_and_words_for_people(unit: str, amount: int, number: float, words: str) -> None:
    assert public(unit, amount) == number
    assert isinstance(public(unit, amount), type(number))
    assert said(unit, amount) == words
