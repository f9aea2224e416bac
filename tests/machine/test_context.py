"""A handler is tested with a fake run of a few lines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from statecraft.machine.context import Run
from statecraft.machine.data import Data


class Question(Data):
    text: str


class Parrot:
    async def ask(self, prompt: Any, *, output: type[Any] = str, **settings: Any) -> Any:
        return output(prompt)


class FakeRun(Run[Question]):
    def __init__(self, text: str) -> None:
        self.data = Question(text=text)
        self.llm = Parrot()
        self.slept: list[timedelta | float] = []

    async def sleep(self, duration: timedelta | float) -> None:
        self.slept.append(duration)


async def handler(run: Run[Question]) -> int:
    await run.sleep(3)
    return await run.llm.ask(run.data.text, output=int)


def test_a_fake_overrides_what_its_handler_needs() -> None:
    run = FakeRun("42")
    assert asyncio.run(handler(run)) == 42
    assert run.slept == [3]


CALLS: dict[str, Callable[[Run[Question]], Awaitable[object]]] = {
    "gather": lambda run: run.gather(),
    "random": lambda run: run.random(),
    "now": lambda run: run.now(),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_a_fake_leaves_out_says_so(name: str) -> None:
    async def call() -> object:
        return await CALLS[name](FakeRun("x"))

    with pytest.raises(NotImplementedError):
        asyncio.run(call())
