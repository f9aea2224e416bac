"""Group commit: writes share transactions, keep their order, and a refused one fails alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from statecraft.errors import (
    Fenced,
    StoreUnavailable,
    WriteRefused,
)
from statecraft.records import RunRecord, Status
from statecraft.store.port import (
    Adjust,
    Cancel,
    Move,
    Store,
    Write,
)
from statecraft.testing.conformance.stories import (
    PAPER,
    Story,
    begun,
    ready,
)
from statecraft.testing.conformance.suite import Suite, behaviour, heads


class Points:
    """A probe that counts commits."""

    def __init__(self) -> None:
        self.commits = 0

    def __call__(self, point: str) -> None:
        self.commits += point == "after"


class Batches(Suite):
    """What is submitted together."""

    @behaviour
    async def test_writes_submitted_together_share_one_commit(self, place: Any) -> None:
        points = Points()
        async with self.opened(place, points) as store:
            runs = [Story(await store.register(PAPER)) for _ in range(150)]
            before = points.commits
            await asyncio.gather(*(store.submit(run.start()) for run in runs))
            assert points.commits == before + 1
            await asyncio.gather(*(store.submit(run.move("more")) for run in runs))
            assert points.commits == before + 2

    @behaviour
    async def test_a_lone_write_is_not_held_back_for_company(self, place: Any) -> None:
        points = Points()
        async with self.opened(place, points) as store:
            run = await begun(store)
            before = points.commits
            for _ in range(5):
                await store.submit(run.move("more"))
            assert points.commits == before + 5

    @behaviour
    async def test_a_refused_write_fails_alone_and_its_neighbours_land_in_the_same_commit(self, place: Any) -> None:
        points = Points()
        async with self.opened(place, points) as store:
            runs = [await begun(store) for _ in range(9)]
            moves = [run.move("more") for run in runs]
            moves[2] = Move(replace(moves[2].transition, epoch=9))
            moves[4] = Move(replace(moves[4].transition, target="done"))
            moves[6] = Move(replace(moves[6].transition, payload="\ud800"))
            before = points.commits
            outcomes = await asyncio.gather(*map(store.submit, moves), return_exceptions=True)
            assert points.commits == before + 1
            none = type(None)
            assert [type(outcome) for outcome in outcomes] == [
                none,
                none,
                Fenced,
                none,
                WriteRefused,
                none,
                WriteRefused,
                none,
                none,
            ]
            assert [(await store.run(run.run_id)).seq for run in runs] == [1, 1, 0, 1, 0, 1, 0, 1, 1]
            assert [entry.kind for entry in await store.feed(0)].count("transition") == 6
            assert [problem for run in runs for problem in await store.verify(run.run_id)] == []

    @behaviour
    async def test_a_batch_of_every_sort_of_write_is_answered_write_by_write(self, store: Store) -> None:
        run, other, third = await begun(store), await begun(store, ready()), await begun(store)
        writes: list[Write] = [
            run.call('"a"'),
            other.claim("you"),
            replace(third.call('"b"'), epoch=7),
            Adjust("breaker:m", lambda state: (f"{state}+", state)),
            run.move("more"),
            Cancel(third.run_id, 2_000, "ann", "enough"),
            Adjust("breaker:m", lambda state: (f"{state}+", state)),
            third.move("more"),
            Story(run.machine).start(),
        ]
        outcomes = await asyncio.gather(*map(store.submit, writes), return_exceptions=True)
        none = type(None)
        assert [type(outcome) for outcome in outcomes] == [none, RunRecord, Fenced, none, none, none, str, Fenced, bytes]
        assert outcomes[6] == "None+"
        assert [head.status for head in await heads(store, run, other, third)] == [
            Status.RUNNING,
            Status.RUNNING,
            Status.CANCELLED,
        ]

    @behaviour
    async def test_writes_of_one_run_keep_their_order_within_a_batch(self, store: Store) -> None:
        run = await begun(store)
        writes: list[Write] = [
            run.call('"a"'),
            run.call('"b"'),
            run.move("more"),
            run.call('"c"'),
            run.move("more"),
            run.sleep_until(9),
        ]
        late = replace(run).call('"late"')
        outcomes = await asyncio.gather(*map(store.submit, [*writes, late]), return_exceptions=True)
        assert outcomes[:-1] == [None] * 6
        assert isinstance(outcomes[-1], Fenced)
        assert await store.verify(run.run_id) == []
        assert [(call.seq, call.idx) for call in await store.calls(run.run_id)] == [(0, 0), (0, 1), (1, 0)]

    @behaviour
    async def test_a_call_submitted_after_the_move_that_ends_its_visit_is_refused(self, store: Store) -> None:
        run = await begun(store)
        straggler = replace(run, calls=[]).call('"q"')
        outcomes = await asyncio.gather(store.submit(run.move("more")), store.submit(straggler), return_exceptions=True)
        assert outcomes[0] is None
        assert isinstance(outcomes[1], Fenced)
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_a_write_whose_writer_stopped_waiting_still_lands(self, store: Store) -> None:
        run = await begun(store)
        waiting = asyncio.ensure_future(store.submit(run.move("more")))
        await asyncio.wait([waiting], timeout=0)
        waiting.cancel()
        await store.submit(run.move("more"))
        assert (await store.run(run.run_id)).seq == 2

    @behaviour
    async def test_a_closed_store_takes_no_writes_and_answers_no_questions(self, place: Any) -> None:
        async with self.opened(place) as store:
            run = await begun(store)
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.submit(run.move("more"))
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.run(run.run_id)
        await store.close()
