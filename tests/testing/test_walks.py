"""Random walks: a sound machine passes, and what is wrong with one is found."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from dataclasses import replace
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import BaseModel, BeforeValidator

from statecraft import Append, Ask, Data, Event, Failure, Machine, Run, RunRecord, Runtime, VisitsExhausted, days
from statecraft.errors import ConfigError
from statecraft.testing import state_machine_of
from statecraft.testing.playing import Play


class Line(BaseModel):
    words: list[str]
    weight: float = 1.0


class Text(Data):
    lines: Append[list[Line]] = []
    stars: int = 0


class Written(Event):
    lines: list[Line]


class Judged(Event):
    stars: int


class Again(Event):
    reason: str = ""


def is_good(judged: Judged, _text: Text) -> bool:
    return judged.stars > 3


def writer(data: type[Text] = Text) -> Machine[Any]:
    machine = Machine("writer", data=data, max_steps=12)

    @machine.state(start=True, max_visits=3)
    async def writing(run: Run[Text]) -> Written:
        raise AssertionError("a walk calls no handler of the machine's own")

    @machine.review(timeout=days(1))
    async def judging(run: Run[Text]) -> Ask[Judged | Again]:
        raise AssertionError("a walk calls no handler of the machine's own")

    printed, dropped = machine.final("printed", ok=True), machine.final("dropped")
    machine.transitions(
        writing.on(Written) >> judging,
        writing.on(VisitsExhausted) >> dropped,
        judging.on(Judged.when(is_good)) >> printed,
        judging.on(Judged) >> writing,
        judging.on(Again) >> writing,
        machine.anywhere.on(Failure) >> dropped,
    )
    return machine


def walk(machine: Machine[Any], *, runs: int = 15, **options: Any) -> None:
    kind = state_machine_of(machine, **options)
    limits = settings(
        max_examples=runs,
        stateful_step_count=8,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(kind, settings=limits)


@pytest.mark.slow
def test_a_few_random_walks_of_a_sound_machine_find_nothing() -> None:
    walk(writer(), runs=4, input=Text())


@pytest.mark.slow
def test_many_random_walks_of_a_sound_machine_find_nothing() -> None:
    walk(writer(), runs=40)


def test_its_settings_have_defaults_and_can_be_replaced() -> None:
    case = state_machine_of(writer()).TestCase
    assert (case.settings.max_examples, case.settings.stateful_step_count) == (50, 20)
    case.settings = settings(case.settings, max_examples=7)
    assert state_machine_of(writer()).TestCase.settings.max_examples == 50


@pytest.mark.slow
def test_examples_are_drawn_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    honest = Play.answer

    async def answer(play: Play, event: Event | Exception) -> None:
        seen.append(event)
        await honest(play, event)

    monkeypatch.setattr(Play, "answer", answer)
    marked = Written(lines=[Line(words=["only in the examples"])])
    walk(writer(), runs=6, input=Text(), examples=[marked])
    assert marked in seen


@pytest.mark.slow
def test_payloads_that_read_back_otherwise_are_found() -> None:
    class Drifting(Event):
        stars: Annotated[int, BeforeValidator(lambda stars: stars + 1)]

    machine = Machine("drifting", data=Text)

    @machine.state(start=True)
    async def judging(run: Run[Text]) -> Drifting:
        raise AssertionError

    good = machine.final("good", ok=True)
    machine.transitions(judging.on(Drifting) >> good, machine.anywhere.on(Failure) >> machine.final("bad"))
    with pytest.raises(AssertionError, match="the journal folds to"):
        walk(machine, input=Text())


@pytest.mark.slow
def test_a_guard_that_answers_as_it_likes_is_found() -> None:
    asked: list[int] = []

    def is_lucky(_judged: Judged, _text: Text) -> bool:
        asked.append(1)
        return len(asked) % 2 == 0

    machine = Machine("lucky", data=Text)

    @machine.state(start=True)
    async def judging(run: Run[Text]) -> Judged:
        raise AssertionError

    good, bad = machine.final("good", ok=True), machine.final("bad")
    machine.transitions(judging.on(Judged.when(is_lucky)) >> good, judging.on(Judged) >> bad, machine.anywhere.on(Failure) >> bad)
    with pytest.raises(AssertionError, match="should have led from judging"):
        walk(machine, input=Text())


@pytest.mark.slow
def test_an_engine_that_takes_what_it_must_refuse_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(runtime: Runtime, run_id: str, _event: Event, *, by: str) -> RunRecord:
        return await runtime.get(run_id)

    monkeypatch.setattr(Runtime, "send", send)
    with pytest.raises(AssertionError, match=r"took .*, for which it does not wait"):
        walk(writer(), input=Text())


@pytest.mark.slow
def test_a_bound_that_does_not_hold_is_found() -> None:
    definition = writer().definition
    unbounded = {name: replace(state, max_visits=None) for name, state in definition.states.items()}
    play = Play(replace(definition, states=unbounded), Text())

    async def go_round() -> None:
        await play.begin()
        for _ in range(4):
            await play.answer(Written(lines=[]))
            await play.answer(Again())
        play.definition = replace(play.definition, states=definition.states)
        try:
            await play.sound()
        finally:
            await play.end()

    with closing(play.ground), pytest.raises(AssertionError, match="writing was visited 5 times, where 3 is the most"):
        asyncio.run(go_round())


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ConfigError, match="state_machine_of needs Hypothesis: pip install hypothesis"):
        state_machine_of(writer())
