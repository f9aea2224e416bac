"""One question with all that can happen in one, by processes that die at any commit: the same conversation in the end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from statecraft import (
    Budget,
    CallInfo,
    Data,
    Event,
    Failure,
    GatePolicy,
    LoopPolicy,
    Machine,
    Price,
    RateLimit,
    Run,
    SummarizeOld,
    seconds,
    tool,
)
from statecraft.decisions import Approve, Decision, DidNotHappen, Happened
from statecraft.llm import Reply, Request, check_history
from statecraft.llm.compaction import Summary
from statecraft.records import ReviewRecord
from statecraft.testing import ScriptedLLM, json_reply, text, together, tool_use
from tests.engine.dying import SETTINGS, World, lives, some


class Case(Data):
    answer: str = ""


class Closed(Event):
    answer: str


Place = World[Case]

EVERYTHING = replace(
    SETTINGS,
    gate=GatePolicy(max_auto_risk="low"),
    loops=LoopPolicy(times=3),
    context=SummarizeOld(window=6_000, keep_turns=2, summary_tokens=300, stub_results_older_than=None),
    limits=(RateLimit(of="model", tokens=10_000_000, per=seconds(1)), RateLimit(of="tool", requests=100_000, per=seconds(1))),
    prices={"scripted": Price(1, 5)},
)

ROUNDS = 6


def answer(request: Request) -> Reply:
    """Looks twice at the same thing in each round, pays in the third, and stops after the last."""
    check_history(request.messages)
    if request.output is not None:
        return json_reply(Summary(facts=["it was long"], decisions=[], open_questions=[], artefacts=[], failed_attempts=[]))
    said = json.dumps(list(request.messages))
    number = max((n for n in range(1, ROUNDS + 1) if f'"round {n}"' in said), default=0) + 1
    if number > ROUNDS:
        return text("told" if "Change your approach" in said else "closed")
    words = text(f"round {number}")
    again = tool_use("look", {"at": 1 if number > 4 else number})
    paying = [tool_use("pay", {"amount": 9})] if number == 3 else []
    return together(words, again, again, *paying, tool_use("look", {"at": 100 + number}))


def office(place: list[Place]) -> Machine[Case]:
    @tool(effect="idempotent", risk="low", price="0.001")
    async def look(at: int) -> str:
        """A long look."""
        return f"{at}: " + "all quiet " * 120

    @tool(effect="once", risk="high", price="0.01")
    async def pay(info: CallInfo, amount: int) -> str:
        """Pay, which must not happen twice."""
        place[0].effects.append((place[0].life, info.key))
        return f"paid {amount}"

    machine = Machine("office", data=Case, max_steps=3, budget=Budget(tokens=10**9, money=1000, calls=10**6))

    @machine.state(start=True, tools=[look, pay])
    async def working(run: Run[Case]) -> Closed:
        said = await run.llm.ask("Close the case.", tools=[look, pay], max_turns=20, max_tokens=100, tool_concurrency=2)
        return Closed(answer=said)

    closed, failed = machine.final("closed", ok=True), machine.final("failed")
    machine.transitions(working.on(Closed) >> closed, machine.anywhere.on(Failure) >> failed)
    return machine


def careful(place: Place, review: ReviewRecord) -> Decision:
    """Approves, and when asked what became of it, looks."""
    if review.kind == "gate":
        return Approve()
    return Happened("paid 9") if place.effects else DidNotHappen()


class Stage:
    def __init__(self) -> None:
        self.place: list[Place] = []
        self.machine = office(self.place)

    def live(self, folder: Path, *points: int) -> Place:
        folder.mkdir()
        world = World(
            folder,
            self.machine,
            Case(),
            llm=lambda _: ScriptedLLM(answer),
            verdict=careful,
            settings=EVERYTHING,
        )
        self.place[:] = [world]
        ended = lives(world, points)
        assert ended.state == "closed", world.journal()[-1]
        world.sound()
        assert world.noises == []
        return world


def summary(world: Place) -> list[tuple[object, ...]]:
    """What was asked and answered, and what it cost. That a payment happened is said without its price."""
    cost = "CASE name WHEN 'pay' THEN 0 ELSE cost END"
    return world.ask(f"SELECT kind, name, hex(digest), occurrence, ok, {cost}, result FROM calls ORDER BY 1, 2, 3, 4")


def assert_sound(world: Place) -> None:
    ((cost, count),) = world.ask("SELECT sum(cost), count(cost) FROM calls")
    used: dict[str, int] = dict(world.ask("SELECT substr(meter, 38), used FROM meters WHERE meter LIKE 'run:%'"))
    assert (used["money"], used["calls"]) == (cost, count)
    assert world.ask("SELECT * FROM reservations") == []
    assert len(world.effects) == 1


@pytest.mark.slow
def test_a_process_that_dies_in_a_long_question_changes_nothing(tmp_path: Path) -> None:
    stage = Stage()
    calm = stage.live(tmp_path / "calm")
    assert_sound(calm)
    ((answer,),) = calm.ask("SELECT payload FROM transitions WHERE event = 'closed'")
    assert json.loads(answer) == {"answer": "told"}
    assert len(calm.ask("SELECT 1 FROM calls WHERE kind = 'llm'")) > ROUNDS + 1  # summaries
    for at in some(calm.points[0], step=3):
        world = stage.live(tmp_path / str(at), at)
        assert_sound(world)
        assert summary(world) == summary(calm)
