"""A handler that asks the model eight times, with a process that dies at every commit: what was answered is never asked again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from statecraft import Append, Data, Event, Machine, Run
from statecraft.llm.port import Request
from statecraft.records import Status
from statecraft.testing import ScriptedLLM
from tests.engine.dying import World, lives


class Sheet(Data):
    answers: Append[list[str]] = []


class Filled(Event):
    answers: list[str]


Place = World[Sheet]
FORWARDS = tuple(range(8))


def quiz(order: tuple[int, ...]) -> Machine[Sheet]:
    """Asks question 0 to 7, one after another in the given order; answers them by question."""
    machine = Machine("quiz", data=Sheet)

    @machine.state(start=True)
    async def asking(run: Run[Sheet]) -> Filled:
        heard = {number: await run.llm.ask(f"question {number}") for number in order}
        return Filled(answers=[heard[number] for number in sorted(heard)])

    done = machine.final("done", ok=True)
    machine.transitions(asking.on(Filled) >> done)
    return machine


def model(world: Place) -> ScriptedLLM:
    """Never says the same twice: each reply carries how many were given before, in all lives."""

    def answer(request: Request) -> str:
        question = str(request.messages[-1]["content"])
        world.effects.append((world.life, question))
        return f"{question}, answer {len(world.effects)}"

    return ScriptedLLM(answer)


def new(folder: Path, order: tuple[int, ...] = FORWARDS) -> Place:
    folder.mkdir()
    return World(folder, quiz(order), Sheet(), llm=model)


def answers(world: Place) -> list[str]:
    """What the run ended with: the answers in the order of the questions."""
    ((payload,),) = world.ask("SELECT payload FROM transitions WHERE event = 'filled'")
    return list(json.loads(payload)["answers"])


@pytest.mark.slow
def test_a_process_that_dies_at_any_commit_asks_at_most_the_question_in_flight_again(tmp_path: Path) -> None:
    calm = new(tmp_path / "calm")
    lives(calm, [])
    assert len(calm.effects) == 8
    asked, lost = Counter[int](), set[str]()
    for at in range(calm.points[0]):
        world = new(tmp_path / str(at))
        ended = lives(world, [at])
        assert ended.status is Status.DONE
        repeated = {question: times for question, times in Counter(name for _, name in world.effects).items() if times > 1}
        assert len(repeated) <= 1
        assert len(world.effects) == 8 + len(repeated)
        lost.update(repeated.keys())
        asked[len(world.effects)] += 1
    # A process that dies just before the commit of an answer loses it. (Which commit an answer shares with other writes,
    # such as a claim, is a matter of timing, so not every question need be lost once: on a slow machine, half of them were.)
    assert len(lost) >= 3
    assert asked.keys() == {8, 9}


@pytest.mark.slow
def test_two_calls_that_change_places_in_the_source_keep_their_answers(tmp_path: Path) -> None:
    calm = new(tmp_path / "calm")
    lives(calm, [])
    swapped = (0, 1, 5, 3, 4, 2, 6, 7)
    kept = 0
    for at in range(calm.points[0]):
        world = new(tmp_path / str(at))
        if world.live(at) is not None:
            continue
        known: dict[str, str] = dict(world.ask("SELECT hex(digest), result FROM calls")) if world.ask(TABLES) else {}
        world.machine = quiz(swapped)
        ended = world.live()
        assert ended is not None
        assert ended.status is Status.DONE
        after: dict[str, str] = dict(world.ask("SELECT hex(digest), result FROM calls"))
        assert known.items() <= after.items()
        assert [answer.split(",")[0] for answer in answers(world)] == [f"question {number}" for number in range(8)]
        kept = max(kept, len(known))
    assert kept == 8


TABLES = "SELECT 1 FROM sqlite_master WHERE name = 'calls'"
