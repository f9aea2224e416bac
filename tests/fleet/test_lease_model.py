"""Every order of everything that may happen to a lease, and the proof that the check can fail."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from statecraft.errors import Fenced
from statecraft.records import RunRecord, Status
from statecraft.store.port import Cancel, Claim, Head, Park, Renew, Write
from statecraft.store.sql import SqlStore
from tests.fleet.lease_model import FENCES, OWNERS, STEPS, World, explore, steps
from tests.store.rig import PAPER, Story, ready, within

LEASE = 1_000


@pytest.mark.slow
def test_nothing_wrong_can_be_reached_and_an_end_always_can() -> None:
    found = explore("epoch and step")
    print(found)
    assert found.wrong == {}
    assert found.stranded == 0
    assert found.states > 5_000, "the world has become too small to prove anything"


@pytest.mark.slow
def test_a_call_is_made_at_most_once_for_each_time_that_a_holder_is_lost() -> None:
    """One death, two leases that end, one park and the first claim: each may begin the call anew until it is recorded."""
    assert 2 <= explore("epoch and step").most_effects <= 5


def test_a_fence_by_the_name_of_the_owner_lets_a_process_that_claims_again_what_it_still_works_on_do_harm() -> None:
    found = explore("owner", to_the_end=False)
    (what, way), *_ = found.wrong.items()
    print(what, way)
    assert what == "a recorded call was made again by a later holder"
    assert "the lease ends" in way
    claims = [name for name in way if name.endswith("claims")]
    assert {OWNERS[int(name[0])] for name in claims} == {"here"}, "one process is enough"


@pytest.mark.slow
def test_the_epoch_alone_would_do_while_epochs_are_raised_by_every_claim() -> None:
    assert explore("epoch").wrong == {}


@pytest.mark.parametrize("fence", sorted(FENCES.keys() - {"epoch and step", "epoch"}))
def test_every_weaker_fence_has_a_counterexample(fence: str) -> None:
    assert explore(fence, to_the_end=False).wrong


# --- the model and the store say the same -----------------------------------------------------------------------------


@dataclass
class Twin:
    """The same walk in the model and in a store: whatever the model refuses the store refuses, and the other way round."""

    store: SqlStore
    story: Story
    """The run as committed."""
    world: World = field(default_factory=World)
    now: int = 10_000
    minds: dict[int, Story] = field(default_factory=dict)
    """What each execution has in memory."""

    async def follow(self, name: str, after: World) -> None:
        who, _, what = name.partition(" ")
        self.now += 1
        if name == "the lease ends":
            self.now += 2 * LEASE
        elif name == "cancelled":
            await self.store.submit(Cancel(self.story.run_id, self.now, "ann", "enough"))
        elif what in ("dies", "calls"):
            pass
        elif what == "claims":
            claim = Claim(self.story.run_id, OWNERS[int(who)], self.now, self.now + LEASE)
            run = await self.store.submit(claim)
            assert isinstance(run, RunRecord)
            self.minds[int(who)] = replace(deepcopy(self.story), epoch=run.epoch)
        else:
            await self._write(int(who), what)
        self.world = after

    async def _write(self, who: int, what: str) -> None:
        mind = self.minds[who]
        if what == "renews":
            assert await self.store.submit(Renew(((mind.run_id, mind.epoch),), self.now + LEASE)) == []
            return
        called = (mine := self.world.executions[who]) is not None and mine.called
        if what == "records" or (what == "is refused" and called):
            write: Write = mind.call('"where?"')
        elif what == "parks":
            write = Park(mind.run_id, mind.seq, mind.epoch, self.now, ready(self.now))
        else:
            last = mind.seq == STEPS - 1
            write = mind.move("gave_up" if last else "more", head=Head(Status.FAILED) if last else None)
        if what == "is refused":
            with pytest.raises(Fenced):
                await self.store.submit(write)
        else:
            assert await self.store.submit(write) is None
            self.story = deepcopy(mind)

    async def agree(self) -> None:
        run = await self.store.run(self.story.run_id)
        moves = [move.epoch for move in await self.store.history(self.story.run_id)][1:]
        calls = [(call.seq, call.epoch) for call in await self.store.calls(self.story.run_id)]
        status = {"failed": "done"}.get(run.status, str(run.status))
        expected = "ready" if self.world.status == "waiting" else self.world.status
        assert (status, run.epoch, moves, calls) == (expected, self.world.epoch, [*self.world.journal], [*self.world.calls])
        assert await self.store.verify(self.story.run_id) == []


@pytest.mark.slow
def test_the_store_accepts_and_refuses_what_the_model_does_on_random_walks() -> None:
    async def walk(store: SqlStore) -> None:
        chance, machine, refusals = Random(11), await store.register(PAPER), 0
        for _ in range(150):
            twin = Twin(store, Story(machine, epoch=0))
            await store.submit(twin.story.start(ready()))
            while choices := list(steps(twin.world, FENCES["epoch and step"])):
                name, after = chance.choice(choices)
                refusals += name.endswith("is refused")
                await twin.follow(name, after)
            await twin.agree()
        assert refusals > 50, "walks in which nobody comes too late prove nothing"

    within("sqlite://", walk)
