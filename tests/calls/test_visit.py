"""The journal of a visit when the store refuses, and when the handler is cancelled while a result is being written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest

from statecraft.calls import classify, stack
from statecraft.calls.call import Call, Reply
from statecraft.calls.retry import RetryPolicy
from statecraft.calls.visit import Visit
from statecraft.clock import instant
from statecraft.errors import CallError, ErrorKind, StoreFull
from statecraft.records import CallRecord
from statecraft.store import port
from statecraft.testing import ManualClock

THROUGH = stack.build(RetryPolicy(), lambda: 0.0)


@dataclass
class Slow:
    """A store that answers when it is told to."""

    rows: list[port.Call] = field(default_factory=list)
    gates: list[asyncio.Future[None]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def submit(self, write: object) -> None:
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        self.arrived.set()
        await gate
        assert isinstance(write, port.Call)
        self.rows.append(write)


def call_on(visit: Visit, request: str, made: list[str]) -> Call:
    async def perform(call: Call) -> Reply:
        made.append(request)
        return Reply('"answer"')

    digest, occurrence, key = visit.identify("tool", request)
    return Call(visit, "tool", "t", request, digest, occurrence, key, perform, classify.of_tool)


def visit_on(store: Slow) -> Visit:
    return Visit(cast(port.Store, store), ManualClock(), bytes(16), 1, 1)


def test_a_cancelled_handler_waits_until_the_fate_of_its_row_is_known() -> None:
    async def go() -> None:
        store = Slow()
        visit = visit_on(store)
        running = asyncio.ensure_future(THROUGH(call_on(visit, "1", [])))
        await store.arrived.wait()
        running.cancel()
        await asyncio.sleep(0)
        assert not running.done()
        store.gates[0].set_result(None)
        with pytest.raises(asyncio.CancelledError):
            await running
        assert visit.hashes == [row.hash for row in store.rows]
        assert visit.over is None

    asyncio.run(go())


def test_a_row_that_is_refused_while_its_handler_is_cancelled_ends_the_visit() -> None:
    async def go() -> None:
        store = Slow()
        visit = visit_on(store)
        running = asyncio.ensure_future(THROUGH(call_on(visit, "1", [])))
        await store.arrived.wait()
        running.cancel()
        await asyncio.sleep(0)
        store.gates[0].set_exception(StoreFull("no space"))
        with pytest.raises(StoreFull):
            await running
        assert isinstance(visit.over, StoreFull)

    asyncio.run(go())


def test_after_a_refusal_nothing_more_is_asked_or_written_in_the_visit() -> None:
    async def go() -> None:
        store, made = Slow(), list[str]()
        visit = visit_on(store)
        running = asyncio.ensure_future(THROUGH(call_on(visit, "1", made)))
        await store.arrived.wait()
        store.gates[0].set_exception(StoreFull("no space"))
        with pytest.raises(StoreFull):
            await running
        with pytest.raises(StoreFull):
            await THROUGH(call_on(visit, "2", made))
        assert made == ["1"]
        assert len(store.gates) == 1

    asyncio.run(go())


def test_a_gap_left_by_a_refused_row_is_filled_by_the_next_call() -> None:
    async def go() -> None:
        store = Slow()
        visit = visit_on(store)
        both = [asyncio.ensure_future(THROUGH(call_on(visit, request, []))) for request in ("1", "2")]
        while len(store.gates) < 2:
            await asyncio.sleep(0)
        store.gates[0].set_exception(StoreFull("no space"))
        store.gates[1].set_result(None)
        await asyncio.wait(both)
        assert [row.idx for row in store.rows] == [1]
        for task in both:
            task.exception()

        again = Visit.reopened(visit_on(store), [record_of(row) for row in store.rows], [row.hash for row in store.rows], [])
        for n, request in enumerate(("1", "3")):
            store.arrived.clear()
            running = asyncio.ensure_future(THROUGH(call_on(again, request, [])))
            await store.arrived.wait()
            store.gates[2 + n].set_result(None)
            await running
        in_order = sorted(store.rows, key=lambda row: row.idx)
        assert [row.idx for row in in_order] == [0, 1, 2]
        assert again.hashes == [row.hash for row in in_order]

    asyncio.run(go())


def record_of(row: port.Call) -> CallRecord:
    return CallRecord(
        run_id=row.run_id.hex(),
        seq=row.seq,
        idx=row.idx,
        kind=row.kind,
        name=row.name,
        digest=row.digest.hex(),
        occurrence=row.occurrence,
        ok=row.ok,
        request=row.request,
        result="answer",
        attempts=row.attempts,
        started_at=instant(row.started_at),
        finished_at=instant(row.finished_at),
        epoch=row.epoch,
    )


@dataclass
class Prompt:
    """A store that takes everything."""

    rows: list[object] = field(default_factory=list)

    async def submit(self, write: object) -> None:
        self.rows.append(write)


def failure_of(error: BaseException) -> CallError:
    """How a tool fails that raises this."""

    async def go() -> CallError:
        visit = Visit(cast(port.Store, Prompt()), ManualClock(), bytes(16), 1, 1)

        async def perform(call: Call) -> Reply:
            raise error

        digest, occurrence, key = visit.identify("tool", "1")
        call = Call(
            visit, "tool", "t", "1", digest, occurrence, key, perform, classify.of_tool, timeout=timedelta(1).total_seconds()
        )
        with pytest.raises(CallError) as caught:
            await THROUGH(call)
        return caught.value

    return asyncio.run(go())


def test_a_tool_that_cancels_itself_has_failed() -> None:
    failure = failure_of(asyncio.CancelledError())
    assert (failure.kind, "cancelled itself" in failure.message) == (ErrorKind.TOOL, True)


def test_a_tool_whose_own_database_is_full_has_failed_and_does_not_stop_the_run() -> None:
    assert failure_of(StoreFull("the tool's own disk")).kind is ErrorKind.TOOL


def test_a_message_with_broken_characters_can_be_recorded() -> None:
    assert failure_of(ValueError("\ud800")).message == "ValueError: ?"
