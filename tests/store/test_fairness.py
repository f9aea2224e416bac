"""Tenants share a queue by their shares, whoever came first and with however much."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

from statecraft.records import Status, Waiting
from statecraft.store.port import ClaimDue, Head
from statecraft.store.sql import SqlStore
from tests.store.rig import FOREVER, PAPER, Story, ready, running, within


async def enqueue(store: SqlStore, tenant: str | None, many: int, head: Head | None = None, **place: Any) -> list[str]:
    machine = await store.register(PAPER)
    stories = [Story(machine, epoch=int(head is not None and head.owner is not None)) for _ in range(many)]
    await asyncio.gather(*(store.submit(replace(story.start(head or ready(), tenant=tenant), **place)) for story in stories))
    return [story.run_id.hex() for story in stories]


async def served(store: SqlStore, many: int) -> list[str | None]:
    """The tenants of the next runs, in order."""
    runs = await store.submit(ClaimDue("you", 100, FOREVER, (1,), many))
    assert isinstance(runs, list)
    return [run.tenant for run in runs]


def test_a_tenant_that_comes_second_does_not_wait_for_all_of_the_first(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await enqueue(store, "ann", 1_000)
        assert await served(store, 100) == ["ann"] * 100
        await enqueue(store, "bob", 10)
        assert Counter(await served(store, 20)) == {"ann": 10, "bob": 10}

    within(url, story)


def test_twice_the_share_is_twice_the_claims(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await enqueue(store, "ann", 100, share=2.0)
        await enqueue(store, "bob", 100)
        first = Counter(await served(store, 60))
        assert abs(first["ann"] - 40) <= 1
        await enqueue(store, "cid", 100, share=0.5)
        second = Counter(await served(store, 70))
        assert [abs(second[tenant] - fair) <= 1 for tenant, fair in (("ann", 40), ("bob", 20), ("cid", 10))] == [True] * 3

    within(url, story)


def test_nobody_saves_up_credit_while_away(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await enqueue(store, "bob", 1)
        await served(store, 1)
        await enqueue(store, "ann", 500)
        await served(store, 100)
        await enqueue(store, "bob", 50)
        assert Counter(await served(store, 40)) == {"ann": 20, "bob": 20}

    within(url, story)


def test_who_had_an_idle_queue_alone_owes_nothing_for_it(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await enqueue(store, "ann", 300)
        while await served(store, 100):
            pass
        await enqueue(store, "bob", 100)
        await enqueue(store, "ann", 100)
        tenants = await served(store, 40)
        assert abs(Counter(tenants)["ann"] - 20) <= 1

    within(url, story)


def test_a_tenant_that_asks_for_one_run_at_a_time_gets_its_share_and_no_more(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await enqueue(store, "ann", 200, share=4.0)
        tenants: list[str | None] = []
        for _ in range(50):
            await enqueue(store, "bob", int(tenants[-1:] != ["ann"]))
            tenants += await served(store, 1)
        assert 8 <= Counter(tenants)["bob"] <= 11

    within(url, story)


def test_without_tenants_a_queue_is_first_in_first_out(url: str) -> None:
    async def story(store: SqlStore) -> None:
        ids = await enqueue(store, None, 30)
        runs = await store.submit(ClaimDue("you", 100, FOREVER, (1,), 30))
        assert isinstance(runs, list)
        assert [run.id for run in runs] == ids

    within(url, story)


def test_each_priority_has_a_time_of_its_own(url: str) -> None:
    """A backlog that waits below must not lend its old time to newcomers above."""

    async def story(store: SqlStore) -> None:
        await enqueue(store, "cid", 5)
        await enqueue(store, "ann", 100, priority=1)
        await served(store, 50)
        await enqueue(store, "bob", 100, priority=1)
        assert Counter(await served(store, 20)) == {"ann": 10, "bob": 10}

    within(url, story)


def test_delayed_starts_take_no_turns_away_from_their_tenant(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await enqueue(store, "ann", 100, Head(Status.WAITING, waiting_for=Waiting.START, due_at=FOREVER))
        await enqueue(store, "bob", 10)
        await enqueue(store, "ann", 10)
        assert abs(Counter(await served(store, 10))["ann"] - 5) <= 1

    within(url, story)


def test_runs_that_are_held_from_the_start_count_too(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await enqueue(store, "bob", 1)
        await enqueue(store, "ann", 10, running())
        await enqueue(store, "ann", 1)
        await enqueue(store, "bob", 9)
        assert (await served(store, 10))[:9] == ["bob"] * 9

    within(url, story)
