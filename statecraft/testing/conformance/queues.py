"""Which runs are taken first: by queue, by priority, by turn, and never more of a machine than its limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from statecraft.errors import Fenced
from statecraft.records import RunRecord, Status, Waiting
from statecraft.store.port import ClaimDue, Head, Release, Store
from statecraft.testing.conformance.stories import FOREVER, OTHER, PAPER, Story, begun, ready, running
from statecraft.testing.conformance.suite import Suite, behaviour, heads


async def enqueue(store: Store, tenant: str | None, many: int, head: Head | None = None, **place: Any) -> list[str]:
    """Start runs of a tenant together; answer their ids in order."""
    machine = await store.register(PAPER)
    stories = [Story(machine, epoch=int(head is not None and head.owner is not None)) for _ in range(many)]
    await asyncio.gather(*(store.submit(replace(story.start(head or ready(), tenant=tenant), **place)) for story in stories))
    return [story.run_id.hex() for story in stories]


async def taken_due(store: Store, many: int, **which: Any) -> list[RunRecord]:
    """The next runs that are taken, in order."""
    answer = await store.submit(ClaimDue("you", 100, FOREVER, (await store.register(PAPER),), many, **which))
    assert isinstance(answer, list)
    return answer


async def served(store: Store, many: int) -> list[str | None]:
    """The tenants of the next runs, in order."""
    return [run.tenant for run in await taken_due(store, many)]


class Queues(Suite):
    """Queues, priorities, turns of tenants, limits of machines, and letting go."""

    @behaviour
    async def test_a_run_keeps_its_queue_and_its_priority(self, store: Store) -> None:
        (run_id,) = await enqueue(store, None, 1, queue="night", priority=-3)
        run = await store.run(bytes.fromhex(run_id))
        assert (run.queue, run.priority) == ("night", -3)
        (taken,) = await taken_due(store, 9, queues=("night",))
        assert (taken.queue, taken.priority) == ("night", -3)

    @behaviour
    async def test_only_runs_of_the_queues_asked_for_are_taken_unless_they_are_named(self, store: Store) -> None:
        day, night = [await enqueue(store, None, 2, queue=queue) for queue in ("default", "night")]
        assert await store.next_due([await store.register(PAPER)], None, ["empty"]) is None
        assert await taken_due(store, 9, queues=("empty",)) == []
        assert [run.id for run in await taken_due(store, 9, queues=("night", "empty"))] == night
        named = frozenset({bytes.fromhex(day[1])})
        assert [run.id for run in await taken_due(store, 9, queues=("empty",), only=named)] == [day[1]]
        assert [run.id for run in await taken_due(store, 9)] == [day[0]]

    @behaviour
    async def test_expired_leases_come_first_then_what_waited_then_the_ready_by_priority(self, store: Store) -> None:
        low, high = await enqueue(store, None, 2, priority=-1), await enqueue(store, None, 2, priority=7)
        middle = await enqueue(store, None, 1)
        slept = [await begun(store) for _ in range(2)]
        for run, due_at in zip(slept, (60, 50), strict=True):
            await store.submit(run.sleep_until(due_at))
        expired = await begun(store, running(lease_until=80))
        first = [expired.run_id.hex(), slept[1].run_id.hex(), slept[0].run_id.hex()]
        assert [run.id for run in await taken_due(store, 9)] == [*first, *high, *middle, *low]

    @behaviour
    async def test_a_delayed_start_begins_at_its_time(self, store: Store) -> None:
        later = Head(Status.WAITING, waiting_for=Waiting.START, due_at=70)
        (run_id,) = await enqueue(store, None, 1, later)
        assert await store.next_due([await store.register(PAPER)], None) == 70
        early = await store.submit(ClaimDue("you", 69, FOREVER, (await store.register(PAPER),), 9))
        assert early == []
        (run,) = await taken_due(store, 9)
        assert (run.id, run.waiting_for, run.attempts) == (run_id, None, 1)

    @behaviour
    async def test_of_a_machine_with_a_limit_no_more_are_held_than_that(self, store: Store) -> None:
        await enqueue(store, None, 5)
        other = Story(await store.register(OTHER), epoch=0)
        await store.submit(other.start(ready()))
        machines = (await store.register(PAPER), other.machine)
        limits = (("paper", 2),)
        answer = await store.submit(ClaimDue("you", 100, FOREVER, machines, 9, limits=limits))
        assert isinstance(answer, list)
        assert sorted(run.machine for run in answer) == ["other", "paper", "paper"]
        assert await taken_due(store, 9, limits=limits) == []
        assert await store.next_due(machines, None, ("default",), limits) == FOREVER  # when a lease ends
        assert len(await taken_due(store, 1)) == 1

    @behaviour
    async def test_what_an_owner_lets_go_of_is_ready_for_others_and_lost_to_him(self, store: Store) -> None:
        mine, theirs = [await begun(store) for _ in range(3)], await begun(store, running("they"))
        assert await store.submit(Release("me", 9_000)) == 3
        assert [run.status for run in await heads(store, *mine, theirs)] == [Status.READY] * 3 + [Status.RUNNING]
        assert await store.submit(Release("me", 9_000)) == 0
        assert [run.id for run in await taken_due(store, 9)] == [run.run_id.hex() for run in mine]
        with pytest.raises(Fenced):
            await store.submit(mine[0].move("more"))

    @behaviour
    async def test_a_tenant_that_comes_second_does_not_wait_for_all_of_the_first(self, store: Store) -> None:
        await enqueue(store, "ann", 1_000)
        assert await served(store, 100) == ["ann"] * 100
        await enqueue(store, "bob", 10)
        assert Counter(await served(store, 20)) == {"ann": 10, "bob": 10}

    @behaviour
    async def test_twice_the_share_is_twice_the_claims(self, store: Store) -> None:
        await enqueue(store, "ann", 100, share=2.0)
        await enqueue(store, "bob", 100)
        first = Counter(await served(store, 60))
        assert abs(first["ann"] - 40) <= 1
        await enqueue(store, "cid", 100, share=0.5)
        second = Counter(await served(store, 70))
        assert [abs(second[tenant] - fair) <= 1 for tenant, fair in (("ann", 40), ("bob", 20), ("cid", 10))] == [True] * 3

    @behaviour
    async def test_nobody_saves_up_credit_while_away(self, store: Store) -> None:
        await enqueue(store, "bob", 1)
        await served(store, 1)
        await enqueue(store, "ann", 500)
        await served(store, 100)
        await enqueue(store, "bob", 50)
        assert Counter(await served(store, 40)) == {"ann": 20, "bob": 20}

    @behaviour
    async def test_who_had_an_idle_queue_alone_owes_nothing_for_it(self, store: Store) -> None:
        await enqueue(store, "ann", 300)
        while await served(store, 100):
            pass
        await enqueue(store, "bob", 100)
        await enqueue(store, "ann", 100)
        tenants = await served(store, 40)
        assert abs(Counter(tenants)["ann"] - 20) <= 1

    @behaviour
    async def test_a_tenant_that_asks_for_one_run_at_a_time_gets_its_share_and_no_more(self, store: Store) -> None:
        await enqueue(store, "ann", 200, share=4.0)
        tenants: list[str | None] = []
        for _ in range(50):
            await enqueue(store, "bob", int(tenants[-1:] != ["ann"]))
            tenants += await served(store, 1)
        assert 8 <= Counter(tenants)["bob"] <= 11

    @behaviour
    async def test_without_tenants_a_queue_is_first_in_first_out(self, store: Store) -> None:
        ids = await enqueue(store, None, 30)
        runs = await store.submit(ClaimDue("you", 100, FOREVER, (await store.register(PAPER),), 30))
        assert isinstance(runs, list)
        assert [run.id for run in runs] == ids

    @behaviour
    async def test_each_priority_has_a_time_of_its_own(self, store: Store) -> None:
        """A backlog that waits below must not lend its old time to newcomers above."""
        await enqueue(store, "cid", 5)
        await enqueue(store, "ann", 100, priority=1)
        await served(store, 50)
        await enqueue(store, "bob", 100, priority=1)
        assert Counter(await served(store, 20)) == {"ann": 10, "bob": 10}

    @behaviour
    async def test_delayed_starts_take_no_turns_away_from_their_tenant(self, store: Store) -> None:
        await enqueue(store, "ann", 100, Head(Status.WAITING, waiting_for=Waiting.START, due_at=FOREVER))
        await enqueue(store, "bob", 10)
        await enqueue(store, "ann", 10)
        assert abs(Counter(await served(store, 10))["ann"] - 5) <= 1

    @behaviour
    async def test_runs_that_are_held_from_the_start_count_too(self, store: Store) -> None:
        await enqueue(store, "bob", 1)
        await enqueue(store, "ann", 10, running())
        await enqueue(store, "ann", 1)
        await enqueue(store, "bob", 9)
        assert (await served(store, 10))[:9] == ["bob"] * 9
