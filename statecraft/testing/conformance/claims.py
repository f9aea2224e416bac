"""Who may take a run, which runs are due, and how a lease is kept."""

from __future__ import annotations

import asyncio

import pytest

from statecraft.errors import (
    Fenced,
    RunClosed,
    RunHeld,
)
from statecraft.records import Status
from statecraft.store.port import (
    Cancel,
    ClaimDue,
    Renew,
    Store,
)
from statecraft.testing.conformance.stories import (
    FOREVER,
    OTHER,
    PAPER,
    begun,
    ready,
    running,
    waiting_for_review,
)
from statecraft.testing.conformance.suite import Suite, behaviour, taken


async def ripe(
    store: Store, now: int, *, machines: tuple[int, ...] | None = None, limit: int = 10, only: frozenset[bytes] | None = None
) -> list[str]:
    """Ids of the runs that a claim of what is due takes, by default of the machine `PAPER`."""
    which = (await store.register(PAPER),) if machines is None else machines
    answer = await store.submit(ClaimDue("you", now, now + 1_000, which, limit, only))
    assert isinstance(answer, list)
    return [run.id for run in answer]


class Claims(Suite):
    """Claims of one run, claims of what is due, and leases."""

    @behaviour
    async def test_claiming_raises_the_epoch_and_hands_over_the_lease(self, store: Store) -> None:
        run = await begun(store, ready())
        claimed = await taken(store, run.claim("you", lease_until=77_000))
        assert (claimed.status, claimed.owner, claimed.epoch, claimed.attempts) == (Status.RUNNING, "you", 1, 1)
        assert claimed == await store.run(run.run_id)
        assert claimed.due_at is None

    @behaviour
    async def test_a_waiting_run_can_be_taken_before_its_time(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.sleep_until(9_000))
        claimed = await taken(store, run.claim(now=5_000))
        assert (claimed.epoch, claimed.waiting_for, claimed.attempts) == (2, None, 1)

    @behaviour
    async def test_a_held_run_is_not_taken_before_its_lease_ends(self, store: Store) -> None:
        run = await begun(store, running(lease_until=6_000))
        with pytest.raises(RunHeld, match="held by me"):
            await store.submit(run.claim(now=5_999))
        assert (await taken(store, run.claim(now=6_000))).owner == "you"
        with pytest.raises(Fenced):
            await store.submit(run.move("more"))

    @behaviour
    async def test_who_knows_the_holder_to_be_gone_takes_over_that_epoch_only(self, store: Store) -> None:
        run = await begun(store)
        with pytest.raises(RunHeld):
            await store.submit(run.claim(epoch=0))
        assert (await taken(store, run.claim(epoch=1))).epoch == 2
        with pytest.raises(RunHeld):
            await store.submit(run.claim(epoch=1))

    @behaviour
    async def test_of_many_claims_at_once_one_wins(self, store: Store) -> None:
        run = await begun(store, ready())
        claims = [run.claim(f"owner {number}") for number in range(10)]
        outcomes = await asyncio.gather(*map(store.submit, claims), return_exceptions=True)
        assert [isinstance(outcome, RunHeld) for outcome in outcomes] == [False] + [True] * 9
        assert (await store.run(run.run_id)).epoch == 1

    @behaviour
    async def test_a_closed_run_cannot_be_taken(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(Cancel(run.run_id, 2_000, "ann", ""))
        with pytest.raises(RunClosed, match="cancelled"):
            await store.submit(run.claim(epoch=2))

    @behaviour
    async def test_expired_leases_come_first_then_what_waits_and_is_due_then_what_is_ready(self, store: Store) -> None:
        first_ready = await begun(store, ready(40))
        second_ready = await begun(store, ready(30))
        sleeping = await begun(store)
        await store.submit(sleeping.sleep_until(35))
        expired_late = await begun(store, running(lease_until=90))
        expired_early = await begun(store, running(lease_until=80))
        expected = [run.run_id.hex() for run in (expired_early, expired_late, sleeping, first_ready, second_ready)]
        assert await store.next_due([await store.register(PAPER)], None) == 35
        assert await ripe(store, 100, limit=2) == expected[:2]
        assert await ripe(store, 100, limit=2) == expected[2:4]
        assert await ripe(store, 100) == expected[4:]
        assert await ripe(store, 100) == []

    @behaviour
    async def test_nothing_is_due_before_its_time(self, store: Store) -> None:
        run = await begun(store, running(lease_until=80))
        await waiting_for_review(store)
        parked = await begun(store)
        await store.submit(parked.sleep_until(90))
        assert await ripe(store, 79) == []
        assert await store.next_due([await store.register(PAPER)], None) == 80
        assert await ripe(store, 80) == [run.run_id.hex()]
        assert await store.next_due([await store.register(PAPER)], frozenset({parked.run_id})) == 90

    @behaviour
    async def test_a_review_with_a_time_limit_becomes_due(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.move("asked"))
        await store.submit(run.ask_person(expires_at=5_000))
        assert await ripe(store, 4_999) == []
        assert await ripe(store, 5_000) == [run.run_id.hex()]

    @behaviour
    async def test_only_runs_of_the_machines_and_ids_asked_for_are_taken(self, store: Store) -> None:
        runs = [await begun(store, ready(number)) for number in range(1, 4)]
        other = await store.register(OTHER)
        assert await ripe(store, 100, machines=(other,)) == []
        assert await store.next_due([other], None) is None
        assert await ripe(store, 100, only=frozenset()) == []
        chosen = frozenset({runs[2].run_id, runs[1].run_id})
        assert await store.next_due([await store.register(PAPER)], chosen) == 2
        assert await ripe(store, 100, only=chosen, limit=1) == [runs[1].run_id.hex()]
        assert await ripe(store, 100, only=chosen) == [runs[2].run_id.hex()]

    @behaviour
    async def test_a_thousand_own_runs_are_searched_in_parts(self, store: Store) -> None:
        first = await begun(store, ready(3))
        last = await begun(store, ready(2))
        strangers = frozenset(number.to_bytes(16, "big") for number in range(1_000))
        assert await ripe(store, 100, only=strangers | {first.run_id, last.run_id}) == [first.run_id.hex(), last.run_id.hex()]

    @behaviour
    async def test_renewing_extends_what_is_held_and_names_what_is_lost(self, store: Store) -> None:
        kept = await begun(store, running(lease_until=80))
        stolen = await begun(store, running(lease_until=80))
        parked = await begun(store)
        await store.submit(parked.sleep_until(90))
        await store.submit(stolen.claim(now=80))
        unknown = b"x" * 16
        held = tuple((run_id, 1) for run_id in (kept.run_id, stolen.run_id, parked.run_id, unknown))
        assert await store.submit(Renew(held, 200)) == [stolen.run_id, parked.run_id, unknown]
        assert await ripe(store, 199) == [parked.run_id.hex()]
        assert await ripe(store, 200) == [kept.run_id.hex()]
        assert (await store.run(stolen.run_id)).epoch == 2

    @behaviour
    async def test_renewing_nothing_loses_nothing(self, store: Store) -> None:
        assert await store.submit(Renew((), FOREVER)) == []
