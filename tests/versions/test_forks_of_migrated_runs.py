"""Forks of runs that went on under another definition: before, at and after their migration."""

from __future__ import annotations

import pytest

from statecraft import Approve
from statecraft.errors import VersionMismatch
from tests.versions.releases import RENAMED, Approved, Bill, Office, awaited, since, sound

pytestmark = pytest.mark.slow


@awaited
async def test_a_migrated_run_is_forked_at_and_after_its_migration(url: str) -> None:
    office = Office(url)
    async with office.open(office.first()) as runtime:
        run = await runtime.wait((await runtime.start(office.first(), Bill())).id)
        await runtime.decide(run.id, Approve(), by="ann")
        assert (await runtime.wait(run.id)).state == "checking"
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(new) as runtime:
        assert (await runtime.resume(run.id)).state in ("checking", "auditing")
        await runtime.send(run.id, Approved(), by="ann")
        assert (await runtime.wait(run.id)).status == "done"
        moves = [(move.event, move.target) for move in await runtime.history(run.id)]
        assert moves[1:3] == [("paid", "checking"), ("migrated", "auditing")]
        at = await runtime.wait((await runtime.fork(run.id, at=2)).id)
        assert (at.state, at.version) == ("auditing", "2")
        (asked,) = await runtime.reviews(at.id, open_only=True)  # Asked anew: the question of before is the other run's.
        assert asked.seq == 2
        changed = await runtime.wait((await runtime.fork(run.id, at=2, data={"amount": 7})).id)
        for fork in (at, changed):
            await runtime.send(fork.id, Approved(), by="eve")
            assert (await runtime.wait(fork.id)).status == "done"
            await sound(runtime, fork.id)
        assert (await runtime.data(changed.id, Bill)).amount == 7
        with pytest.raises(VersionMismatch, match=r"at step 1 under clerk version 1 .*after the run's migration"):
            await runtime.fork(run.id, at=1)
        past = await runtime.at(run.id, 1)
        assert (past.state, "version 1" in past.problem) == ("checking", True)
        assert office.effects == ["weigh", "pay"]
        await sound(runtime, run.id)


@awaited
async def test_a_visit_that_a_migration_carried_on_is_begun_anew_as_a_whole(url: str) -> None:
    office = Office(url)
    async with office.open(office.first()) as runtime:
        run = await runtime.wait((await runtime.start(office.first(), Bill())).id)
        assert office.effects == ["weigh"]
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(new) as runtime:
        await runtime.decide(run.id, Approve(), by="ann")
        assert (await runtime.wait(run.id)).state == "auditing"
        assert [move.event for move in await runtime.history(run.id)] == ["start", "migrated", "paid"]
        assert office.effects == ["weigh", "pay"]
        fork = await runtime.wait((await runtime.fork(run.id, at=1)).id)
        (asked,) = await runtime.reviews(fork.id, open_only=True)
        assert (asked.kind, fork.state) == ("gate", "settling")
        assert office.effects == ["weigh", "pay", "weigh"]
        await runtime.decide(fork.id, Approve(), by="eve")
        assert (await runtime.wait(fork.id)).state == "auditing"
        assert office.effects == ["weigh", "pay", "weigh", "pay"]
        assert len(set(office.paid)) == 4
        for each in (run, fork):
            await sound(runtime, each.id)


@awaited
async def test_a_fork_of_an_older_definition_is_migrated_like_any_run(url: str) -> None:
    office = Office(url)
    async with office.open(office.first()) as runtime:
        run = await runtime.wait((await runtime.start(office.first(), Bill())).id)
        fork = await runtime.fork(run.id, at=0, data={"amount": 3}, detach=True)
    async with office.open(office.renamed(since("1", states=RENAMED))) as runtime:
        fork = await runtime.wait(fork.id)
        assert (fork.state, fork.version) == ("settling", "2")
        await runtime.decide(fork.id, Approve(), by="ann")
        assert (await runtime.wait(fork.id)).state == "auditing"
        assert (await runtime.data(fork.id, Bill)).amount == 3
        await sound(runtime, fork.id)
