"""Dead letters on PostgreSQL: redriven, dropped and counted as on SQLite."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from statecraft import RunFilter
from statecraft.errors import Gone, NotDead
from statecraft.letters import DeadFilter
from tests.dead.plant import Close, Plant, Skip, dead, play
from tests.dead.test_redrive import Ask, family

pytestmark = pytest.mark.slow


def test_letters_are_counted_redriven_moved_and_dropped(tmp_path: Path, postgres_url: str) -> None:
    plant = Plant(tmp_path, postgres_url)
    machine = plant.buying(deadline=timedelta(days=9))

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            first = await dead(rt, machine, tenant="acme")
            await plant.clock.advance(timedelta(hours=3))
            rest = [await dead(rt, machine) for _ in range(3)]
            (pattern,) = await rt.dead_patterns()
            assert (pattern.state, pattern.error, pattern.call, pattern.count) == ("work", "permanent", "ship", 4)
            hour = first.updated_at.hour
            assert {at: n for at, n in enumerate(pattern.hours) if n} == {hour: 1, (hour + 3) % 24: 3}
            assert pattern.runs == (rest[-1].id, first.id)
            assert [each.run_id for each in await rt.dead_letters(DeadFilter(tenant="acme"))] == [first.id]

            await rt.redrive(first.id, by="ann", event=Skip(said=["by hand"]))
            assert (await rt.wait(first.id)).status == "done"
            assert (await rt.drop(rest[0].id, by="ann", note="sold out")).status == "cancelled"
            assert (await rt.redrive(rest[1].id, by="ann", event=Close())).status == "failed"
            plant.down = False
            await rt.redrive(rest[2].id, by="ann", note="up", deadline=timedelta(hours=1), steps=50)
            done = await rt.wait(rest[2].id)
            assert (done.status, len(plant.paid)) == ("done", 4)
            with pytest.raises(NotDead):
                await rt.redrive(done.id, by="ann")
            for run in (first, *rest):
                assert await rt.verify(run.id) == []
            assert (await rt.replay(done.id)).agrees
            assert await rt.dead_patterns() == []

    play(story)


def test_a_family_is_redriven_from_the_top(tmp_path: Path, postgres_url: str) -> None:
    plant = Plant(tmp_path, postgres_url)
    parent = family(plant, plant.buying())

    async def story() -> None:
        async with plant.runtime(parent) as rt:
            run = await rt.wait((await rt.start(parent, Ask())).id)
            (kid,) = await rt.runs(RunFilter(parent=run.id))
            with pytest.raises(Gone):
                await rt.redrive(kid.id, by="ann")
            plant.down = False
            await rt.redrive(run.id, by="ann")
            assert (await rt.wait(run.id)).status == "done"

    play(story)
