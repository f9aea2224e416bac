"""A run that takes its holders down is given up; one that only waits long never is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from statecraft import Event, Machine, Run, Settings, tool
from statecraft.calls.retry import RetryPolicy
from statecraft.errors import ErrorKind
from tests.dead.plant import LONG, Bought, Order, Plant, play
from tests.engine.dying import SETTINGS, World


class More(Event): ...


@pytest.mark.slow
def test_the_fifth_claim_without_a_move_ends_the_run_and_no_handler_is_called(tmp_path: Path) -> None:
    machine = Machine("deadly", data=Order)
    world = World(tmp_path, machine, Order(), settings=replace(SETTINGS, poison=5))
    crushed: list[int] = []

    @machine.state(start=True)
    async def begin(run: Run[Order]) -> More:
        return More()

    @machine.state()
    async def work(run: Run[Order]) -> Bought:
        crushed.append(world.life)
        assert world.probe is not None
        world.probe.die()
        await asyncio.Event().wait()
        return Bought()

    machine.transitions(begin.on(More) >> work, work.on(Bought) >> machine.final("done", ok=True))
    for claims in range(5):
        assert world.live() is None
        assert world.ask("SELECT status, state, attempts FROM runs") == [("running", "work", claims)]
    ended = world.live()
    assert ended is not None
    assert (ended.status, ended.attempts, crushed) == ("dead", 5, [0, 1, 2, 3, 4])
    assert "claimed 5 times" in str(ended.reason)
    assert world.ask("SELECT state, error, call FROM deaths") == [("work", "Poison", None)]
    world.sound()


def test_waking_often_only_to_wait_again_is_no_poison(tmp_path: Path) -> None:
    machine = Machine("patient", data=Order)
    calls: list[int] = []

    @tool(effect="idempotent")
    async def busy() -> str:
        """Busy twelve times."""
        calls.append(1)
        if len(calls) < 12:
            raise ConnectionError("busy")
        return "yes"

    @machine.state(start=True, tools=[busy])
    async def work(run: Run[Order]) -> Bought:
        return Bought(said=[await run.tool(busy)])

    machine.transitions(work.on(Bought) >> machine.final("done", ok=True))
    policy = RetryPolicy(attempts={ErrorKind.TRANSIENT: 200}, first=100.0, cap=100.0, park_after=0.0)
    plant = Plant(tmp_path, settings=Settings(lease=LONG, poll=LONG, retry=policy, breaker=None))

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await rt.start(machine, Order())
            most = 0
            while not run.status.closed:
                changed = rt._worker.changing(bytes.fromhex(run.id))
                run = await rt.get(run.id)
                most = max(most, run.attempts)
                if run.status.closed:
                    break
                if run.status == "waiting":
                    await plant.clock.advance(timedelta(seconds=101))
                    rt._worker.poke()
                else:
                    await changed.wait()
            assert (run.status, len(calls)) == ("done", 12)
            assert most <= 1

    play(story)


@pytest.mark.slow
def test_a_runtime_that_closes_takes_its_claim_back(tmp_path: Path) -> None:
    machine = Machine("long", data=Order)

    @machine.state(start=True)
    async def work(run: Run[Order]) -> Bought:
        await plant.clock.sleep(10_000)
        return Bought()

    machine.transitions(work.on(Bought) >> machine.final("done", ok=True))
    plant = Plant(tmp_path)

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await rt.start(machine, Order())
        for _ in range(6):
            async with plant.runtime(machine) as rt:
                await rt.resume(run.id)
                assert (await rt.get(run.id)).attempts == 1
        async with plant.runtime(machine, take="none") as rt:
            left = await rt.get(run.id)
            assert (left.status, left.attempts) == ("ready", 0)

    play(story)


def test_less_than_two_claims_is_no_bound() -> None:
    from statecraft.errors import ConfigError

    with pytest.raises(ConfigError, match="poison"):
        Settings(poison=1)
    assert Settings().poison == 5
