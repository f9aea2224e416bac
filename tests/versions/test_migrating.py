"""A run goes on under another definition: what it takes with it, and what refuses it."""

from __future__ import annotations

import pytest

from statecraft import Approve, Status
from statecraft.errors import VersionMismatch
from tests.versions.releases import RENAMED, Approved, Bill, Office, awaited, since, sound


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def office(request: pytest.FixtureRequest) -> Office:
    return Office(request.getfixturevalue("url" if request.param == "sqlite" else "fleet_url"))


async def approved(office: Office) -> str:
    """A run of the first release that has weighed, asked, and been told yes; nobody has claimed it since."""
    async with office.open(office.first()) as runtime:
        run = await runtime.wait((await runtime.start(office.first(), Bill())).id)
    async with office.open(office.first(), take="none") as runtime:
        (review,) = await runtime.reviews(run.id, open_only=True)
        await runtime.decide(run.id, Approve(), by="ann", review=review.id)
    assert office.effects == ["weigh"]
    return run.id


@awaited
async def test_a_renamed_state_with_a_paused_and_approved_run_is_refused_without_a_migration(office: Office) -> None:
    run_id = await approved(office)
    async with office.open(office.renamed()) as runtime:
        with pytest.raises(VersionMismatch, match=r"state paying is gone.*state settling is new"):
            await runtime.resume(run_id)
        await runtime.idle()
        run = await runtime.get(run_id)
        assert (run.status, run.state, run.version) == (Status.WAITING, "paying", "1")
    assert office.effects == ["weigh"]


@awaited
async def test_with_a_migration_it_completes_and_its_approval_is_intact(office: Office) -> None:
    run_id = await approved(office)
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(new) as runtime:
        run = await runtime.wait(run_id)
        assert (run.state, run.version, run.waiting_for) == ("auditing", "2", "review")
        # The finished call was not made again, and the approved one was made once, without another question.
        assert office.effects == ["weigh", "pay"]
        assert [review.decision for review in await runtime.reviews(run_id)] == ["approve", None]
        await runtime.send(run_id, Approved(), by="ann")
        assert (await runtime.wait(run_id)).status is Status.DONE
        assert [(move.event, move.source, move.target) for move in await runtime.history(run_id)] == [
            ("start", "", "paying"),
            ("migrated", "paying", "settling"),
            ("paid", "settling", "auditing"),
            ("approved", "auditing", "done"),
        ]
        await sound(runtime, run_id)
