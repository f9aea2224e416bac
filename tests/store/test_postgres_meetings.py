"""Writers that meet on PostgreSQL: one is let go first, all get through, and the guilty write fails alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from statecraft.errors import WriteRefused
from statecraft.store.port import Adjust, Charge, PutSchedule, Write
from statecraft.store.sql import SqlStore
from tests.store.rig import PAPER, Story, begun, opened, ready, within
from tests.store.test_postgres_failures import Broken, opened_with, raised

DICE = random.Random(3)
MANY = 6_000
"""Characters: more than an index of PostgreSQL takes, if they do not repeat."""


def noise(length: int = MANY) -> str:
    return "".join(DICE.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


async def crew(stack: AsyncExitStack, url: str, count: int = 4) -> list[SqlStore]:
    """Stores of several processes, as far as the database can tell."""
    return [await stack.enter_async_context(opened(url)) for _ in range(count)]


# --- the guilty write fails alone -------------------------------------------------------------------------------------

GUILTY: dict[str, Callable[[int], Write]] = {
    "key": lambda machine: Story(machine).start(key=noise()),
    "tenant": lambda machine: Story(machine).start(tenant=noise()),
    "queue": lambda machine: replace(Story(machine).start(ready()), queue=noise()),
    "meter": lambda _: Adjust(noise(), lambda _: ("{}", None)),
    "meter of half a character": lambda _: Adjust("m\ud800", lambda _: ("{}", None)),
    "key of half a character": lambda machine: Story(machine).start(key="k\ud800"),
    "key with a zero": lambda machine: Story(machine).start(key="k\0"),
}


@pytest.mark.parametrize("which", GUILTY)
def test_a_name_that_no_index_takes_is_refused_alone(fleet_url: str, which: str) -> None:
    async def story(store: SqlStore) -> None:
        machine = await store.register(PAPER)
        starts = [Story(machine).start() for _ in range(2)]
        writes = [starts[0], GUILTY[which](machine), starts[1]]
        before, refused, after = await asyncio.gather(*map(store.submit, writes), return_exceptions=True)
        assert [before, after] == [start.transition.run_id for start in starts]
        assert isinstance(refused, WriteRefused)
        assert len(str(refused)) < 500

    within(fleet_url, story)


# --- all get through --------------------------------------------------------------------------------------------------


def test_a_schedule_that_several_workers_put_down_at_once_is_put_down_once(fleet_url: str) -> None:
    async def go() -> None:
        async with AsyncExitStack() as stack:
            stores = await crew(stack, fleet_url)
            for number in range(12):
                put = PutSchedule(f"s{number}", "m", "{}", 5, "{}", "default", 0, None, "latest", "allow", 1)
                told = await asyncio.gather(*(store.submit(put) for store in stores))
                assert sorted(map(str, told)) == ["created", "unchanged", "unchanged", "unchanged"]

    asyncio.run(go())


def deadlocks(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as raw:
        found = raw.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
        assert found is not None
        return int(found[0])


@pytest.mark.slow
def test_writers_that_charge_the_same_meters_in_other_orders_never_wait_crosswise(fleet_url: str) -> None:
    meters = [f"tenant:{n}" for n in range(8)]

    async def go() -> None:
        async with AsyncExitStack() as stack:
            stores = await crew(stack, fleet_url)
            runs = [await begun(store) for store in stores]
            for meter in meters:  # They exist: two that make the same one at the same time may meet, once.
                await stores[0].submit(runs[0].settle('"first"', Charge(meter, 1)))
            for _ in range(10):
                await asyncio.gather(
                    *(
                        store.submit(run.settle(f'"{meter}"', Charge(meter, 1)))
                        for store, run in zip(stores, runs, strict=True)
                        for meter in DICE.sample(meters, k=len(meters))
                    )
                )
            assert await stores[0].used(meters) == dict.fromkeys(meters, 1 + 10 * len(stores))

    before = deadlocks(fleet_url)
    asyncio.run(go())
    assert deadlocks(fleet_url) == before


def test_writers_that_start_the_same_keys_in_other_orders_never_wait_crosswise(fleet_url: str) -> None:
    async def go() -> None:
        async with AsyncExitStack() as stack:
            stores = await crew(stack, fleet_url)
            machine = await stores[0].register(PAPER)
            for number in range(3):
                keys = [f"{number}-{n}" for n in range(60)]

                async def start(store: SqlStore, keys: list[str] = keys) -> dict[str, object]:
                    mine = DICE.sample(keys, k=len(keys))
                    owners = await asyncio.gather(*(store.submit(Story(machine).start(key=key)) for key in mine))
                    return dict(zip(mine, owners, strict=True))

                owners = await asyncio.gather(*map(start, stores))
                assert all(one == owners[0] for one in owners)

    before = deadlocks(fleet_url)
    asyncio.run(go())
    assert deadlocks(fleet_url) == before


def test_writes_that_are_always_in_the_way_together_are_done_one_by_one(fleet_url: str) -> None:
    together = {"begun": 0}

    def deadlock(_: Any) -> None:
        together["begun"] += 1
        if together["begun"] <= 3:
            raise raised("40P01")

    async def story(store: SqlStore, link: Any, _: list[float]) -> None:
        runs = [await begun(store) for _ in range(4)]
        Broken(link, "INSERT INTO feed", deadlock)
        assert await asyncio.gather(*(store.submit(run.move("more")) for run in runs)) == [None] * 4
        assert together["begun"] == 3 + 4

    asyncio.run(opened_with(fleet_url, story))
