"""What a runtime tells about the fleet: beats of workers, what fences refused, budgets and breakers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from statecraft import Budget, Data, Event, Machine, Run, Runtime, Settings, TenantBudget, days, seconds, tool
from statecraft.calls import breaker
from statecraft.stats import Stats
from statecraft.store import open_store, port
from statecraft.testing import ManualClock


class Note(Data):
    text: str = ""


class Stop(Event): ...


@tool(effect="read", price="0.01")
async def look() -> str:
    """Look."""
    return "seen"


def looking(gate: asyncio.Event | None = None) -> Machine[Note]:
    machine = Machine("looking", data=Note)

    @machine.state(start=True, tools=[look])
    async def start(run: Run[Note]) -> Stop:
        await run.tool(look)
        if gate is not None:
            await gate.wait()
        return Stop()

    machine.transitions(start.on(Stop) >> machine.final("end", ok=True))
    return machine


async def told(rt: Runtime) -> Stats:
    """The figures, once all beats that were sent are in the database: writes are applied in order."""
    await rt._store.submit(port.Renew((), 0))
    return await rt.stats()


def test_a_worker_beats_with_its_renewals_and_says_when_it_stops(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"

    async def main() -> None:
        gate, clock = asyncio.Event(), ManualClock()
        machine = looking(gate)
        async with Runtime(url, machines=[machine], clock=clock) as rt:
            run = await rt.start(machine, Note())
            (worker,) = (await told(rt)).workers
            assert (worker.state, worker.held, worker.concurrency, worker.machines) == ("alive", 0, 64, ("looking",))
            await clock.advance(seconds(10))
            (worker,) = (await told(rt)).workers
            assert (worker.state, worker.held) == ("alive", 1)
            gate.set()
            await rt.wait(run.id)
            await clock.advance(seconds(10))
            (worker,) = (await told(rt)).workers
            assert (worker.held, worker.moves) == (0, 1)
        async with Runtime(url, settings=Settings(take="none"), clock=clock) as rt:
            found = await told(rt)
            assert [worker.state for worker in found.workers] == ["stopped"]
            assert found.moves == 1

    asyncio.run(main())


def test_who_takes_no_runs_is_no_worker(tmp_path: Path) -> None:
    async def main() -> None:
        clock = ManualClock()
        async with Runtime(f"sqlite:///{tmp_path}/fleet.db", settings=Settings(take="none"), clock=clock) as rt:
            await clock.advance(seconds(60))
            assert (await told(rt)).workers == ()

    asyncio.run(main())


def test_a_run_taken_over_and_a_write_refused_are_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"

    async def main() -> None:
        gate, clock = asyncio.Event(), ManualClock()
        machine = looking(gate)
        async with Runtime(url, machines=[machine], clock=clock) as old:
            run = await old.start(machine, Note())
            store = open_store(url)
            await store.open()
            await asyncio.sleep(0)
            held = await old.get(run.id)
            raw = bytes.fromhex(run.id)
            taken = await store.submit(port.Claim(raw, "other", clock.now(), clock.now() + 1, held.epoch))
            assert taken.taken_from == held.owner  # type: ignore[attr-defined]
            gate.set()
            await asyncio.gather(*(task for _, task in old._worker._driving.values()))
            await clock.advance(seconds(10))  # the lease of the other is over, and the first takes its run back
            await old.wait(run.id)
            await clock.advance(seconds(10))
            found = await told(old)
            await store.close()
        assert (found.refused, found.taken_over) == (1, 1)

    asyncio.run(main())


@pytest.mark.slow
def test_budgets_of_tenants_are_shown_against_their_limits(tmp_path: Path) -> None:
    async def main() -> None:
        machine = looking()
        daily = TenantBudget(Budget(calls=4, money="0.10"), per=days(1))
        async with Runtime(f"sqlite:///{tmp_path}/fleet.db", machines=[machine], settings=Settings(tenants=(daily,))) as rt:
            for tenant in ("acme", "acme", "zoo"):
                await rt.wait((await rt.start(machine, Note(), tenant=tenant)).id)
            found = (await rt.stats()).budgets
        shown = [(use.tenant, use.unit, use.used, use.limit, use.window) for use in found]
        assert shown == [
            ("acme", "calls", 2, 4, timedelta(days=1)),
            ("zoo", "calls", 1, 4, timedelta(days=1)),
            ("acme", "money", 20_000_000, 100_000_000, timedelta(days=1)),
            ("zoo", "money", 10_000_000, 100_000_000, timedelta(days=1)),
        ]

    asyncio.run(main())


def becoming(state: str) -> Callable[[str | None], tuple[str, object]]:
    return lambda _: (state, None)


def test_breakers_that_workers_share_are_shown_the_open_ones_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with Runtime(f"sqlite:///{tmp_path}/fleet.db", settings=Settings(take="none")) as rt:
            now = rt._clock.now()
            states = {
                "model:a": breaker.Circuit(in_a_row=1),
                "model:b": breaker.Circuit(in_a_row=8, open=True, until=now + 9, pause=9),
                "tool:c": breaker.Circuit(open=True, until=now, pause=9, prober="me", lease=now + 60_000_000),
            }
            for name, circuit in states.items():
                await rt._store.submit(port.Adjust(f"breaker:{name}", becoming(breaker.dump(circuit))))
            found = (await rt.stats()).breakers
        assert [(each.dependency, each.state, each.failures) for each in found] == [
            ("model:b", "open", 8),
            ("tool:c", "probing", 0),
            ("model:a", "closed", 1),
        ]

    asyncio.run(main())
