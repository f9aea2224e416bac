"""What the call stack costs: CPU per call beyond writing its journal row, and a thousand calls in flight at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace

from statecraft import Budget, CallInfo, Data, Event, GatePolicy, Machine, RateLimit, Run, Runtime, Settings, seconds, tool
from statecraft.records import Status
from statecraft.store import chain, open_store, port

CALLS = 2_000
SIDE_BY_SIDE = 50
AT_ONCE = 1_000


class Asked(Data):
    calls: int


class Answered(Event):
    seen: int


EVERYTHING = Settings(
    gate=GatePolicy(max_auto_risk="medium"),
    limits=(RateLimit(of="tool", requests=10_000_000, per=seconds(1)),),
    take="own",
)
"""Every member of the stack is on, and nothing limits."""
NOTHING = Settings(breaker=None, take="own")


@tool(effect="idempotent", risk="low", price="0.000001")
async def touch(info: CallInfo, n: int) -> int:
    """Do nothing."""
    return n if info.key else -1


def calling(budget: Budget | None, begun: list[float]) -> Machine[Asked]:
    """One state that calls `touch` as often as the data says, `SIDE_BY_SIDE` calls at a time."""
    machine = Machine("calling", data=Asked, budget=budget)

    @machine.state(start=True, tools=[touch])
    async def calls(run: Run[Asked]) -> Answered:
        begun[:] = [time.perf_counter(), time.process_time()]
        seen = await run.map(lambda n: run.tool(touch, n), range(run.data.calls), concurrency=SIDE_BY_SIDE)
        begun.append(time.process_time())
        return Answered(seen=len(seen))

    end = machine.final("end", ok=True)
    machine.transitions(calls.on(Answered) >> end)
    return machine


def stacked(settings: Settings, budget: Budget | None) -> float:
    """Microseconds of CPU a call through the whole engine, its journal row included."""

    async def go(folder: str) -> float:
        begun: list[float] = []
        machine = calling(budget, begun)
        async with Runtime(f"sqlite:///{folder}/calls.db", machines=[machine], settings=settings) as runtime:
            run = await runtime.start(machine, Asked(calls=CALLS))
            run = await runtime.wait(run.id)
            assert run.status is Status.DONE, run
            return (begun[2] - begun[1]) / CALLS * 1e6

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(go(folder))


def journaled() -> float:
    """Microseconds of CPU to write the same journal rows and nothing else, as many at a time."""

    async def go(folder: str) -> float:
        url, begun = f"sqlite:///{folder}/rows.db", list[float]()
        machine = calling(None, begun)
        async with Runtime(url, machines=[machine], settings=NOTHING) as runtime:
            run = await runtime.start(machine, Asked(calls=1))
            await runtime.wait(run.id)
            (model,) = await runtime.calls(run.id)
            other = await runtime.start(machine, Asked(calls=0), detach=True)
        store = open_store(url)
        await store.open()
        await store.submit(port.Claim(bytes.fromhex(other.id), "bench", 1, 10**15))
        rows = [_row(bytes.fromhex(other.id), idx, model.name) for idx in range(CALLS)]
        before = time.process_time()
        for start in range(0, CALLS, SIDE_BY_SIDE):
            await asyncio.gather(*(store.submit(row) for row in rows[start : start + SIDE_BY_SIDE]))
        spent = time.process_time() - before
        await store.close()
        return spent / CALLS * 1e6

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(go(folder))


def _row(run_id: bytes, idx: int, name: str) -> port.Call:
    request = json.dumps({"arguments": {"n": idx}, "tool": name}, separators=(",", ":"))
    digest = hashlib.sha256(request.encode()).digest()
    blank = port.Call(
        run_id, 0, idx, 1, "tool", name, digest, 0, True, request, str(idx), 1, 1, 1, 0, 0, None, hash=b"0" * 32
    )  # fmt: skip
    return replace(blank, hash=chain.call_hash(blank))


@dataclass(frozen=True)
class Crowd:
    """A thousand calls in flight at the same moment in one process."""

    most: int
    """Calls that were in flight together."""
    seconds: float
    """From the first call to the last recorded answer."""


def crowd() -> Crowd:
    """No call is answered before all of them are in flight."""
    inside, most = 0, 0
    all_in = asyncio.Event()

    @tool(effect="idempotent", risk="low", timeout=seconds(60))
    async def wait(info: CallInfo, n: int) -> int:
        """Wait for the others."""
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == AT_ONCE:
            all_in.set()
        await all_in.wait()
        inside -= 1
        return n if info.key else -1

    machine = Machine("crowd", data=Asked, budget=Budget(calls=10 * AT_ONCE))

    @machine.state(start=True, tools=[wait])
    async def calls(run: Run[Asked]) -> Answered:
        return Answered(seen=len(await run.gather(*(run.tool(wait, n) for n in range(run.data.calls)))))

    end = machine.final("end", ok=True)
    machine.transitions(calls.on(Answered) >> end)

    async def go(folder: str) -> Crowd:
        async with Runtime(f"sqlite:///{folder}/crowd.db", machines=[machine], settings=EVERYTHING) as runtime:
            begun = time.perf_counter()
            run = await runtime.start(machine, Asked(calls=AT_ONCE))
            run = await runtime.wait(run.id)
            assert run.status is Status.DONE, run
            assert len(await runtime.calls(run.id)) == AT_ONCE
            return Crowd(most, time.perf_counter() - begun)

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(go(folder))


def stack_cost(turns: int) -> tuple[float, float, float]:
    """(all members on, bare stack, journal row alone), each in microseconds of CPU a call; medians of turns taken in turn."""
    rounds = [
        (stacked(EVERYTHING, Budget(tokens=10**12, money=10**6, calls=10**9)), stacked(NOTHING, None), journaled())
        for _ in range(turns)
    ]
    everything, bare, rows = (statistics.median(each[i] for each in rounds) for i in range(3))
    return everything, bare, rows
