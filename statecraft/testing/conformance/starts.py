"""A run begins once, as a path in a machine that is known."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from statecraft.errors import (
    NotFound,
    WriteRefused,
)
from statecraft.records import RunFilter, Status
from statecraft.store.port import (
    Store,
)
from statecraft.testing.conformance.stories import (
    PAPER,
    Story,
    begun,
)
from statecraft.testing.conformance.suite import Suite, behaviour, refused, seen


class Starts(Suite):
    """How runs start, and which start owns a key."""

    @behaviour
    async def test_a_start_writes_the_head_and_the_first_step(self, store: Store) -> None:
        run = Story(await store.register(PAPER))
        assert await store.submit(run.start(key="order-1")) == run.run_id
        head = await store.run(run.run_id)
        assert (head.id, head.machine, head.version, head.fingerprint) == (run.run_id.hex(), "paper", "1", "a" * 64)
        assert (head.status, head.state, head.seq, head.epoch, head.owner) == (Status.RUNNING, "draft", 0, 1, "me")
        assert (head.key, head.trace_id, head.attempts) == ("order-1", "trace", 0)
        (first,) = await store.history(run.run_id)
        assert (first.seq, first.source, first.event, first.target) == (0, "", "start", "draft")
        assert first.payload == {"topic": "bees"}
        assert first.guards == (("fits", True),)
        assert first.hash == run.hash

    @behaviour
    async def test_starting_again_with_the_same_key_answers_the_run_that_owns_it_and_writes_nothing(self, store: Store) -> None:
        first = await begun(store, key="order-1")
        before = await seen(store)
        again = Story(first.machine)
        assert await store.submit(again.start(key="order-1")) == first.run_id
        assert await seen(store) == before

    @behaviour
    async def test_of_many_starts_with_one_key_at_once_one_wins_and_all_agree(self, store: Store) -> None:
        machine = await store.register(PAPER)
        answers = await asyncio.gather(*(store.submit(Story(machine).start(key="order-1")) for _ in range(20)))
        (owner,) = set(answers)
        (run,) = await store.runs(RunFilter())
        assert owner == bytes.fromhex(run.id)

    @behaviour
    async def test_runs_without_a_key_are_all_different(self, store: Store) -> None:
        runs = [await begun(store) for _ in range(3)]
        assert [run.id for run in await store.runs(RunFilter())] == [run.run_id.hex() for run in reversed(runs)]

    @behaviour
    async def test_a_run_cannot_start_twice_under_one_id(self, store: Store) -> None:
        run = await begun(store)
        await refused(store, Story(run.machine, run.run_id).start(), WriteRefused, run.run_id.hex())

    @behaviour
    async def test_a_start_that_is_no_edge_of_the_machine_is_refused(self, store: Store) -> None:
        start = Story(await store.register(PAPER)).start()
        wrong = replace(start, transition=replace(start.transition, target="review"))
        await refused(store, wrong, WriteRefused, start.transition.run_id.hex())

    @behaviour
    async def test_a_machine_is_registered_once(self, store: Store) -> None:
        numbers = await asyncio.gather(*(store.register(PAPER) for _ in range(5)))
        assert len(set(numbers)) == 1
        spec = await store.spec(PAPER.fingerprint)
        assert (spec.name, spec.version, spec.spec) == (PAPER.name, PAPER.version, PAPER.spec)
        assert set(spec.edges) == set(PAPER.edges)
        with pytest.raises(NotFound):
            await store.spec("c" * 64)

    @behaviour
    async def test_two_rows_that_lead_to_the_same_edge_make_one_edge(self, store: Store) -> None:
        await store.register(replace(PAPER, edges=PAPER.edges + PAPER.edges))
        assert sorted((await store.spec(PAPER.fingerprint)).edges) == sorted(PAPER.edges)
