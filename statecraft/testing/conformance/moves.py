"""A run moves along its machine, under a lease, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statecraft.clock import instant
from statecraft.errors import (
    Fenced,
    NotFound,
    WriteRefused,
)
from statecraft.records import Status
from statecraft.store.port import (
    Cancel,
    Head,
    Move,
    Store,
)
from statecraft.testing.conformance.stories import (
    PAPER,
    Story,
    begun,
    ready,
)
from statecraft.testing.conformance.suite import Suite, behaviour, refused

FENCES = {"an older epoch": (0, 1), "a newer epoch": (2, 1), "a step too many": (1, 2)}
"""(epoch, steps) of a move that is not the next one of a run at epoch 1."""


class Moves(Suite):
    """Steps, fences, heads and snapshots."""

    @behaviour
    async def test_a_move_goes_on_under_the_same_lease(self, store: Store) -> None:
        run = await begun(store)
        assert await store.submit(run.move("more")) is None
        head = await store.run(run.run_id)
        assert (head.seq, head.state, head.status, head.owner, head.epoch) == (1, "draft", Status.RUNNING, "me", 1)

    @behaviour
    async def test_a_move_with_a_head_gives_the_lease_up(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.move("gave_up", head=Head(Status.FAILED)))
        head = await store.run(run.run_id)
        assert (head.status, head.owner, head.lease_until, head.state) == (Status.FAILED, None, None, "failed")
        assert head.updated_at == instant(run.at)

    @behaviour
    async def test_a_move_starts_the_count_of_claims_again(self, store: Store) -> None:
        run = await begun(store, ready())
        await store.submit(run.claim())
        run.epoch = 1
        assert (await store.run(run.run_id)).attempts == 1
        await store.submit(run.move("more"))
        assert (await store.run(run.run_id)).attempts == 0

    @pytest.mark.parametrize("fence", FENCES)
    @behaviour
    async def test_a_fenced_move_writes_nothing(self, store: Store, fence: str) -> None:
        epoch, steps = FENCES[fence]
        run = await begun(store)
        run.epoch = epoch
        for _ in range(steps - 1):
            run.move("more")
        await refused(store, run.move("more", snapshot="{}"), Fenced, run.run_id.hex(), f"epoch {epoch}")

    @behaviour
    async def test_the_same_move_twice_is_fenced(self, store: Store) -> None:
        run = await begun(store)
        move = run.move("more")
        await store.submit(move)
        await refused(store, move, Fenced)

    @behaviour
    async def test_whoever_gave_a_run_up_cannot_write_to_it(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.sleep_until(9_000))
        for late in (run.call('"q"'), run.attempt('"q"', 1), run.sleep_until(9_000), run.die(), run.move("more")):
            await refused(store, late, Fenced, "waiting")

    @behaviour
    async def test_a_write_to_a_run_that_does_not_exist_says_so(self, store: Store) -> None:
        nobody = Story(await store.register(PAPER))
        for write in (nobody.call('"q"'), nobody.sleep_until(1), nobody.claim(), Cancel(nobody.run_id, 1, "ann", "")):
            await refused(store, write, NotFound, nobody.run_id.hex())

    @behaviour
    async def test_an_illegal_move_is_refused_by_name(self, store: Store) -> None:
        run = await begun(store)
        move = run.move("more")
        unknown = Move(replace(move.transition, target="done"))
        await refused(store, unknown, WriteRefused, run.run_id.hex())
        elsewhere = Move(replace(move.transition, source="review", event="approved", target="done"))
        await refused(store, elsewhere, WriteRefused, run.run_id.hex())
        await store.submit(move)

    @behaviour
    async def test_a_head_that_cannot_be_is_refused_by_name(self, store: Store) -> None:
        run = await begun(store)
        move = run.move("more")
        for head in (Head(Status.READY), Head(Status.WAITING), Head(Status.RUNNING), replace(ready(), owner="me")):
            await refused(store, replace(move, head=head), WriteRefused, run.run_id.hex())

    @behaviour
    async def test_what_cannot_be_stored_is_refused_and_the_store_goes_on(self, store: Store) -> None:
        run = await begun(store)
        move = run.move("more")
        for payload in ('"\ud800"', '"' + "\ud800" * 5000 + '"'):
            await refused(store, Move(replace(move.transition, payload=payload)), WriteRefused)
        await refused(store, Move(replace(move.transition, at=2**70)), WriteRefused)
        await store.submit(move)

    @behaviour
    async def test_a_snapshot_replaces_the_older_one(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.move("more", snapshot='{"n":1}'))
        await store.submit(run.move("more"))
        await store.submit(run.move("more", snapshot='{"n":3}'))
        await store.submit(run.move("more", payload='{"n":4}'))
        loaded = await store.load(run.run_id)
        assert (loaded.snapshot, loaded.snapshot_at) == ((3, '{"n":3}'), 3)
        assert loaded.tail == ((4, "more", '{"n":4}'),)
        assert loaded.payload_bytes == len('{"n":4}')
