"""A run goes on under another definition: what it takes with it, and what refuses it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from statecraft import Approve, Status, hours
from statecraft.errors import IllegalEvent, VersionMismatch
from tests.versions.releases import RENAMED, Accepted, Account, Approved, Bill, Office, Rejected, awaited, since, sound


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@awaited
async def test_what_the_engine_believes_after_a_migration_is_what_the_store_answers(office: Office) -> None:
    run_id = await approved(office)
    new = office.renamed(since("1", states=RENAMED))
    async with office.open(new, take="none") as runtime:
        raw = bytes.fromhex(run_id)
        definition, move = await runtime._worker.hosting.prepared(await runtime._store.load(raw), held=False)
        assert definition is new.definition
        await runtime._store.submit(move.write)
        assert await runtime._store.load(raw) == replace(move.loaded, run=(await runtime._store.load(raw)).run)
        assert (await runtime.get(run_id)).state == move.loaded.run.state == "settling"
        assert move.loaded.visits == {"settling": 1}
        assert move.loaded.first == 0
        assert await runtime.verify(run_id) == []


@pytest.mark.slow
@awaited
async def test_a_question_about_a_call_stays_open_across_a_migration_and_is_decided_by_its_old_name(office: Office) -> None:
    async with office.open(office.first()) as runtime:
        run = await runtime.wait((await runtime.start(office.first(), Bill())).id)
        (asked,) = await runtime.reviews(run.id, open_only=True)
    async with office.open(office.renamed(since("1", states=RENAMED))) as runtime:
        # Something has the run looked at: it is migrated, asks nothing anew, and waits on.
        await runtime._worker.claim(bytes.fromhex(run.id))
        await runtime.idle()
        run = await runtime.get(run.id)
        assert (run.state, run.waiting_for) == ("settling", "review")
        assert [review.id for review in await runtime.reviews(run.id)] == [asked.id]
        assert [review.id for review in await runtime.reviews(open_only=True)] == [asked.id]
        await runtime.decide(run.id, Approve(), by="ann", review=asked.id)
        assert (await runtime.wait(run.id)).state == "auditing"
        assert office.effects == ["weigh", "pay"]
        await sound(runtime, run.id)


@pytest.mark.slow
@awaited
async def test_a_decision_about_a_call_is_taken_before_the_run_is_migrated(office: Office) -> None:
    async with office.open(office.first()) as runtime:
        run = await runtime.wait((await runtime.start(office.first(), Bill())).id)
    async with office.open(office.renamed(since("1", states=RENAMED)), take="none") as runtime:
        await runtime.decide(run.id, Approve(), by="ann")
        assert (await runtime.get(run.id)).version == "1"
    async with office.open(office.renamed(), take="none") as runtime:
        with pytest.raises(VersionMismatch, match="declare Migration"):
            await runtime.decide(run.id, Approve(), by="bob")


@pytest.mark.slow
@awaited
async def test_an_open_review_of_a_state_is_decided_under_the_new_definition(office: Office) -> None:
    run_id = await approved(office)
    async with office.open(office.first()) as runtime:
        assert (await runtime.wait(run_id)).state == "checking"
        (asked,) = await runtime.reviews(run_id, open_only=True)
    async with office.open(office.renamed(since("1", states=RENAMED))) as runtime:
        assert await runtime.data(run_id, Bill) == Bill(receipts=["paid 100"])
        assert (await runtime.get(run_id)).version == "1"  # Looking changes nothing.
        with pytest.raises(IllegalEvent, match="auditing takes approved or rejected"):
            await runtime.send(run_id, Accepted(), by="ann")
        assert (await runtime.get(run_id)).version == "1"
        await runtime.send(run_id, Rejected(), by="ann")
        (review,) = [each for each in await runtime.reviews(run_id) if each.decision == "rejected"]
        assert (review.state, review.question, review.requested_at) == ("auditing", asked.question, asked.requested_at)
        await runtime.idle()
        assert (await runtime.get(run_id)).state == "settling"
        # The visits of the old name count: this is the second of two.
        (again,) = await runtime.reviews(run_id, open_only=True)
        await runtime.decide(run_id, Approve(), by="ann", review=again.id)
        await runtime.wait(run_id)
        await runtime.send(run_id, Rejected(), by="ann")
        assert (await runtime.wait(run_id)).status is Status.FAILED
        assert (await runtime.history(run_id))[-1].event == "visits_exhausted"
        await sound(runtime, run_id)


@pytest.mark.slow
@awaited
async def test_a_decision_that_was_offered_and_is_gone_refuses_the_migration_by_name(office: Office) -> None:
    run_id = await approved(office)
    async with office.open(office.first()) as runtime:
        await runtime.wait(run_id)
    async with office.open(office.asking_otherwise(since("1"))) as runtime:
        with pytest.raises(VersionMismatch, match="checking does not take approved any more; it takes accepted or rejected"):
            await runtime.send(run_id, Accepted(), by="ann")
    async with office.open(office.asking_otherwise(since("1", events={"approved": "accepted"}))) as runtime:
        await runtime.send(run_id, Accepted(), by="ann")
        assert (await runtime.wait(run_id)).status is Status.DONE
        await sound(runtime, run_id)


@pytest.mark.slow
@awaited
async def test_a_review_expires_when_it_would_have(office: Office) -> None:
    run_id = await approved(office)
    async with office.open(office.first()) as runtime:
        await runtime.wait(run_id)
    async with office.open(office.renamed(since("1", states=RENAMED))) as runtime:
        await office.clock.advance(hours(7))
        await runtime._worker.claim(bytes.fromhex(run_id))
        await runtime.idle()
        run = await runtime.get(run_id)
        assert (run.state, run.status) == ("auditing", Status.WAITING)
        await office.clock.advance(hours(1))
        runtime._worker.poke()
        assert (await runtime.wait(run_id)).status is Status.FAILED
        assert (await runtime.history(run_id))[-1].event == "review_expired"
        await sound(runtime, run_id)


@pytest.mark.slow
@awaited
async def test_changed_data_is_rewritten_by_a_plain_function_even_if_the_old_type_is_gone(office: Office) -> None:
    run_id = await approved(office)
    async with office.open(office.first()) as runtime:
        await runtime.wait(run_id)

    def in_cents(old: dict[str, Any]) -> dict[str, Any]:
        assert old == {"amount": 100, "receipts": ["paid 100"]}  # With what events appended since the start.
        return {"cents": old.pop("amount") * 100, **old}

    async with office.open(office.in_cents(since("1", data=in_cents))) as runtime:
        await runtime.send(run_id, Approved(), by="ann")
        run = await runtime.wait(run_id)
        assert await runtime.data(run_id) == Account(cents=10_000, receipts=["paid 100"])
        assert run.status is Status.DONE
        with pytest.raises(VersionMismatch, match=r"step 0 .* another version"):
            await runtime.data(run_id, at=0)
        await sound(runtime, run_id)


@pytest.mark.slow
@awaited
async def test_data_that_no_function_changes_must_still_fit(office: Office) -> None:
    run_id = await approved(office)
    async with office.open(office.in_cents(since("1"))) as runtime:
        run = await runtime.wait(run_id)  # The worker took it up, and must not try again and again.
        assert (run.status, run.version, run.state) == (Status.DEAD, "1", "paying")
        letter = await runtime.dead_letter(run_id)
        assert letter.error == "VersionMismatch"
        assert "its data is no Account now" in letter.reason
        assert "cents" in letter.reason
    assert office.effects == ["weigh"]

    def fixed(old: dict[str, Any]) -> Account:
        return Account(cents=old["amount"] * 100)

    async with office.open(office.in_cents(since("1", data=fixed))) as runtime:
        assert (await runtime.redrive_all(by="ann")).runs[0].refused == ""
        assert (await runtime.get(run_id)).status is Status.DEAD
        await runtime.redrive(run_id, by="ann")
        assert (await runtime.wait(run_id)).state == "checking"
        assert office.effects == ["weigh", "pay"]
        await sound(runtime, run_id)


@pytest.mark.slow
@awaited
async def test_a_state_that_was_split_is_chosen_by_the_data(office: Office) -> None:
    def by_amount(old: dict[str, Any]) -> Literal["settling", "auditing"]:
        return "auditing" if old["amount"] > 100 else "settling"

    async with office.open(office.first()) as runtime:
        small = await runtime.wait((await runtime.start(office.first(), Bill())).id)
        large = await runtime.wait((await runtime.start(office.first(), Bill(amount=101))).id)
    async with office.open(office.renamed(since("1", states={"paying": by_amount}))) as runtime:
        for run in (small, large):
            await runtime._worker.claim(bytes.fromhex(run.id))
        await runtime.idle()
        assert (await runtime.get(small.id)).state == "settling"
        refused = await runtime.get(large.id)
        assert (refused.status, refused.state) == (Status.DEAD, "paying")
        assert "paying is a work state, and auditing a review state" in str(refused.reason)


@pytest.mark.slow
@awaited
async def test_migrations_are_taken_one_after_the_other_from_the_run_s_own_on(office: Office) -> None:
    run_id = await approved(office)
    to_second = since("1", states=RENAMED)
    async with office.open(office.renamed(to_second, version="2")) as runtime:
        other = await runtime.start(office.renamed(to_second, version="2"), Bill())
        await runtime.wait(other.id)
        assert (await runtime.wait(run_id)).state == "auditing"
        late = await runtime.start(office.first(), Bill())  # By somebody who still has the first release.
        await runtime.wait(late.id)
    back = {new: old for old, new in RENAMED.items()}

    def in_cents(old: dict[str, Any]) -> dict[str, Any]:
        return {"cents": old["amount"], "receipts": old["receipts"]}

    third = office.in_cents(to_second, since("2", states=back, data=in_cents), version="3")
    async with office.open(third) as runtime:
        await runtime.send(run_id, Approved(), by="ann")
        for run in (other, late):
            await runtime.decide(run.id, Approve(), by="ann")
            assert (await runtime.wait(run.id)).state == "checking"
            await sound(runtime, run.id)
        moves = [(move.event, move.source, move.target) for move in await runtime.history(late.id)]
        assert moves[1] == ("migrated", "paying", "paying")
        assert (await runtime.wait(run_id)).status is Status.DONE
        assert [move.event for move in await runtime.history(run_id)].count("migrated") == 2
        await sound(runtime, run_id)
    assert office.effects.count("weigh") == office.effects.count("pay") == 3
