"""Several stores on one database at once: nothing is taken twice, nothing is lost, nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from statecraft.errors import (
    AlreadyDecided,
    Fenced,
    NotFound,
    RunClosed,
    RunHeld,
)
from statecraft.records import FeedEntry, RunFilter, RunRecord, Status
from statecraft.store.port import (
    Adjust,
    Amount,
    Cancel,
    Charge,
    ClaimDue,
    Head,
    Renew,
    Reserved,
    Store,
    Write,
)
from statecraft.testing.conformance.stories import (
    FOREVER,
    PAPER,
    Story,
    begun,
    child_of,
    question,
    ready,
    running,
    waiting_for_review,
)
from statecraft.testing.conformance.suite import Suite, behaviour, due, heads, taken


def counted(state: str | None) -> tuple[str, object]:
    """A change that counts how often it was made."""
    number = int(state or 0) + 1
    return str(number), number


class Together(Suite):
    """What workers that share a database may rely on. Each store here stands for a program of its own."""

    @asynccontextmanager
    async def two(self, place: Any) -> AsyncIterator[tuple[Store, Store]]:
        """Two stores on the same place."""
        async with self.opened(place) as one, self.opened(place) as two:
            yield one, two

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
    async def test_a_writer_whose_run_was_taken_over_is_refused(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            late = [await begun(one) for _ in range(6)]
            for run in late:
                await two.submit(run.claim("two", epoch=1))
            writes: list[Write] = [
                late[0].move("more"),
                late[1].call('"q"'),
                late[2].attempt('"q"', 1),
                late[3].sleep_until(9_000),
                late[4].reserve('"q"', Amount("m", 1, 9)),
                late[5].settle('"q"', Charge("m", 1)),
            ]
            outcomes = await asyncio.gather(*map(one.submit, writes), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [Fenced] * 6
            assert await one.submit(Renew(tuple((run.run_id, 1) for run in late), FOREVER)) == [run.run_id for run in late]

    @behaviour
    async def test_a_move_and_a_takeover_at_once_leave_one_truth(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = [await begun(one) for _ in range(30)]
            outcomes = await asyncio.gather(
                *(one.submit(run.move("more")) for run in runs),
                *(two.submit(run.claim("two", epoch=1)) for run in runs),
                return_exceptions=True,
            )
            for run, moved, claimed in zip(runs, outcomes[:30], outcomes[30:], strict=True):
                head = await one.run(run.run_id)
                assert isinstance(claimed, RunRecord)
                assert moved is None or isinstance(moved, Fenced)
                assert (head.owner, head.epoch, head.seq, claimed.seq) == ("two", 2, *[int(moved is None)] * 2)
                assert await two.verify(run.run_id) == []

    @behaviour
    async def test_a_lease_is_renewed_or_taken_never_both(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = [await begun(one, running(lease_until=80)) for _ in range(30)]
            renewals = [one.submit(Renew(((run.run_id, 1),), 200)) for run in runs]
            claims = [two.submit(run.claim("two", now=100, lease_until=300)) for run in runs]
            outcomes = await asyncio.gather(*renewals, *claims, return_exceptions=True)
            for run, lost, claimed in zip(runs, outcomes[:30], outcomes[30:], strict=True):
                assert lost in ([], [run.run_id])
                assert isinstance(claimed, RunHeld if lost == [] else RunRecord)

    @behaviour
    async def test_of_two_decisions_one_counts(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            run = await begun(one)
            await one.submit(run.ask_about(question()))
            decisions = [one.submit(run.decide(question())), two.submit(run.decide(question(), "reject", "bob"))]
            outcomes = await asyncio.gather(*decisions, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {type(None), AlreadyDecided}
            (review,) = await one.reviews(run.run_id)
            assert review.decided_by == ("ann" if outcomes[0] is None else "bob")

    @behaviour
    async def test_of_two_decisions_about_a_state_one_counts(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = [await waiting_for_review(one) for _ in range(10)]
            others = [replace(run) for run in runs]
            outcomes = await asyncio.gather(
                *(one.submit(run.move("approved", head=Head(Status.DONE), decision=True, actor="ann")) for run in runs),
                *(two.submit(run.move("rejected", head=ready(), decision=True, actor="bob")) for run in others),
                return_exceptions=True,
            )
            for run, yes, no in zip(runs, outcomes[:10], outcomes[10:], strict=True):
                assert {type(yes), type(no)} == {type(None), AlreadyDecided}
                (review,) = await one.reviews(run.run_id)
                assert review.decided_by == ("ann" if yes is None else "bob")

    @behaviour
    async def test_a_child_that_ends_while_its_parent_parks_wakes_it(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            for _ in range(10):
                parents = [await begun(one) for _ in range(4)]
                children = [await child_of(one, parent) for parent in parents]
                parks = [one.submit(parent.wait_for(child.run_id)) for parent, child in zip(parents, children, strict=True)]
                await asyncio.gather(*parks, *(two.submit(child.die()) for child in children))
                assert None not in [due(run) for run in await heads(one, *parents)]

    @behaviour
    async def test_a_decision_made_while_the_run_parks_again_wakes_it(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = [await begun(one) for _ in range(20)]
            for run in runs:
                await one.submit(run.ask_about(question()))
                run.epoch = (await taken(one, run.claim())).epoch
            await asyncio.gather(
                *(one.submit(run.ask_about(question())) for run in runs), *(two.submit(run.decide(question())) for run in runs)
            )
            assert [run.run_id for run in await heads_due_at(one, 9_000, runs)] == []

    @behaviour
    async def test_a_child_started_while_its_parent_ends_is_refused_or_cancelled(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            parents = [await begun(one) for _ in range(20)]
            children = [Story(parent.machine) for parent in parents]
            pairs = list(zip(parents, children, strict=True))
            outcomes = await asyncio.gather(
                *(one.submit(parent.die()) for parent in parents),
                *(two.submit(child.start(parent=parent.run_id)) for parent, child in pairs),
                return_exceptions=True,
            )
            for child, outcome in zip(children, outcomes[20:], strict=True):
                if isinstance(outcome, Fenced):
                    with pytest.raises(NotFound):
                        await one.run(child.run_id)
                else:
                    assert outcome == child.run_id
                    assert (await one.run(child.run_id)).status is Status.CANCELLED

    @behaviour
    async def test_families_that_end_from_both_sides_end_whole(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            tops = [await begun(one) for _ in range(8)]
            middles = [await child_of(one, top) for top in tops]
            lows = [await child_of(one, middle) for middle in middles for _ in range(2)]
            outcomes = await asyncio.gather(
                *(one.submit(run.die()) for run in tops),
                *(two.submit(Cancel(run.run_id, 5_000, "ann", "enough")) for run in reversed(lows)),
                *(two.submit(run.die()) for run in reversed(middles)),
                return_exceptions=True,
            )
            assert {type(outcome) for outcome in outcomes} <= {type(None), Fenced, RunClosed}
            assert outcomes[:8] == [None] * 8
            ended = await heads(two, *tops, *middles, *lows)
            assert [run.status.closed for run in ended] == [True] * 32
            assert [problem for run in ended for problem in await one.verify(bytes.fromhex(run.id))] == []

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
    async def test_a_cancel_and_a_move_at_once_leave_a_closed_run(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = [await begun(one) for _ in range(20)]
            outcomes = await asyncio.gather(
                *(one.submit(run.move("more")) for run in runs),
                *(two.submit(Cancel(run.run_id, 5_000, "ann", "enough")) for run in runs),
                return_exceptions=True,
            )
            assert outcomes[20:] == [None] * 20
            for run, moved in zip(runs, outcomes[:20], strict=True):
                head = await one.run(run.run_id)
                assert (head.status, head.seq) == (Status.CANCELLED, int(moved is None))
                assert await one.verify(run.run_id) == []


async def claimed_due(store: Store, owner: str, machine: int) -> list[str]:
    """Ids of up to 7 due runs that the store takes."""
    answer = await store.submit(ClaimDue(owner, 100, FOREVER, (machine,), 7))
    assert isinstance(answer, list)
    return [run.id for run in answer]


async def heads_due_at(store: Store, time: int, runs: list[Story]) -> list[Story]:
    """Those of the runs that nothing wakes before this time."""
    return [run for run in runs if due(await store.run(run.run_id)) == time]
