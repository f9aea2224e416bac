"""What readers are told: everything of one moment, in order, with the facts worth showing."""

from __future__ import annotations

import asyncio

import pytest

from statecraft.clock import instant
from statecraft.errors import (
    NotFound,
)
from statecraft.records import RunFilter, Status, Usage
from statecraft.store.port import (
    Cancel,
    Head,
    Store,
)
from statecraft.testing.conformance.stories import (
    OTHER,
    PAPER,
    Story,
    begun,
    ended,
    ready,
    waiting_for_review,
)
from statecraft.testing.conformance.suite import Suite, behaviour


class Reads(Suite):
    """Loading, listing, finding and the feed."""

    @behaviour
    async def test_loading_tells_all_that_is_needed_to_go_on(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.call('"a"'))
        await store.submit(run.move("more", payload='{"n":1}'))
        await store.submit(run.move("asked", payload='{"n":2}'))
        await store.submit(run.move("rejected", payload='{"n":3}'))
        await store.submit(run.call('"b"'))
        await store.submit(run.attempt('"c"', 1))
        loaded = await store.load(run.run_id)
        assert loaded.run == await store.run(run.run_id)
        assert (loaded.machine, loaded.input, loaded.snapshot, loaded.snapshot_at) == (run.machine, '{"topic":"bees"}', None, 0)
        assert loaded.tail == ((1, "more", '{"n":1}'), (2, "asked", '{"n":2}'), (3, "rejected", '{"n":3}'))
        assert loaded.payload_bytes == 3 * len('{"n":1}')
        assert loaded.visits == {"draft": 3, "review": 1}
        assert loaded.events == {"start", "more", "asked", "rejected"}
        assert loaded.usage == Usage(6, 4)
        assert [call.request for call in loaded.calls] == ["b"]
        assert loaded.call_hashes == tuple(run.calls)
        assert [attempt.kind for attempt in loaded.attempts] == ["overloaded"]
        assert loaded.hash == run.hash
        assert instant(loaded.entered_at) == (await store.history(run.run_id))[-1].at

    @behaviour
    async def test_a_fresh_run_loads_too(self, store: Store) -> None:
        run = await begun(store)
        loaded = await store.load(run.run_id)
        assert (loaded.tail, loaded.visits, loaded.usage, loaded.hash) == ((), {"draft": 1}, Usage(), run.hash)

    @behaviour
    async def test_a_run_loaded_while_it_moves_is_always_of_one_moment(self, store: Store) -> None:
        run = await begun(store)

        async def drive() -> None:
            for _ in range(100):
                await store.submit(run.call(f'"{run.seq}"'))
                await store.submit(run.move("more"))

        driving = asyncio.ensure_future(drive())
        while not driving.done():
            loaded = await store.load(run.run_id)
            assert loaded.run.seq == len(loaded.tail) == loaded.visits["draft"] - 1
            assert all(call.seq == loaded.run.seq for call in loaded.calls)
            assert loaded.usage.input_tokens == 3 * (loaded.run.seq + len(loaded.calls))
        await driving

    @behaviour
    async def test_an_unknown_run_is_said_to_be_unknown(self, store: Store) -> None:
        for question in (store.load, store.run, store.history):
            with pytest.raises(NotFound, match="no run 0000"):
                await question(bytes(16))
        assert await store.calls(bytes(16)) == []
        assert await store.diagnosis(bytes(16)) is None

    @behaviour
    async def test_runs_are_listed_newest_first_and_by_what_is_asked(self, store: Store) -> None:
        one = await begun(store, ready(), key="order-1")
        two = await waiting_for_review(store)
        three = Story(await store.register(OTHER))
        await store.submit(three.start())

        async def listed(**which: object) -> list[bytes]:
            return [bytes.fromhex(run.id) for run in await store.runs(RunFilter(**which))]  # type: ignore[arg-type]

        assert await listed() == [three.run_id, two.run_id, one.run_id]
        assert await listed(limit=1) == [three.run_id]
        assert await listed(status=Status.READY) == [one.run_id]
        assert await listed(state="review") == [two.run_id]
        assert await listed(machine="paper") == [two.run_id, one.run_id]
        assert await listed(machine="paper", status=Status.WAITING) == [two.run_id]
        assert await listed(key="order-1") == [one.run_id]
        assert await listed(key="order-2") == []

    @behaviour
    async def test_a_run_is_found_by_the_beginning_of_its_id(self, store: Store) -> None:
        assert await store.find("@last") == []
        machine = await store.register(PAPER)
        runs = [Story(machine, bytes.fromhex(digits * 16)) for digits in ("ab", "ac", "b0")]
        await begun(store)
        for run in runs:
            await store.submit(run.start())
        ids = [run.run_id.hex() for run in runs]
        assert await store.find("a") == ids[:2]
        assert await store.find("AB") == ids[:1]
        assert await store.find("acac") == [ids[1]]
        assert await store.find(ids[2]) == [ids[2]]
        assert await store.find("@last") == [ids[2]]
        for nothing in ("", "xyz", "ad", ids[2] + "0", "@first"):
            assert await store.find(nothing) == []

    @behaviour
    async def test_open_reviews_are_listed_oldest_first(self, store: Store) -> None:
        first, second = await waiting_for_review(store), await waiting_for_review(store)
        ids = [first.run_id.hex(), second.run_id.hex()]
        assert sorted(review.run_id for review in await store.reviews(open_only=True)) == sorted(ids)
        await store.submit(first.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
        assert [review.run_id for review in await store.reviews(open_only=True)] == ids[1:]
        assert [review.decision for review in await store.reviews(first.run_id)] == ["approved"]

    @behaviour
    async def test_the_feed_tells_everything_in_order_with_its_facts(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.attempt('"a"', 1, due_at=2_000_000))
        await store.submit(run.call('"a"'))
        await store.submit(run.move("asked"))
        await store.submit(run.ask_person(expires_at=3_000_000))
        await store.submit(run.claim("you"))
        run.epoch = 2
        await store.submit(run.move("rejected", decision=True, actor="ann"))
        await store.submit(Cancel(run.run_id, 9_000, "bob", "enough"))
        entries = await store.feed(0)
        assert [entry.kind for entry in entries] == [
            "started", "attempt", "call", "transition", "waiting", "claimed", "transition", "cancelled",
        ]  # fmt: skip
        details = [dict(entry.detail) for entry in entries]
        zero = {"input_tokens": 0, "output_tokens": 0}
        assert details[0] == {"source": "", "event": "start", "target": "draft", "actor": None, **zero}
        due = {"due_at": "1970-01-01T00:00:02+00:00"}
        assert details[1] == {"name": "search", "kind": "overloaded", "attempt": 1, "message": "busy", **due}
        assert details[2] == {"kind": "tool", "name": "search", "ok": True, "attempts": 1, "tokens": 5, "seconds": 0.5}
        spent = {"input_tokens": 3, "output_tokens": 2}
        assert details[3] == {"source": "draft", "event": "asked", "target": "review", "actor": None, **spent}
        assert details[4] == {"waiting_for": "review", "due_at": "1970-01-01T00:00:03+00:00"}
        assert details[5] == {"owner": "you", "epoch": 2}
        assert details[6] == {"source": "review", "event": "rejected", "target": "draft", "actor": "ann", **zero}
        assert details[7] == {"actor": "bob", "reason": "enough"}
        assert [entry.seq for entry in entries] == [0, 0, 0, 1, 1, 1, 2, 2]

    @behaviour
    async def test_a_death_is_told(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.die("no row"))
        assert [(entry.kind, dict(entry.detail)) for entry in (await store.feed(0))[1:]] == [("dead", {"reason": "no row"})]

    @behaviour
    async def test_the_feed_resumes_behind_any_position_for_one_run_or_all(self, store: Store) -> None:
        one, two = await begun(store), await begun(store)
        for _ in range(3):
            await asyncio.gather(store.submit(one.move("more")), store.submit(two.move("more")))
        whole = await store.feed(0)
        assert [entry.pos for entry in whole] == sorted({entry.pos for entry in whole})
        assert await store.feed(whole[3].pos) == whole[4:]
        assert await store.feed(0, limit=3) == whole[:3]
        mine = [entry for entry in whole if entry.run_id == one.run_id.hex()]
        assert len(mine) == 4
        assert await store.feed(0, one.run_id) == mine
        assert await store.feed(mine[1].pos, one.run_id, 1) == mine[2:3]
        assert await store.feed(whole[-1].pos) == []

    @behaviour
    async def test_an_untouched_history_holds(self, store: Store) -> None:
        run = await ended(store)
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_verifying_no_run_says_so(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.verify(bytes(16))
