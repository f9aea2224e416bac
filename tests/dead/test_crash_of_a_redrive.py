"""A process that dies at any commit of a redrive: it happened once or not at all, and nothing is paid twice."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from statecraft import Machine, Runtime
from statecraft.errors import NotDead, StoreUnavailable
from statecraft.machine.event import OperatorEvent
from statecraft.store import open_store
from tests.dead.plant import Order, Plant, Skip, dead
from tests.engine.dying import Death, Dying


async def life(plant: Plant, machine: Machine[Order], run_id: str, event: OperatorEvent | None, at: int | None) -> int:
    """Redrive the run and stay until it has ended, or until the process dies at point `at`. Answers the points passed."""
    loop, died = asyncio.get_running_loop(), asyncio.Event()
    probe = Dying(at, lambda: loop.call_soon_threadsafe(died.set))

    async def story() -> None:
        store = open_store(plant.url, probe=probe)
        async with Runtime(plant.url, machines=[machine], clock=plant.clock, settings=plant.settings, store=store) as rt:
            with contextlib.suppress(NotDead):
                await rt.redrive(run_id, by="ann", note="again", event=event)
            if (run := await rt.get(run_id)).owner not in (None, rt.owner):
                await rt.resume(run.id, force=True)
            await rt.wait(run_id)

    told, death = asyncio.ensure_future(story()), asyncio.ensure_future(died.wait())
    await asyncio.wait({told, death}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    if probe.dead:
        told.cancel()
    death.cancel()
    with contextlib.suppress(asyncio.CancelledError, StoreUnavailable, Death):
        await told
    return probe.points


@pytest.mark.slow
@pytest.mark.parametrize("event", [None, Skip(said=["by hand"])], ids=["again", "moved"])
def test_a_redrive_that_dies_anywhere_happened_once_or_not_at_all(tmp_path: Path, event: OperatorEvent | None) -> None:
    async def story(folder: Path, at: int | None) -> int:
        folder.mkdir()
        plant = Plant(folder)
        machine = plant.buying()
        async with plant.runtime(machine) as rt:
            run = await dead(rt, machine)
        plant.down = False
        points = await life(plant, machine, run.id, event, at)
        async with plant.runtime(machine, take="none") as rt:
            redrives = [entry for entry in await rt.feed(run.id) if entry.kind == "redriven"]
            letter = await rt.dead_letter(run.id)
            assert letter.open == (not redrives)
            assert await rt.verify(run.id) == []
        await life(plant, machine, run.id, event, None)
        async with plant.runtime(machine, take="none") as rt:
            ended = await rt.get(run.id)
            assert (ended.status, plant.paid) == ("done", ["tea"])
            assert len([entry for entry in await rt.feed(run.id) if entry.kind == "redriven"]) == 1
            assert await rt.verify(run.id) == []
            assert (await rt.replay(run.id)).agrees
        with closing(sqlite3.connect(plant.url.removeprefix("sqlite:///"))) as raw:
            assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        return points

    whole = asyncio.run(story(tmp_path / "whole", None))
    assert whole >= 4
    for at in range(whole):
        asyncio.run(story(tmp_path / str(at), at))
