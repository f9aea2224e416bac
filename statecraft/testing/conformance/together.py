"""Several stores on one database at once: nothing is taken twice, nothing is lost, nobody waits for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from statecraft.errors import (
    RunHeld,
)
from statecraft.records import FeedEntry, RunFilter
from statecraft.store.outbox import Subscribe
from statecraft.store.port import (
    Adjust,
    Amount,
    Charge,
    ClaimDue,
    Fired,
    Reserved,
    Store,
)
from statecraft.testing.conformance.calendar import NIGHTLY
from statecraft.testing.conformance.errands import fetched
from statecraft.testing.conformance.stories import (
    FOREVER,
    PAPER,
    Story,
    begun,
    ready,
    running,
)
from statecraft.testing.conformance.suite import Suite, behaviour, heads


def counted(state: str | None) -> tuple[str, object]:
    """A change that counts how often it was made."""
    number = int(state or 0) + 1
    return str(number), number


class Together(Suite):
    """What workers that share a database may rely on. Each store here stands for a program of its own."""

    @behaviour
    async def test_stores_that_open_an_empty_place_at_once_all_find_it_whole(self, place: Any) -> None:
        stores = [self.open(place) for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        try:
            assert len(set(await asyncio.gather(*(store.register(PAPER) for store in stores)))) == 1
            await begun(stores[0])
            assert [len(await store.runs(RunFilter())) for store in stores] == [1] * 4
        finally:
            await asyncio.gather(*(store.close() for store in stores))

    @behaviour
    async def test_two_stores_contend_without_loss(self, place: Any) -> None:
        async def work(store: Store) -> list[Story]:
            stories = [await begun(store) for _ in range(10)]

            async def drive(story: Story) -> None:
                for _ in range(10):
                    await store.submit(story.call(f'"{story.seq}"'))
                    await store.submit(story.move("more"))

            await asyncio.gather(*map(drive, stories))
            return stories

        async with self.two(place) as (one, two):
            done = await asyncio.gather(work(one), work(two))
            for story in [*done[0], *done[1]]:
                assert (await one.run(story.run_id)).seq == 10
                assert await two.verify(story.run_id) == []
            positions = [entry.pos for entry in await one.feed(0, limit=1_000)]
            assert positions == sorted(set(positions))
            assert len(positions) == 20 * (1 + 10 * 2)

    @behaviour
    async def test_who_follows_the_feed_while_two_stores_write_misses_nothing(self, place: Any) -> None:
        async def work(store: Store) -> None:
            stories = [await begun(store) for _ in range(5)]
            for _ in range(20):
                await asyncio.gather(*(store.submit(story.move("more")) for story in stories))

        async with self.two(place) as (one, two), self.opened(place) as reader:
            followed: list[FeedEntry] = []
            working = asyncio.gather(work(one), work(two))
            while not working.done():
                followed += await reader.feed(followed[-1].pos if followed else 0)
            await working
            followed += await reader.feed(followed[-1].pos, limit=1_000)
            assert len(followed) == 2 * 5 * 21
            assert followed == await reader.feed(0, limit=1_000)

    @behaviour
    async def test_one_key_started_by_two_stores_makes_one_run(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            machine = await one.register(PAPER)
            starts = [store.submit(Story(machine).start(key=str(number))) for number in range(20) for store in (one, two)]
            answers = await asyncio.gather(*starts)
            assert answers[::2] == answers[1::2]
            assert len(await one.runs(RunFilter())) == 20

    @behaviour
    async def test_keys_claimed_by_two_stores_in_opposite_order_make_one_run_each(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            machine, keys = await one.register(PAPER), [str(number) for number in range(40)]
            answers = await asyncio.gather(
                *(one.submit(Story(machine).start(key=key)) for key in keys),
                *(two.submit(Story(machine).start(key=key)) for key in reversed(keys)),
            )
            assert answers[:40] == answers[:39:-1]
            assert len(await one.runs(RunFilter())) == 40

    @behaviour
    async def test_of_two_stores_that_claim_the_same_runs_each_run_has_one_owner(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = [await begun(one, ready()) for _ in range(20)]
            claims = [store.submit(run.claim(name)) for run in runs for name, store in (("one", one), ("two", two))]
            outcomes = await asyncio.gather(*claims, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes].count(RunHeld) == 20
            assert {run.epoch for run in await heads(one, *runs)} == {1}

    @behaviour
    async def test_stores_that_claim_what_is_due_take_each_run_once(self, place: Any) -> None:
        async def take(store: Store, owner: str, machine: int) -> list[str]:
            mine: list[str] = []
            while found := await claimed_due(store, owner, machine):
                mine += found
            return mine

        async with self.two(place) as (one, two), self.opened(place) as three:
            runs = await asyncio.gather(
                *(begun(one, ready(number % 7) if number % 2 else running(lease_until=5)) for number in range(60))
            )
            machine = runs[0].machine
            taken = await asyncio.gather(
                *(take(store, name, machine) for store, name in ((one, "one"), (two, "two"), (three, "three")))
            )
            assert sorted(run for mine in taken for run in mine) == sorted(run.run_id.hex() for run in runs)
            for name, mine in zip(("one", "two", "three"), taken, strict=True):
                assert {(await one.run(bytes.fromhex(run))).owner for run in mine} <= {name}
            assert [run.epoch for run in await heads(one, *runs)] == [run.epoch + 1 for run in runs]

    @behaviour
    async def test_changes_of_one_meter_are_never_lost(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            changes = [store.submit(Adjust("m", counted)) for _ in range(100) for store in (one, two)]
            assert sorted(map(int, map(str, await asyncio.gather(*changes)))) == list(range(1, 201))

    @behaviour
    async def test_reservations_of_two_stores_never_overshoot_together(self, place: Any) -> None:
        async def spend(store: Store, run: Story, meters: str) -> int:
            granted = 0
            while True:
                answer = await store.submit(run.reserve(f'"{granted}"', *(Amount(meter, 10, 200) for meter in meters)))
                assert isinstance(answer, Reserved)
                if answer.refused is not None:
                    return granted
                granted += 1
                await store.submit(run.settle(f'"{granted - 1}"', *(Charge(meter, 7) for meter in meters)))

        async with self.two(place) as (one, two):
            runs = [await begun(one) for _ in range(4)]
            spending = [
                spend(store, run, meters) for run, store, meters in zip(runs, (one, two) * 2, ("mn", "nm") * 2, strict=True)
            ]
            granted = sum(await asyncio.gather(*spending))
            assert await one.used(["m", "n"]) == dict.fromkeys("mn", granted * 7)
            # Whoever was refused saw at most one reservation of each of the other three.
            assert 200 - 40 < granted * 7 <= 200

    @behaviour
    async def test_reservations_made_at_the_same_moment_never_overshoot(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = [await begun(one) for _ in range(40)]
            asked = [
                store.submit(run.reserve('"q"', Amount("m", 10, 95))) for run, store in zip(runs, (one, two) * 20, strict=True)
            ]
            answers = await asyncio.gather(*asked)
            assert [isinstance(answer, Reserved) and answer.refused is None for answer in answers].count(True) == 9

    @behaviour
    async def test_a_limit_of_a_machine_holds_for_all_who_claim_at_once(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = await asyncio.gather(*(begun(one, ready()) for _ in range(30)))
            claims = [ClaimDue(name, 100, FOREVER, (runs[0].machine,), 3, limits=(("paper", 7),)) for name in ("one", "two") * 5]
            answers = await asyncio.gather(*(store.submit(claim) for store, claim in zip((one, two) * 5, claims, strict=True)))
            assert sum(len(answer) for answer in answers if isinstance(answer, list)) == 7

    @behaviour
    async def test_an_instant_of_a_schedule_is_moved_on_by_one(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            for number in range(10):
                await one.submit(replace(NIGHTLY, name=str(number)))
            fired = [Fired(str(number), NIGHTLY.rule, 5_000, 6_000, ran=True) for number in range(10)]
            answers = await asyncio.gather(*map(one.submit, fired), *map(two.submit, fired))
            assert [bool(mine) + bool(yours) for mine, yours in zip(answers[:10], answers[10:], strict=True)] == [1] * 10

    @behaviour
    async def test_a_delivery_is_taken_by_one_carrier(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            await asyncio.gather(*(store.submit(Subscribe("ops", ("run.dead_lettered",), 1)) for store in (one, two)))
            runs = [await begun(one) for _ in range(20)]
            await asyncio.gather(*(store.submit(run.die()) for run, store in zip(runs, (one, two) * 10, strict=True)))
            taken = await asyncio.gather(*(fetched(store, 5_000, limit=3) for _ in range(5) for store in (one, two)))
            while more := await fetched(two, 5_000, limit=3):
                taken.append(more)
            events = [errand.event for errands in taken for errand in errands]
            assert len(events) == len(set(events)) == 20


async def claimed_due(store: Store, owner: str, machine: int) -> list[str]:
    """Ids of up to 7 due runs that the store takes."""
    answer = await store.submit(ClaimDue(owner, 100, FOREVER, (machine,), 7))
    assert isinstance(answer, list)
    return [run.id for run in answer]
