"""What the tests of both databases do with the runs that the code of schema 2 left behind."""

from __future__ import annotations

from datetime import timedelta

from statecraft import Approve, Runtime, Status
from statecraft.testing import ManualClock
from tests.store import draft_migration, old_desk

OLD = (draft_migration.DATA / "runs-2.sql").read_text()
"""A SQLite database of schema 2 with runs in it, as SQL."""


async def go_on(url: str) -> None:
    """Every old run is sound; those that wait for people, time or workers go on where they stood, to their ends."""
    clock = ManualClock()
    async with old_desk.runtime(url, clock, replies=0) as rt:
        for run in await rt.runs():
            assert await rt.verify(run.id) == []
            if run.status.closed:
                assert (await rt.replay(run.id)).agrees
        known = {key: await old_desk.by_key(rt, key) for key in ("asks", "pays", "ready", "sleeps")}
        await rt.send(known["asks"], old_desk.Yes(said="go"), by="bob")
        await rt.decide(known["pays"], Approve(), by="bob")
        for key in ("asks", "pays"):  # Before time moves on: a payment under way would take too long, and be in doubt.
            assert await ended(rt, known[key]) is Status.DONE, key
        await clock.advance(timedelta(hours=2))
        rt._worker.poke()
        for key, run_id in known.items():
            assert await ended(rt, run_id) is Status.DONE, key
            assert await rt.verify(run_id) == []
        assert (await rt.start(old_desk.desk, old_desk.Errand(), key="new")).queue == "default"


async def ended(rt: Runtime, run_id: str) -> Status:
    """Where a run ends, although it begins by waiting."""
    async for _ in rt.follow(run_id):
        if (await rt.get(run_id)).status.closed:
            break
    return (await rt.get(run_id)).status
