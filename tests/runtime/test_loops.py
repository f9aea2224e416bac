"""A run that goes round in circles is noticed; one that gets anywhere, or waits for the world, is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import (
    Append,
    Data,
    Event,
    Failure,
    LoopDetected,
    LoopPolicy,
    Machine,
    Run,
    Runtime,
    Settings,
    Status,
    StepsExhausted,
    tool,
)
from statecraft.llm import ScriptedLLM
from statecraft.records import RunRecord, TransitionRecord
from statecraft.testing import ManualClock

POLICY = LoopPolicy(moves=4, moves_within=12)


class Note(Data):
    number: int = 0
    seen: Append[list[int]] = []


class Again(Event):
    number: int = 0


class Seen(Event):
    seen: list[int]


class Over(Event): ...


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


Work = Callable[[Run[Note]], Awaitable[Again | Seen | Over]]


def circling(work: Work, *, rows: bool = True, tools: Any = ()) -> Machine[Note]:
    """A state that leads to itself until it says `Over`, at most 30 times."""
    machine = Machine("circling", data=Note, max_steps=30)

    @machine.state(start=True, tools=tools)
    async def turning(run: Run[Note]) -> Again | Seen | Over:
        return await work(run)

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(
        turning.on(Again) >> turning,
        turning.on(Seen) >> turning,
        turning.on(Over) >> done,
        machine.anywhere.on(StepsExhausted) >> failed,
        *([machine.anywhere.on(LoopDetected) >> machine.final("looped")] if rows else []),
    )
    return machine


Story = tuple[RunRecord, list[TransitionRecord]]


def play(url: str, machine: Machine[Note], policy: LoopPolicy | None = POLICY, **more: Any) -> Story:
    async def scene() -> Story:
        async with Runtime(url, machines=[machine], settings=Settings(loops=policy), **more) as runtime:
            run = await runtime.start(machine, Note())
            record = await runtime.wait(run.id, timeout=timedelta(seconds=60))
            agrees = await runtime.replay(run.id)
            assert agrees.agrees or record.status is Status.DEAD, agrees.divergence
            return record, await runtime.history(run.id)

    return asyncio.run(scene())


async def again(run: Run[Note]) -> Again:
    return Again()


def test_the_same_move_over_and_over_is_a_loop(url: str) -> None:
    record, history = play(url, circling(again))
    assert record.state == "looped"
    assert [move.event for move in history[1:]] == ["again"] * 3 + ["loop_detected"]
    assert history[-1].payload["what"] == "moves"
    assert "turning answered again 4 times within 12 moves" in str(history[-1].payload["message"])


def test_where_no_row_takes_it_the_run_is_dead_with_a_diagnosis(url: str) -> None:
    record, _ = play(url, circling(again, rows=False))
    assert record.status is Status.DEAD
    assert "loop_detected in turning has no row: turning answered again 4 times" in str(record.reason)


def test_without_a_policy_only_the_other_bounds_end_it(url: str) -> None:
    assert play(url, circling(again), None)[0].state == "failed"


def test_moves_may_be_left_to_the_other_bounds_alone(url: str) -> None:
    assert play(url, circling(again), LoopPolicy(moves=None))[0].state == "failed"


def test_by_default_ten_equal_moves_are_a_loop(url: str) -> None:
    _, history = play(url, circling(again), LoopPolicy())
    assert len(history) == 1 + 10


@pytest.mark.slow
def test_a_run_whose_data_changes_gets_somewhere(url: str) -> None:
    async def counting(run: Run[Note]) -> Again | Over:
        return Again(number=run.data.number + 1) if run.data.number < 20 else Over()

    async def gathering(run: Run[Note]) -> Seen | Over:
        return Seen(seen=[7]) if len(run.data.seen) < 20 else Over()

    assert play(url, circling(counting))[0].state == "done"
    assert play(url, circling(gathering))[0].state == "done"


def test_data_that_swings_to_and_fro_is_a_loop(url: str) -> None:
    async def swinging(run: Run[Note]) -> Again:
        return Again(number=1 - run.data.number)

    record, history = play(url, circling(swinging))
    assert record.state == "looped"
    assert len(history) == 8


def test_a_loop_that_begins_late_is_noticed_a_little_later(url: str) -> None:
    async def stuck(run: Run[Note]) -> Again:
        return Again(number=min(8, run.data.number + 1))

    record, history = play(url, circling(stuck))
    assert record.state == "looped"
    assert len(history) <= 8 + POLICY.moves_within + 4


def test_two_states_that_send_a_run_to_each_other_are_a_loop(url: str) -> None:
    machine = Machine("pingpong", data=Note, max_steps=30)

    @machine.state(start=True)
    async def ping(run: Run[Note]) -> Again:
        return Again()

    @machine.state()
    async def pong(run: Run[Note]) -> Again:
        return Again()

    failed, looped = machine.final("failed"), machine.final("looped")
    rows = [machine.anywhere.on(LoopDetected) >> looped, machine.anywhere.on(Failure) >> failed]
    machine.transitions(ping.on(Again) >> pong, pong.on(Again) >> ping, *rows)
    record, history = play(url, machine)
    assert (record.state, len(history)) == ("looped", 8)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 3600])
def test_a_visit_that_slept_is_not_counted(url: str, seconds: int) -> None:
    async def polling(run: Run[Note]) -> Again | Over:
        await run.sleep(seconds)
        return Again() if run.step < 12 else Over()

    async def scene() -> RunRecord:
        clock, machine = ManualClock(), circling(polling)
        async with Runtime(url, machines=[machine], settings=Settings(loops=POLICY), clock=clock) as runtime:
            run = await runtime.start(machine, Note())
            waiting = asyncio.ensure_future(runtime.wait(run.id))
            while not waiting.done():
                await clock.advance(timedelta(seconds=seconds))
                await asyncio.wait([waiting], timeout=0.001)
            return waiting.result()

    assert asyncio.run(asyncio.wait_for(scene(), 30)).state == "done"


def test_a_tool_that_answers_something_new_gets_somewhere(url: str) -> None:
    left = 12

    @tool(effect="idempotent")
    async def take() -> int:
        """The next thing in a queue outside."""
        nonlocal left
        left -= 1
        return left

    async def consuming(run: Run[Note]) -> Again | Over:
        return Again() if await run.tool(take) else Over()

    assert play(url, circling(consuming, tools=[take]))[0].state == "done"


def test_a_tool_that_answers_the_same_does_not(url: str) -> None:
    @tool
    async def look() -> str:
        """Nothing new."""
        return "nothing"

    async def looking(run: Run[Note]) -> Again:
        await run.tool(look)
        return Again()

    assert play(url, circling(looking, tools=[look]))[0].state == "looped"


def test_a_model_that_says_the_same_in_other_words_does_not_either(url: str) -> None:
    async def thinking(run: Run[Note]) -> Again:
        await run.llm.ask("Shall we go on?")
        return Again()

    llm = ScriptedLLM([f"once more {number}" for number in range(9)])
    assert play(url, circling(thinking), llm=llm)[0].state == "looped"


@pytest.mark.slow
def test_it_speaks_once_per_run(url: str) -> None:
    machine = Machine("stubborn", data=Note, max_steps=30)

    @machine.state(start=True)
    async def turning(run: Run[Note]) -> Again:
        return Again()

    failed = machine.final("failed")
    machine.transitions(
        turning.on(Again) >> turning, turning.on(LoopDetected) >> turning, machine.anywhere.on(StepsExhausted) >> failed
    )
    record, history = play(url, machine)
    assert record.state == "failed"
    assert [move.event for move in history].count("loop_detected") == 1


def test_data_that_cannot_be_compared_is_no_loop(url: str) -> None:
    class Odd(Note):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not comparable")

        __hash__ = None  # type: ignore[assignment]

    machine = Machine("odd", data=Odd, max_steps=30)

    @machine.state(start=True)
    async def turning(run: Run[Odd]) -> Again:
        return Again()

    failed, looped = machine.final("failed"), machine.final("looped")
    rows = [machine.anywhere.on(LoopDetected) >> looped, machine.anywhere.on(StepsExhausted) >> failed]
    machine.transitions(turning.on(Again) >> turning, *rows)

    async def scene() -> RunRecord:
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.start(machine, Odd())
            return await runtime.wait(run.id, timeout=timedelta(seconds=60))

    assert asyncio.run(scene()).state == "looped", "the fields are compared, not the model"
