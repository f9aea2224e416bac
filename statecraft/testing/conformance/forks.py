"""Forks: a new run that shares the history of another up to a step, written whole or not at all."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from statecraft.clock import instant
from statecraft.errors import NotFound, WriteRefused
from statecraft.records import Status
from statecraft.store.port import Amount, Charge, Claim, Fork, Head, MachineSpec, Store
from statecraft.testing.conformance.stories import FOREVER, IDS, LONG, PAPER, Story, conversation, question, running
from statecraft.testing.conformance.suite import Suite, behaviour, refused, taken

BOOK = MachineSpec("book", "1", "e" * 64, "{}", (*PAPER.edges, ("draft", "forked", "draft"), ("review", "forked", "review")))
"""A machine whose runs can be forked with other data."""


def fork_of(run: Story, step: int, **other: Any) -> Fork:
    """A fork of the run at a step, by bob."""
    facts = {"at": 7_000, "by": "bob", "note": "what if", "key": None, "deadline_at": None, "trace_id": "t", "max_steps": 40}
    return Fork(source=run.run_id, step=step, run_id=IDS.run_id(7_000), **{**facts, **other})


async def worked(store: Store, **start: Any) -> Story:
    """A run with two visits that have ended and one that goes on, each with a call, an attempt and what its call cost."""
    run = Story(await store.register(BOOK))
    await store.submit(run.start(**start))
    for number in range(3):
        meters = (Charge(f"run:{run.run_id.hex()}:calls", 1), Charge(f"state:{run.run_id.hex()}:draft:tokens", 5))
        others = (Charge("tenant:acme:0+1:tokens", 5), Charge(f"run:{'0' * 32}:tokens", 5))
        await store.submit(run.attempt(f'"{number}"', 1))
        await store.submit(replace(run.call(f'"{number}"', LONG), charges=(*meters, *others)))
        if number < 2:
            await store.submit(run.move("more", payload=LONG))
    return run


class Forks(Suite):
    """What a fork shares, and what it does not."""

    @behaviour
    async def test_a_fork_has_the_history_up_to_its_step_and_begins_the_visit_anew(self, store: Store) -> None:
        run = await worked(store, tenant="acme", key="mine")
        write = fork_of(run, 1, key="fork", deadline_at=9_000)
        assert await store.submit(write) == write.run_id
        head = await store.run(write.run_id)
        assert (head.status, head.state, head.seq, head.due_at) == (Status.READY, "draft", 1, instant(7_000))
        assert (head.forked_from, head.forked_step, head.forked_by, head.forked_note) == (run.run_id.hex(), 1, "bob", "what if")
        assert (head.key, head.tenant, head.parent, head.created_at) == ("fork", "acme", None, instant(7_000))
        mine, theirs = await store.history(write.run_id), await store.history(run.run_id)
        facts = ("seq", "source", "event", "target", "at", "payload", "guards", "actor", "calls", "usage")
        assert [[getattr(move, name) for name in facts] for move in mine] == [
            [getattr(move, name) for name in facts] for move in theirs[:2]
        ]
        assert all(a.hash != b.hash for a, b in zip(mine, theirs, strict=False))
        assert [call.result for call in await store.calls(write.run_id)] == [json.loads(LONG)]
        assert [(each.seq, each.attempt) for each in await store.attempts(write.run_id)] == [(0, 1)]
        loaded = await store.load(write.run_id)
        assert (loaded.visits, loaded.calls, loaded.attempts, loaded.marks) == ({"draft": 2}, (), (), ())
        assert await store.verify(write.run_id) == await store.verify(run.run_id) == []

    @behaviour
    async def test_a_fork_goes_on_by_itself_and_changes_nothing_of_the_other(self, store: Store) -> None:
        run = await worked(store)
        before = [await store.load(run.run_id), await store.history(run.run_id), await store.feed(0, run.run_id)]
        write = fork_of(run, 2)
        await store.submit(write)
        loaded = await store.load(write.run_id)
        fork = Story(run.machine, write.run_id, loaded.run.epoch, 2, "draft", 8_000, loaded.hash)
        fork.epoch = (await taken(store, Claim(write.run_id, "me", 8_000, FOREVER, None))).epoch
        await store.submit(fork.call('"other"'))
        await store.submit(fork.move("gave_up", head=Head(Status.FAILED)))
        assert (await store.run(write.run_id)).status is Status.FAILED
        assert await store.verify(write.run_id) == []
        assert [await store.load(run.run_id), await store.history(run.run_id), await store.feed(0, run.run_id)] == before

    @behaviour
    async def test_other_data_is_one_more_move_that_is_no_visit_and_no_step(self, store: Store) -> None:
        run = await worked(store)
        write = fork_of(run, 1, data='{"data":{"topic":"wasps"}}', snapshot='{"topic":"wasps"}')
        await store.submit(write)
        last = (await store.history(write.run_id))[-1]
        assert (last.seq, last.source, last.event, last.target) == (2, "draft", "forked", "draft")
        assert (last.actor, last.payload, last.at) == ("bob", {"data": {"topic": "wasps"}}, instant(7_000))
        loaded = await store.load(write.run_id)
        assert (loaded.run.seq, loaded.visits, loaded.extra_steps) == (2, {"draft": 2}, 1)
        assert loaded.snapshot == (2, '{"topic":"wasps"}')
        again = fork_of(replace(run, run_id=write.run_id), 2, data='{"data":{}}')
        await store.submit(again)
        assert (await store.load(again.run_id)).extra_steps == 2
        assert await store.verify(again.run_id) == await store.verify(write.run_id) == []

    @behaviour
    async def test_what_the_shared_visits_used_is_charged_to_the_forks_own_meters_alone(self, store: Store) -> None:
        run = await worked(store)
        before = await store.used(["tenant:acme:0+1:tokens", f"run:{'0' * 32}:tokens"])
        expected = {0: (0, 0), 1: (1, 5), 2: (2, 10)}
        for step, (calls, tokens) in expected.items():
            write = fork_of(run, step)
            await store.submit(write)
            meters = [f"run:{write.run_id.hex()}:calls", f"state:{write.run_id.hex()}:draft:tokens"]
            assert tuple((await store.used(meters)).values()) == (calls, tokens), step
        assert await store.used(list(before)) == before

    @behaviour
    async def test_decisions_of_ended_visits_are_history_and_none_of_the_open_visit_is_taken_over(self, store: Store) -> None:
        run = Story(await store.register(BOOK))
        await store.submit(run.start())
        for seq in range(2):
            asked = question(f'"{seq}"')
            await store.submit(run.ask_about(asked))
            await store.submit(run.decide(asked))
            run.epoch = (await taken(store, run.claim("me"))).epoch
            if seq == 0:
                await store.submit(run.move("asked"))
        await store.submit(run.ask_person())
        write = fork_of(run, 1)
        await store.submit(write)
        (decided,) = await store.reviews(write.run_id)
        assert (decided.seq, decided.kind, decided.decision, decided.decided_by) == (0, "gate", "approve", "ann")
        assert await store.reviews(write.run_id, open_only=True) == []
        assert (await store.load(write.run_id)).reviews == ()
        assert (await store.run(write.run_id)).status is Status.READY
        assert await store.verify(write.run_id) == []

    @behaviour
    async def test_a_decided_review_stays_with_the_move_it_made(self, store: Store) -> None:
        run = Story(await store.register(BOOK))
        await store.submit(run.start())
        await store.submit(run.move("asked"))
        await store.submit(run.ask_person())
        await store.submit(run.move("rejected", head=Head(Status.READY, due_at=1), decision=True, actor="ann"))
        for step, asked in ((2, 1), (1, 0)):
            write = fork_of(run, step)
            await store.submit(write)
            assert len(await store.reviews(write.run_id)) == asked
            assert await store.verify(write.run_id) == []

    @behaviour
    async def test_the_same_key_answers_the_same_fork(self, store: Store) -> None:
        run = await worked(store)
        writes = [fork_of(run, 1, key="once") for _ in range(3)]
        answers = [await store.submit(write) for write in writes]
        assert answers == [writes[0].run_id] * 3
        assert len([entry for entry in await store.feed(0) if entry.kind == "forked"]) == 1

    @behaviour
    async def test_the_feed_tells_of_a_fork_once_and_not_of_what_it_shares(self, store: Store) -> None:
        run = await worked(store)
        write = fork_of(run, 2)
        await store.submit(write)
        (told,) = await store.feed(0, write.run_id)
        assert (told.kind, told.seq) == ("forked", 2)
        assert told.detail == {"run": run.run_id.hex(), "step": 2, "by": "bob", "note": "what if"}

    @behaviour
    async def test_a_step_that_is_not_there_cannot_be_forked(self, store: Store) -> None:
        run = await worked(store)
        await refused(store, fork_of(run, 3), NotFound, run.run_id.hex(), "step 3")
        await refused(store, fork_of(replace(run, run_id=b"?" * 16), 0), NotFound)

    @behaviour
    async def test_a_fork_that_is_refused_leaves_nothing(self, store: Store) -> None:
        run = Story(await store.register(PAPER))
        await store.submit(run.start())
        await refused(store, fork_of(run, 0, data='{"data":{}}'), WriteRefused)  # This machine has no such edge.

    @behaviour
    async def test_long_texts_and_conversations_are_shared(self, store: Store) -> None:
        nodes = conversation(5)
        run = Story(await store.register(BOOK))
        await store.submit(run.start())
        await store.submit(run.call(json.dumps({"head": nodes[-1].hash.hex()}), LONG, kind="llm", nodes=tuple(nodes)))
        await store.submit(run.move("more", payload=LONG))
        write = fork_of(run, 1)
        await store.submit(write)
        (call,) = await store.calls(write.run_id)
        assert await store.transcript(bytes.fromhex(call.request["head"])) == [node.body for node in nodes]
        assert (await store.history(write.run_id))[1].payload == json.loads(LONG)

    @behaviour
    async def test_forks_and_the_work_of_their_source_share_commits(self, store: Store) -> None:
        run = await worked(store)
        writes = [fork_of(run, step) for step in (0, 1, 2)]
        await asyncio.gather(
            store.submit(writes[0]),
            store.submit(run.move("more")),
            store.submit(writes[1]),
            store.submit(run.reserve('"r"', Amount("m", 1, 2))),
            store.submit(writes[2]),
        )
        for run_id in (run.run_id, *(write.run_id for write in writes)):
            assert await store.verify(run_id) == []

    @behaviour
    async def test_a_fork_of_what_somebody_holds_is_not_held(self, store: Store) -> None:
        run = await worked(store, head=running("them"))
        write = fork_of(run, 2)
        await store.submit(write)
        assert (await store.run(write.run_id)).owner is None
        assert (await store.run(run.run_id)).owner == "them"
