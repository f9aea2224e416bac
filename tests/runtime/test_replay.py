"""Replay: today's code against the record, and the first thing that differs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from statecraft import Ask, Data, Event, Failure, Machine, Replay, ReviewExpired, Run, Runtime, minutes, tool
from statecraft.llm.scripted import ScriptedLLM
from statecraft.testing import ManualClock


class Sum(Data):
    question: str
    answer: str = ""


class Answered(Event):
    answer: str


class Fine(Event): ...


@tool(effect="read")
async def shout(text: str) -> str:
    """In capitals."""
    return text.upper()


Handler = Callable[[Run[Sum]], Awaitable[Answered]]


async def first_code(run: Run[Sum]) -> Answered:
    loud = await run.tool(shout, run.data.question)
    said = await run.llm.ask(f"Answer {loud}")
    return Answered(answer=said)


def machine_with(handler: Handler, question: str = "Publish?", short: int = 100) -> Machine[Sum]:
    """Answers, asks a person if the answer is long, ends."""
    machine = Machine("sum", data=Sum)

    @machine.state(start=True, tools=[shout])
    async def answering(run: Run[Sum]) -> Answered:
        return await handler(run)

    @machine.review(timeout=minutes(5))
    async def asking(run: Run[Sum]) -> Ask[Fine]:
        return Ask(question, show=run.data.answer)

    done, failed = machine.final("done", ok=True), machine.final("failed")

    def is_short(event: Answered, data: Sum) -> bool:
        return len(event.answer) < short

    machine.transitions(
        answering.on(Answered.when(is_short)) >> done,
        answering.on(Answered) >> asking,
        asking.on(Fine) >> done,
        asking.on(ReviewExpired) >> failed,
        machine.anywhere.on(Failure) >> failed,
    )
    return machine


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


def record_then_replay(url: str, recorded: Machine[Sum], today: Machine[Sum]) -> Replay:
    """Run `recorded` to its end, then replay it with `today`, with a model that must not be asked."""

    async def go() -> Replay:
        model = ScriptedLLM(["four"])
        async with Runtime(url, machines=[recorded], llm=model) as runtime:
            run = await runtime.wait((await runtime.start(recorded, Sum(question="2+2"))).id)
            if not run.status.closed:
                await runtime.send(run.id, Fine(), by="ann")
                await runtime.wait(run.id)
        untouched = ScriptedLLM([])
        async with Runtime(url, machines=[today], llm=untouched, clock=ManualClock()) as runtime:
            result = await runtime.replay(run.id)
            assert len(await runtime.calls(run.id)) == 2
            assert len(untouched.requests) == 0
            return result

    return asyncio.run(go())


def test_unchanged_code_agrees_with_its_record(url: str) -> None:
    result = record_then_replay(url, machine_with(first_code), machine_with(first_code))
    assert result.agrees
    assert (result.steps, result.calls) == (1, 2)


def test_a_run_through_a_review_agrees_too(url: str) -> None:
    result = record_then_replay(url, machine_with(first_code, short=0), machine_with(first_code, short=0))
    assert result.agrees
    assert result.steps == 2


def test_an_edited_prompt_is_reported_as_the_first_differing_call(url: str) -> None:
    async def edited(run: Run[Sum]) -> Answered:
        loud = await run.tool(shout, run.data.question)
        return Answered(answer=await run.llm.ask(f"Kindly answer {loud}"))

    found = record_then_replay(url, machine_with(first_code), machine_with(edited)).divergence
    assert found is not None
    assert (found.seq, found.state, found.call) == (0, "answering", 1)
    assert "Answer 2+2" in found.recorded
    assert "Kindly answer 2+2" in found.actual


def test_a_dropped_call_is_reported(url: str) -> None:
    async def edited(run: Run[Sum]) -> Answered:
        return Answered(answer=await run.llm.ask("Answer 2+2"))

    found = record_then_replay(url, machine_with(first_code), machine_with(edited)).divergence
    assert found is not None
    assert found.call == 0
    assert "tool shout) was not made" in found.what


def test_a_different_answer_is_reported(url: str) -> None:
    async def edited(run: Run[Sum]) -> Answered:
        return Answered(answer=(await first_code(run)).answer + "!")

    found = record_then_replay(url, machine_with(first_code), machine_with(edited)).divergence
    assert found is not None
    assert ("four" in found.recorded, "four!" in found.actual) == (True, True)


def test_a_changed_guard_is_reported_as_a_different_move(url: str) -> None:
    found = record_then_replay(url, machine_with(first_code), machine_with(first_code, short=0)).divergence
    assert found is not None
    assert (found.what, found.recorded, found.actual) == ("answered leads elsewhere", "done", "asking")


def test_a_changed_question_is_reported(url: str) -> None:
    today = machine_with(first_code, question="Really publish?", short=0)
    found = record_then_replay(url, machine_with(first_code, short=0), today).divergence
    assert found is not None
    assert "Really publish?" in found.actual


def test_a_handler_cannot_hide_a_divergence(url: str) -> None:
    async def edited(run: Run[Sum]) -> Answered:
        with contextlib.suppress(Exception):
            await run.tool(shout, "something else")
        return await first_code(run)

    found = record_then_replay(url, machine_with(first_code), machine_with(edited)).divergence
    assert found is not None
    assert "something else" in found.actual
