"""One question of two thousand tool turns: it fits the window at every turn, and no turn costs more than the others."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from statecraft import Data, Event, Failure, Machine, Run, Runtime, Settings, Status, SummarizeOld, tool
from statecraft.llm import Reply, Request, check_history
from statecraft.llm.compaction import Summary
from statecraft.records import RunRecord, Usage

WINDOW = 16_000
"""Tokens."""
POLICY = SummarizeOld(window=WINDOW, keep_turns=4, summary_tokens=400, model="small")


class Log(Data):
    answer: str = ""


class Answered(Event):
    answer: str


@tool
async def page(number: int) -> str:
    """A page of a long report."""
    return f"Page {number}: " + " ".join(f"{(number * 7919 + each * 104729) % 100_003}" for each in range(60))


def reader(turns: int) -> Machine[Log]:
    machine = Machine("reader", data=Log)

    @machine.state(start=True, tools=[page])
    async def reading(run: Run[Log]) -> Answered:
        return Answered(answer=await run.llm.ask("Read the whole report.", tools=[page], max_turns=turns + 100))

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(reading.on(Answered) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


class Reader:
    """Reads page after page. Counts tokens by the length of what it is sent, and refuses what is longer than its window."""

    model = label = "reader"

    def __init__(self, turns: int, told: Callable[[int], Awaitable[None]]) -> None:
        self.turns, self._told = turns, told
        self.asked: list[int] = []
        """Pages asked for."""
        self.summaries = 0
        self.largest = 0

    async def complete(self, request: Request) -> Reply:
        tokens = len(json.dumps(list(request.messages))) // 4
        self.largest = max(self.largest, tokens)
        check_history(request.messages)
        assert tokens < WINDOW
        if request.output is not None:
            self.summaries += 1
            assert request.model == "small"
            summary = Summary(
                facts=[f"summary {self.summaries}"], decisions=[], open_questions=[], artefacts=[], failed_attempts=[]
            )
            return self._reply({"type": "text", "text": summary.model_dump_json()}, tokens, "end_turn")
        number = _pages(request)
        self.asked.append(number)
        await self._told(number)
        if number == self.turns:
            return self._reply({"type": "text", "text": f"read {number} pages"}, tokens, "end_turn")
        use = {"type": "tool_use", "id": f"toolu_{number}", "name": "page", "input": {"number": number}}
        return self._reply(use, tokens, "tool_use")

    def _reply(self, block: dict[str, Any], tokens: int, stop: str) -> Reply:
        return Reply((block,), stop, Usage(tokens, 20), "reader")

    async def close(self) -> None: ...


def _pages(request: Request) -> int:
    """The next page to read, by what is still to be seen of the last one."""
    for message in reversed(request.messages):
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_result":
                return int(str(block["tool_use_id"]).removeprefix("toolu_")) + 1
    return 0


def pages_of(path: Path) -> int:
    with sqlite3.connect(path) as sql:
        return int(sql.execute("PRAGMA page_count").fetchone()[0])


async def read(path: Path, llm: Reader, machine: Machine[Log]) -> RunRecord:
    async with Runtime(f"sqlite:///{path}", machines=[machine], llm=llm, settings=Settings(context=POLICY)) as runtime:
        run = await runtime.wait((await runtime.start(machine, Log(), key="one")).id)
        assert await runtime._store.verify(bytes.fromhex(run.id)) == []
        assert (await runtime.replay(run.id)).agrees
        return run


async def go_on(number: int) -> None:
    """The model is not told to stop anywhere."""


@pytest.mark.slow
def test_two_thousand_turns_fit_the_window_and_the_last_costs_what_the_first_did(tmp_path: Path) -> None:
    path, sizes = tmp_path / "runs.db", dict[int, int]()

    async def told(number: int) -> None:
        if number % 100 == 0:
            sizes[number] = pages_of(path)

    llm = Reader(2_000, told)
    machine = reader(2_000)
    record = asyncio.run(read(path, llm, machine))
    assert record.status is Status.DONE
    assert llm.asked == list(range(2_001))
    assert llm.summaries > 20
    assert llm.largest < 0.7 * WINDOW
    growth = [sizes[at + 100] - sizes[at] for at in range(100, 2_000, 100)]
    early, late = sum(growth[:4]) / 4, sum(growth[-4:]) / 4
    assert late <= 1.2 * early, growth


@pytest.mark.slow
def test_a_conversation_killed_in_the_middle_asks_for_no_recorded_turn_again(tmp_path: Path) -> None:
    path, machine = tmp_path / "runs.db", reader(300)

    async def scene() -> tuple[Reader, Reader, RunRecord]:
        reached = asyncio.Event()

        async def stop_at(number: int) -> None:
            if number == 200:
                reached.set()
                await asyncio.Event().wait()

        first, second = Reader(300, stop_at), Reader(300, go_on)
        life = asyncio.create_task(read(path, first, machine))
        await reached.wait()
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        return first, second, await read(path, second, machine)

    first, second, record = asyncio.run(scene())
    assert record.status is Status.DONE
    assert first.asked == list(range(201))
    assert second.asked == list(range(200, 301))
    unbroken = Reader(300, go_on)
    asyncio.run(read(tmp_path / "unbroken.db", unbroken, machine))
    assert first.summaries > 0
    assert first.summaries + second.summaries == unbroken.summaries
