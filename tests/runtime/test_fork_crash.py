"""A process that dies at any commit of a fork: it is there whole, once, or not at all; and forks on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from statecraft import Machine, Runtime
from statecraft.errors import RunClosed, StoreUnavailable
from statecraft.store import open_store
from tests.engine.dying import Death, Dying
from tests.runtime.trips import Agency, Fine, Trip, gone, play, sound, waiting

pytestmark = pytest.mark.slow


async def life(agency: Agency, machine: Machine[Trip], run_id: str, at: int | None) -> int:
    """Fork the run and stay until the fork is done, or until the process dies at point `at`. Answers the points passed."""
    loop, died = asyncio.get_running_loop(), asyncio.Event()
    probe = Dying(at, lambda: loop.call_soon_threadsafe(died.set))

    async def story() -> None:
        store = open_store(agency.url, probe=probe)
        async with Runtime(agency.url, machines=[machine], clock=agency.clock, settings=agency.settings, store=store) as rt:
            fork = await rt.fork(run_id, at=4, data={"plan": "walk"}, key="once", by="bob")
            if fork.owner not in (None, rt.owner):
                with contextlib.suppress(RunClosed):  # This process was quick to take it over by itself.
                    await rt.resume(fork.id, force=True)
            await rt.wait(fork.id)

    told, death = asyncio.ensure_future(story()), asyncio.ensure_future(died.wait())
    await asyncio.wait({told, death}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    if probe.dead:
        told.cancel()
    death.cancel()
    with contextlib.suppress(asyncio.CancelledError, StoreUnavailable, Death):
        await told
    return probe.points


def test_a_fork_that_dies_anywhere_is_whole_or_not_there(tmp_path: Path) -> None:
    async def story(folder: Path, at: int | None) -> int:
        folder.mkdir()
        agency = Agency(f"sqlite:///{folder / 'runs.db'}")
        machine = agency.trips()
        async with agency.open(machine) as rt:
            run = await gone(rt, machine)
        points = await life(agency, machine, run.id, at)
        async with Runtime(agency.url, machines=[machine], clock=agency.clock) as rt:
            for each in await rt.runs():
                assert await rt.verify(each.id) == []
                assert (await rt.at(each.id)).problem == ""
        await life(agency, machine, run.id, None)
        async with Runtime(agency.url, machines=[machine], clock=agency.clock) as rt:
            (fork,) = [each for each in await rt.runs() if each.id != run.id]
            # A payment that had begun when the process died is in doubt, and a person is asked: it is never made twice.
            made = agency.done.count("pay walk")
            assert (fork.status, made) == ("done", 1) or (fork.status == "waiting" and made <= 1)
            await sound(rt, run, fork)
        with closing(sqlite3.connect(agency.url.removeprefix("sqlite:///"))) as raw:
            assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        return points

    whole = asyncio.run(story(tmp_path / "whole", None))
    assert whole >= 8
    for at in range(8):  # Opening, the fork, its claim; what a run does then is tested elsewhere.
        asyncio.run(story(tmp_path / str(at), at))


def test_forks_on_postgresql(postgres_url: str) -> None:
    async def go() -> None:
        agency = Agency(postgres_url)
        machine = agency.trips()
        async with agency.open(machine) as rt, agency.open(machine, take="none") as other:
            run = await gone(rt, machine, tenant="acme")
            both = await asyncio.gather(*(each.fork(run.id, at=3, key="once", detach=True) for each in (rt, other) * 3))
            assert len({fork.id for fork in both}) == 1
            fork = await rt.fork(run.id, at=3, data={"plan": "walk"}, by="bob")
            await rt.wait(fork.id)
            await rt.send(fork.id, Fine(), by="ann")
            assert (await rt.wait(fork.id)).status == "done"
            assert (await rt.diff(run.id, fork.id)).shared == 4
            held = await waiting(rt, machine)
            forks = await asyncio.gather(*(other.fork(held.id, at=at % 2, detach=True) for at in range(10)))
            await sound(rt, run, held, *both, fork, *forks)

    play(go)


def test_two_processes_that_fork_with_one_key_make_one_fork(tmp_path: Path) -> None:
    async def go() -> None:
        agency = Agency(f"sqlite:///{tmp_path / 'runs.db'}")
        machine = agency.trips()
        async with agency.open(machine) as rt, agency.open(machine, take="none") as other:
            run = await gone(rt, machine)
            forks = await asyncio.gather(*(each.fork(run.id, at=3, key="once", detach=True) for each in (rt, other) * 5))
            assert len({fork.id for fork in forks}) == 1
            assert len(await rt.runs()) == 2

    play(go)
