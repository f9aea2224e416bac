"""Parents and children: the end of a child wakes its parent, the end of a parent ends all below it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from statecraft.errors import (
    Fenced,
    NotFound,
)
from statecraft.records import RunFilter, RunRecord, Status
from statecraft.store.port import (
    Cancel,
    Head,
    Store,
    Write,
)
from statecraft.testing.conformance.stories import (
    Story,
    begun,
    child_of,
    ready,
    waiting_for_review,
)
from statecraft.testing.conformance.suite import Suite, behaviour, due, heads

End = Callable[[Story], Write]
ENDS: dict[str, End] = {
    "moves into a final state": lambda run: run.move("gave_up", head=Head(Status.FAILED)),
    "dies": lambda run: run.die(),
    "is cancelled": lambda run: Cancel(run.run_id, 5_000, "ann", "enough"),
}


class Families(Suite):
    """What the end of a run does to its family."""

    @behaviour
    async def test_a_run_keeps_its_tenant_its_parent_and_its_draws(self, store: Store) -> None:
        parent = await begun(store)
        child = Story(parent.machine)
        await store.submit(child.start(tenant="acme", parent=parent.run_id, draws='[["run:x",{"calls":3}]]'))
        run = await store.run(child.run_id)
        assert (run.tenant, run.parent) == ("acme", parent.run_id.hex())
        assert (await store.load(child.run_id)).draws == '[["run:x",{"calls":3}]]'
        loaded = await store.load(parent.run_id)
        assert (loaded.run.tenant, loaded.run.parent, loaded.draws) == (None, None, None)

    @behaviour
    async def test_runs_are_listed_by_tenant_and_by_parent(self, store: Store) -> None:
        parent = await begun(store)
        children = [await child_of(store, parent) for _ in range(2)]
        assert await store.find("@last") == [parent.run_id.hex()]  # Children come and go while one looks.
        await store.submit(children[0].move("gave_up", head=Head(Status.FAILED)))
        other = Story(parent.machine)
        await store.submit(other.start(tenant="acme"))
        found = await store.runs(RunFilter(parent=parent.run_id.hex()))
        assert [run.id for run in found] == [child.run_id.hex() for child in reversed(children)]
        assert [run.id for run in await store.runs(RunFilter(tenant="acme"))] == [other.run_id.hex()]
        assert await store.runs(RunFilter(parent="no such id")) == []
        assert await store.runs(RunFilter(tenant="acme", parent=parent.run_id.hex())) == []

    @pytest.mark.parametrize("how", ENDS)
    @behaviour
    async def test_when_a_child_ends_its_waiting_parent_is_due(self, store: Store, how: str) -> None:
        parent = await begun(store)
        child, twin = await child_of(store, parent), await child_of(store, parent)
        await store.submit(parent.wait_for(child.run_id, twin.run_id))
        assert due(await store.run(parent.run_id)) is None
        assert await store.next_due([parent.machine], None) is not None
        end = ENDS[how](child)
        await store.submit(end)
        run, other = await heads(store, parent, twin)
        assert run.status is Status.WAITING
        assert due(run) == (5_000 if isinstance(end, Cancel) else child.at)
        assert other.status is Status.RUNNING

    @behaviour
    async def test_the_end_of_a_child_moves_a_due_time_forward_only(self, store: Store) -> None:
        early, late = await begun(store), await begun(store)
        children = [await child_of(store, parent) for parent in (early, late)]
        for parent, child, due_at in zip((early, late), children, (500, 90_000), strict=True):
            await store.submit(parent.wait_for(child.run_id, due_at=due_at))
            await store.submit(child.die())
        assert [due(run) for run in await heads(store, early, late)] == [500, children[1].at]

    @behaviour
    async def test_a_step_of_a_child_wakes_nobody(self, store: Store) -> None:
        parent = await begun(store)
        child = await child_of(store, parent)
        await store.submit(parent.wait_for(child.run_id))
        await store.submit(child.call('"q"'))
        await store.submit(child.move("more"))
        await store.submit(child.sleep_until(9_000))
        assert due(await store.run(parent.run_id)) is None

    @behaviour
    async def test_a_child_that_ended_before_its_parent_parked_makes_it_due_at_once(self, store: Store) -> None:
        parent = await begun(store)
        child, twin = await child_of(store, parent), await child_of(store, parent)
        await store.submit(child.die())
        await store.submit(parent.wait_for(twin.run_id, child.run_id))
        assert due(await store.run(parent.run_id)) == parent.at
        taken = await store.submit(parent.claim())
        assert isinstance(taken, RunRecord)
        parent.epoch = taken.epoch
        await store.submit(parent.wait_for(twin.run_id))
        assert due(await store.run(parent.run_id)) is None

    @pytest.mark.parametrize("child_first", [True, False])
    @behaviour
    async def test_a_child_that_ends_while_its_parent_parks_makes_it_due_in_either_order(
        self, store: Store, child_first: bool
    ) -> None:
        parent = await begun(store)
        child = await child_of(store, parent)
        writes: list[Write] = [child.die(), parent.wait_for(child.run_id)]
        await asyncio.gather(*map(store.submit, writes if child_first else reversed(writes)))
        assert due(await store.run(parent.run_id)) is not None

    @pytest.mark.parametrize("how", ENDS)
    @behaviour
    async def test_when_a_parent_ends_all_open_runs_below_it_are_cancelled(self, store: Store, how: str) -> None:
        top = await begun(store)
        held, queued, done = await child_of(store, top), await child_of(store, top, ready()), await child_of(store, top)
        below = await child_of(store, held)
        deeper = await child_of(store, below)
        stranger = await begun(store)
        await store.submit(done.move("gave_up", head=Head(Status.FAILED)))
        await store.submit(deeper.sleep_until(9_000))
        await store.submit(ENDS[how](top))
        for child, parent in ((held, top), (queued, top), (below, held), (deeper, below)):
            run = await store.run(child.run_id)
            assert (run.status, run.epoch, run.owner, run.due_at) == (Status.CANCELLED, child.epoch + 1, None, None)
            assert run.reason == f"its parent {parent.run_id.hex()} ended"
            (told,) = [entry for entry in await store.feed(0, child.run_id) if entry.kind == "cancelled"]
            assert told.detail["reason"] == run.reason
            assert await store.verify(child.run_id) == []
        assert [run.status for run in await heads(store, done, stranger)] == [Status.FAILED, Status.RUNNING]
        with pytest.raises(Fenced):
            await store.submit(below.call('"q"'))
        with pytest.raises(Fenced):
            await store.submit(held.move("more"))

    @behaviour
    async def test_a_decision_that_ends_a_parent_cancels_its_children(self, store: Store) -> None:
        parent = await waiting_for_review(store)
        child = await child_of(store, parent)
        await store.submit(parent.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
        assert (await store.run(child.run_id)).status is Status.CANCELLED

    @behaviour
    async def test_a_family_that_ends_in_one_batch_ends_whole(self, store: Store) -> None:
        top = await begun(store)
        middle = await child_of(store, top)
        low, other = await child_of(store, middle), await child_of(store, middle)
        writes: list[Write] = [low.die(), top.die(), other.call('"q"')]
        assert await asyncio.gather(*map(store.submit, writes)) == [None] * 3
        statuses = [run.status for run in await heads(store, top, middle, low, other)]
        assert statuses == [Status.DEAD, Status.CANCELLED, Status.DEAD, Status.CANCELLED]
        assert len(await store.calls(other.run_id)) == 1

    @behaviour
    async def test_nobody_starts_a_child_of_a_run_that_has_ended_or_never_was(self, store: Store) -> None:
        parent = await begun(store)
        await store.submit(parent.die())
        writes = [Story(parent.machine).start(parent=parent.run_id), Story(parent.machine).start(parent=b"?" * 16)]
        neighbour = Story(parent.machine).start()
        outcomes = await asyncio.gather(*map(store.submit, [*writes, neighbour]), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Fenced, NotFound, bytes]
        assert "dead in draft" in str(outcomes[0])
        assert len(await store.runs(RunFilter())) == 2

    @behaviour
    async def test_a_childs_key_answers_the_child_that_has_it_even_when_the_parent_has_ended(self, store: Store) -> None:
        parent = await begun(store)
        child = Story(parent.machine)
        assert await store.submit(child.start(key="k", parent=parent.run_id)) == child.run_id
        assert await store.submit(Story(parent.machine).start(key="k", parent=parent.run_id)) == child.run_id
        await store.submit(parent.die())
        assert await store.submit(Story(parent.machine).start(key="k", parent=parent.run_id)) == child.run_id
