"""Rows for operators: declared in the table, seen by checks, fingerprint and diagram, taken by nobody else."""

from __future__ import annotations

import json

import pytest

from statecraft import Machine, Run
from statecraft.diagram.graph import graph
from statecraft.diagram.mermaid import to_mermaid
from statecraft.errors import DefinitionError
from tests.dead.plant import Bought, Order, Skip


def machine(*, operator: bool = True, only: bool = False) -> Machine[Order]:
    made = Machine("made", data=Order)

    @made.state(start=True)
    async def work(run: Run[Order]) -> Bought:
        return Bought()

    @made.state()
    async def by_hand(run: Run[Order]) -> Bought:
        return Bought()

    done = made.final("done", ok=True)
    rows = [work.on(Bought) >> done]
    rows.append((by_hand.on(Skip) if only else by_hand.on(Bought)) >> done)
    rows.append((work.on(Skip) if operator else work.on(Bought.when(never))) >> by_hand)
    made.transitions(*(rows if operator else [rows[2], *rows[:2]]))
    return made


def never(event: Bought, data: Order) -> bool:
    return False


def test_a_state_may_be_reached_by_an_operator_alone_but_not_left_so() -> None:
    assert machine().findings == ()
    with pytest.raises(DefinitionError, match=r"SC106 by_hand|SC111 by_hand"):
        machine(only=True)


def test_spec_fingerprint_and_diagram_show_who_sends_the_event() -> None:
    definition, other = machine().definition, machine(operator=False).definition
    assert [row.get("by") for row in json.loads(definition.spec)["rows"]] == [None, None, "operator"]
    assert all("by" not in row for row in json.loads(other.spec)["rows"])
    assert definition.fingerprint != other.fingerprint
    assert [edge.said for edge in graph(definition).edges][-1] == "skip (by operator)"
    assert "skip" in to_mermaid(definition)
    assert "operator" in to_mermaid(definition)


def test_no_handler_answers_with_an_operators_event() -> None:
    made = Machine("wrong", data=Order)

    @made.state(start=True)
    async def work(run: Run[Order]) -> Skip:
        return Skip()

    with pytest.raises(DefinitionError, match="only a redrive sends it"):
        made.transitions(work.on(Skip) >> made.final("done", ok=True))
