"""Two stores that write about the same runs at the same moment: one of both orders is what happened, and it is whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from statecraft.errors import (
    AlreadyDecided,
    Fenced,
    NotDead,
    NotFound,
    RunClosed,
    RunHeld,
)
from statecraft.records import RunRecord, Status
from statecraft.store.port import (
    Amount,
    Cancel,
    Charge,
    Head,
    Renew,
    Store,
    Write,
)
from statecraft.testing.conformance.letters import dead, redriven
from statecraft.testing.conformance.stories import (
    FOREVER,
    Story,
    begun,
    child_of,
    question,
    ready,
    running,
    waiting_for_review,
)
from statecraft.testing.conformance.suite import Suite, behaviour, due, heads, taken


class Races(Suite):
    """What becomes of a run, a family, a question when two write about it at once."""

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
    async def test_a_dead_run_is_redriven_once(self, place: Any) -> None:
        async with self.two(place) as (one, two):
            runs = [await dead(one) for _ in range(10)]
            writes = [[redriven(replace(run, calls=[])) for run in runs] for _ in range(2)]
            outcomes = await asyncio.gather(*map(one.submit, writes[0]), *map(two.submit, writes[1]), return_exceptions=True)
            for mine, yours in zip(outcomes[:10], outcomes[10:], strict=True):
                assert {type(mine), type(yours)} == {type(None), NotDead}

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


async def heads_due_at(store: Store, time: int, runs: list[Story]) -> list[Story]:
    """Those of the runs that nothing wakes before this time."""
    return [run for run in runs if due(await store.run(run.run_id)) == time]
