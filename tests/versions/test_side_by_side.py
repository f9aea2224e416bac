"""Workers of two releases over one database: each takes what it can host, and nobody writes for another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from statecraft import Approve, Runtime, Status
from statecraft.errors import Fenced
from tests.versions.releases import RENAMED, Approved, Bill, Office, awaited, since, sound


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def office(request: pytest.FixtureRequest) -> Office:
    return Office(request.getfixturevalue("url" if request.param == "sqlite" else "fleet_url"))


async def looked(office: Office, *runtimes: Runtime) -> None:
    """All of them have looked for due runs, and for definitions that are new in the database."""
    await office.clock.advance(timedelta(seconds=3))
    for runtime in runtimes:
        await runtime.idle()


@awaited
async def test_a_new_worker_takes_up_runs_of_a_release_that_is_registered_while_it_works(office: Office) -> None:
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(new) as worker, office.open(office.first(), take="none") as starter:
        await worker.idle()
        run = await starter.start(office.first(), Bill(), detach=True)
        await office.clock.advance(timedelta(seconds=3))
        worker._worker.poke()
        assert ((await worker.wait(run.id)).version, office.effects) == ("2", ["weigh"])
        await sound(worker, run.id)


@awaited
async def test_a_worker_without_a_migration_leaves_them_alone(office: Office) -> None:
    async with office.open(office.renamed()) as worker, office.open(office.first(), take="none") as starter:
        run = await starter.start(office.first(), Bill(), detach=True)
        await looked(office, worker)
        assert ((await worker.get(run.id)).status, office.effects) == (Status.READY, [])


@pytest.mark.slow
@awaited
async def test_an_old_worker_never_takes_a_migrated_run(office: Office) -> None:
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(office.first()) as old, office.open(new, take="own") as young:
        run = await old.wait((await old.start(office.first(), Bill())).id)
        await young.resume(run.id)  # It waits for a person, and stays as it is.
        assert (await young.get(run.id)).version == "1"
        await young._worker.claim(bytes.fromhex(run.id))
        await young.wait(run.id)
        assert (await young.get(run.id)).version == "2"
        async with office.open(new, take="none") as desk:
            await desk.decide(run.id, Approve(), by="ann")
        await old.idle()  # It has looked. The clock stands still: in one leap it would outrun the lease of the other.
        assert old.counts["claimed"] == 0
        young._worker.poke()  # Nobody told it of the decision, and its clock stands still.
        run = await young.wait(run.id)
        assert (run.state, office.effects) == ("auditing", ["weigh", "pay"])
        other = await old.wait((await old.start(office.first(), Bill())).id)
        assert (other.version, other.state) == ("1", "paying")  # Each goes on with its own.


@pytest.mark.slow
@awaited
async def test_of_two_that_migrate_one_run_the_second_is_refused_and_nothing_of_it_is_kept(office: Office) -> None:
    async with office.open(office.first()) as old:
        run = await old.wait((await old.start(office.first(), Bill())).id)
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(new, take="none") as one, office.open(new, take="none") as two:
        loaded = await one._store.load(bytes.fromhex(run.id))
        _, first = await one._worker.hosting.prepared(loaded, held=False)
        _, second = await two._worker.hosting.prepared(loaded, held=False)
        await one._store.submit(first.write)
        with pytest.raises(Fenced, match="expects epoch 1 at step 0, but the run has epoch 1 at step 1"):
            await two._store.submit(second.write)
        assert [move.event for move in await one.history(run.id)] == ["start", "migrated"]
        assert await one.verify(run.id) == []


@pytest.mark.slow
@awaited
async def test_a_holder_that_lost_its_run_cannot_migrate_it(office: Office) -> None:
    async with office.open(office.first()) as old:
        run = await old.wait((await old.start(office.first(), Bill())).id)
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(new, take="none") as late:
        loaded = await late._store.load(bytes.fromhex(run.id))
        _, write = await late._worker.hosting.prepared(loaded, held=True)
        with pytest.raises(Fenced, match="is waiting"):  # Nobody holds it.
            await late._store.submit(write.write)
        async with office.open(office.first()) as old:
            await old._worker.claim(bytes.fromhex(run.id))
            await old.idle()
        with pytest.raises(Fenced, match="the run has epoch 2"):
            await late._store.submit(write.write)
        assert [move.event for move in await late.history(run.id)] == ["start"]


@pytest.mark.slow
@awaited
async def test_what_somebody_holds_is_not_migrated_under_them(office: Office) -> None:
    async with office.open(office.first()) as old:
        run = await old.wait((await old.start(office.first(), Bill())).id)
        await old.decide(run.id, Approve(), by="ann")
        assert (await old.wait(run.id)).state == "checking"
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(new, take="none") as desk:
        _, write = await desk._worker.hosting.prepared(await desk._store.load(bytes.fromhex(run.id)), held=False)
        async with office.open(office.first()) as old:  # A decision by the first release comes before.
            await old.send(run.id, Approved(), by="bob")
            await old.wait(run.id)
        with pytest.raises(Fenced, match="done"):
            await desk._store.submit(write.write)
