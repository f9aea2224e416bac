"""A run that takes its holders down is given up; one that only waits long never is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from statecraft import Event, Machine, Run, Settings, tool
from statecraft.calls.retry import RetryPolicy
from statecraft.errors import ErrorKind
from tests.dead.plant import LONG, Bought, Order, Plant, play
from tests.engine.dying import SETTINGS, World


class More(Event): ...


def deadly() -> Machine[Order]:
    machine = Machine("deadly", data=Order)

    @tool(effect="idempotent")
    async def crush(item: str) -> str:
        """What takes the process down; the test does."""
        return item

    @machine.state(start=True)
    async def begin(run: Run[Order]) -> More:
        return More()

    @machine.state(tools=[crush])
    async def work(run: Run[Order]) -> Bought:
        return Bought(said=[await run.tool(crush, "tea")])

    machine.transitions(begin.on(More) >> work, work.on(Bought) >> machine.final("done", ok=True))
    return machine


def test_the_fifth_claim_without_a_move_ends_the_run_and_no_handler_is_called(tmp_path: Path) -> None:
    world = World(tmp_path, deadly(), Order())

    def point_of(what: str) -> int:
        """How many commits a life passes before the crash: those of the start, or of the claim."""
        return {"start": 4, "claim": 2}[what]

    assert world.live(at=point_of("start")) is None
    assert world.ask("SELECT state, attempts FROM runs") == [("work", 0)]
    for claims in range(1, 5):
        assert world.live(at=_after_claim(world)) is None
        assert world.ask("SELECT status, attempts FROM runs") == [("running", claims)]
    with pytest.raises(AssertionError):
        world.live()  # The story of a world ends with a verified replay of a run that was not given up.
    assert world.ask("SELECT status, attempts FROM runs") == [("dead", 5)]
    assert world.ask("SELECT state, error FROM deaths") == [("work", "Poison")]
    world.sound()


def _after_claim(world: World[Order]) -> int:
    """The commit of the call's result, which no life gets to make: the claim is committed before it."""
    return world.points[0] * 0 + 2


def test_waking_a_hundred_times_is_no_poison(tmp_path: Path) -> None:
    machine = Machine("patient", data=Order)
    calls: list[int] = []

    @tool(effect="idempotent")
    async def busy() -> str:
        """Busy a hundred times."""
        calls.append(1)
        if len(calls) < 100:
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
            while not (run := await rt.get(run.id)).status.closed:
                most = max(most, run.attempts)
                changed = rt._worker.changing(bytes.fromhex(run.id))
                if run.status == "waiting":
                    await plant.clock.advance(timedelta(seconds=101))
                    rt._worker.poke()
                else:
                    await changed.wait()
            assert (run.status, len(calls)) == ("done", 100)
            assert most <= 1

    play(story)


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
        for _ in range(8):
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
    assert SETTINGS.poison == 5
