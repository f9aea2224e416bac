"""The protocol of claims, fences and journals against a model: workers crash, oversleep, and come back too late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from statecraft.errors import Fenced, RunClosed, RunHeld
from statecraft.records import RunRecord, Status
from statecraft.store import open_store
from statecraft.store.port import Cancel, ClaimDue, Head, Renew, Write
from statecraft.store.sql import SqlStore
from tests.store.rig import PAPER, Story, ready

R = TypeVar("R")
LEASE = 10
WORKERS, RUNS = st.integers(0, 2), st.integers(0, 1)


@dataclass
class Expected:
    """What the model believes of one run."""

    status: Status = Status.READY
    epoch: int = 0
    seq: int = 0
    lease_until: int = 0
    calls: dict[int, int] = field(default_factory=dict)
    """Calls by step."""

    def held(self, story: Story) -> bool:
        return (self.status, self.epoch, self.seq) == (Status.RUNNING, story.epoch, story.seq)


class Protocol(RuleBasedStateMachine):
    """Two runs, three workers of which two share an owner's name; each worker works from memory, however stale."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        store = open_store("sqlite://")
        assert isinstance(store, SqlStore)
        self.store = store
        self.now = 100
        self.stories: list[Story] = []
        self.expected = [Expected(), Expected()]
        self.memory: dict[tuple[int, int], Story] = {}

    def wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self.runner.run(coroutine)

    def submit(self, write: Write) -> object:
        async def go() -> object:
            return await self.store.submit(write)

        try:
            return self.wait(go())
        except (Fenced, RunHeld, RunClosed) as refusal:
            return refusal

    @initialize()
    def start(self) -> None:
        self.wait(self.store.open())
        machine = self.wait(self.store.register(PAPER))
        self.stories = [Story(machine, epoch=0) for _ in self.expected]
        for story in self.stories:
            self.submit(story.start(ready(self.now)))

    def taken(self, worker: int, run: int, record: object) -> None:
        model = self.expected[run]
        model.status, model.epoch, model.lease_until = Status.RUNNING, model.epoch + 1, self.now + LEASE
        assert isinstance(record, RunRecord)
        assert (record.status, record.epoch, record.seq) == (Status.RUNNING, model.epoch, model.seq)
        loaded = self.wait(self.store.load(self.stories[run].run_id))
        story = replace(self.stories[run], epoch=record.epoch, seq=record.seq, state=record.state, hash=loaded.hash)
        self.memory[worker, run] = replace(story, calls=list(loaded.call_hashes), marks=list(loaded.marks))

    @rule(worker=WORKERS, run=RUNS)
    def claim(self, worker: int, run: int) -> None:
        model = self.expected[run]
        claim = replace(self.stories[run].claim(f"owner {worker // 2}", self.now), lease_until=self.now + LEASE)
        answer = self.submit(claim)
        if model.status.closed:
            assert isinstance(answer, RunClosed)
        elif model.status is Status.RUNNING and model.lease_until > self.now:
            assert isinstance(answer, RunHeld)
        else:
            self.taken(worker, run, answer)

    @rule(worker=WORKERS, limit=st.integers(1, 2))
    def claim_due(self, worker: int, limit: int) -> None:
        order = [(model.status is not Status.RUNNING, run) for run, model in enumerate(self.expected) if self.due(model)]
        answer = self.submit(ClaimDue(f"owner {worker // 2}", self.now, self.now + LEASE, (1,), limit))
        assert isinstance(answer, list)
        assert len(answer) == min(limit, len(order))
        number = {story.run_id.hex(): run for run, story in enumerate(self.stories)}
        found = [number[record.id] for record in answer]
        late = [run for ready, run in order if not ready]
        assert set(found[: len(late)]) <= set(late)
        for run, record in zip(found, answer, strict=True):
            self.taken(worker, run, record)

    def due(self, model: Expected) -> bool:
        return model.status is Status.READY or (model.status is Status.RUNNING and model.lease_until <= self.now)

    @rule()
    def time_passes(self) -> None:
        self.now += LEASE // 2

    @rule(worker=WORKERS)
    def crash(self, worker: int) -> None:
        self.memory = {key: story for key, story in self.memory.items() if key[0] != worker}

    def act(self, data: st.DataObject, write: Callable[[Story], Write], done: Callable[[Expected, Story], None]) -> None:
        """A worker writes from memory: it succeeds exactly if the model says that it holds the run."""
        key = data.draw(st.sampled_from(sorted(self.memory)))
        story, model = self.memory[key], self.expected[key[1]]
        holds, after = model.held(story), replace(story, calls=list(story.calls))
        answer = self.submit(write(after))
        if holds:
            assert answer is None
            self.memory[key] = after
            done(model, after)
            if model.status.closed:
                del self.memory[key]
        else:
            assert isinstance(answer, Fenced)
            del self.memory[key]

    @precondition(lambda self: self.memory)
    @rule(data=st.data(), event=st.sampled_from(["more", "more", "gave_up"]))
    def move(self, data: st.DataObject, event: str) -> None:
        head = Head(Status.FAILED) if event == "gave_up" else None

        def moved(model: Expected, story: Story) -> None:
            model.seq, model.status = story.seq, model.status if head is None else head.status

        self.act(data, lambda story: story.move(event, head=head), moved)

    @precondition(lambda self: self.memory)
    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        def called(model: Expected, story: Story) -> None:
            model.calls[story.seq] = len(story.calls)

        self.act(data, lambda story: story.call(f'"{story.seq}.{len(story.calls)}"'), called)

    @precondition(lambda self: self.memory)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        def parked(model: Expected, story: Story) -> None:
            model.status = Status.READY

        self.act(data, lambda story: replace(story.sleep_until(1), head=ready(self.now)), parked)

    @precondition(lambda self: self.memory)
    @rule(worker=WORKERS)
    def renew(self, worker: int) -> None:
        mine = {run: story for (who, run), story in self.memory.items() if who == worker}
        held = tuple((story.run_id, story.epoch) for story in mine.values())
        lost = self.submit(Renew(held, self.now + LEASE))
        assert isinstance(lost, list)
        for run, story in mine.items():
            model = self.expected[run]
            kept = model.status is Status.RUNNING and model.epoch == story.epoch
            assert kept == (story.run_id not in lost)
            if kept:
                model.lease_until = self.now + LEASE

    @rule(run=RUNS, often=st.integers(0, 5))
    def cancel(self, run: int, often: int) -> None:
        if often:
            return
        model = self.expected[run]
        answer = self.submit(Cancel(self.stories[run].run_id, self.now, "ann", ""))
        assert isinstance(answer, RunClosed) == model.status.closed
        if not model.status.closed:
            model.status, model.epoch = Status.CANCELLED, model.epoch + 1

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        for story, model in zip(self.stories, self.expected, strict=False):
            run = self.wait(self.store.run(story.run_id))
            assert (run.status, run.epoch, run.seq) == (model.status, model.epoch, model.seq)

    def teardown(self) -> None:
        for story, model in zip(self.stories, self.expected, strict=False):
            assert self.wait(self.store.verify(story.run_id)) == []
            calls = self.wait(self.store.calls(story.run_id))
            assert {call.seq: call.idx + 1 for call in calls} == model.calls
            epochs = [move.epoch for move in self.wait(self.store.history(story.run_id))]
            assert epochs == sorted(epochs)
        self.wait(self.store.close())
        self.runner.close()


@pytest.mark.slow
def test_no_interleaving_of_workers_forks_a_history() -> None:
    run_state_machine_as_test(Protocol, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))
