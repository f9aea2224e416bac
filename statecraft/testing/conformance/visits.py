"""What a visit leaves in the journal: calls, attempts, texts and transcripts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from statecraft.errors import (
    Fenced,
    NotFound,
    WriteRefused,
)
from statecraft.ids import digest
from statecraft.records import Usage
from statecraft.store.port import (
    Blob,
    Store,
)
from statecraft.testing.conformance.stories import (
    LONG,
    begun,
    conversation,
)
from statecraft.testing.conformance.suite import Suite, behaviour, refused


class Visits(Suite):
    """Calls and attempts, and the texts they carry."""

    @behaviour
    async def test_a_call_is_recorded_once_for_its_question(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.call('"q"', '"first"'))
        again = run.call('"q"', '"second"')
        await refused(store, again, WriteRefused, run.run_id.hex())
        (call,) = await store.calls(run.run_id)
        assert (call.request, call.result, call.ok, call.usage, call.model) == ("q", "first", True, Usage(3, 2), "model-1")
        await store.submit(replace(again, occurrence=1))
        assert [call.occurrence for call in await store.calls(run.run_id, 0)] == [0, 1]

    @behaviour
    async def test_calls_and_attempts_are_fenced(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.move("more"))
        for write in (run.call('"q"'), run.attempt('"q"', 1)):
            await refused(store, replace(write, epoch=0), Fenced)
            await refused(store, replace(write, seq=0), Fenced)

    @behaviour
    async def test_attempts_are_kept_in_order_with_their_intent(self, store: Store) -> None:
        run = await begun(store)
        for kind, number, due in (("begun", 1, None), ("overloaded", 1, 9_000), ("begun", 2, None)):
            await store.submit(run.attempt('"q"', number, kind, due))
        found = await store.attempts(run.run_id, 0)
        assert [(attempt.kind, attempt.attempt) for attempt in found] == [("begun", 1), ("overloaded", 1), ("begun", 2)]
        assert found[1].due_at is not None
        assert await store.attempts(run.run_id, 1) == []
        assert (await store.load(run.run_id)).attempts == tuple(found)

    @behaviour
    async def test_a_call_with_a_message_whose_parent_is_unknown_is_refused_whole(self, store: Store) -> None:
        run = await begun(store)
        orphan = conversation(2)[1]
        await refused(store, run.call('"q"', nodes=(orphan,)), WriteRefused, run.run_id.hex())
        with pytest.raises(NotFound):
            await store.transcript(orphan.hash)

    @behaviour
    async def test_long_texts_are_put_back_for_readers(self, store: Store) -> None:
        run = await begun(store)
        for number in range(3):
            await store.submit(run.call(json.dumps(f"{number} " + "ask " * 2_000), LONG))
            await store.submit(run.move("more", payload=LONG))
        payloads: list[object] = [move.payload for move in (await store.history(run.run_id))[1:]]
        assert payloads == [json.loads(LONG)] * 3
        assert [call.result for call in await store.calls(run.run_id)] == [json.loads(LONG)] * 3
        assert (await store.load(run.run_id)).tail[0] == (1, "more", LONG)
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_texts_of_every_size_come_back_as_they_were(self, store: Store) -> None:
        run = await begun(store)
        sizes = (0, 1, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 70_000)
        texts = [json.dumps(letter * size, ensure_ascii=False) for letter in "xü🐝" for size in sizes]
        for text in texts:
            await store.submit(run.move("more", payload=text))
        assert [payload for _, _, payload in (await store.load(run.run_id)).tail] == texts
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_a_conversation_of_500_messages_comes_back_whole(self, store: Store) -> None:
        nodes = conversation(500)
        run = await begun(store)
        for last in range(20, 501, 20):
            told = json.dumps({"head": nodes[last - 1].hash.hex()})
            # The first turns send everything again: what is stored already stays as it is.
            fresh = nodes[:last] if last < 200 else nodes[last - 20 : last]
            await store.submit(run.call(told, kind="llm", nodes=tuple(fresh)))
        assert await store.transcript(nodes[-1].hash) == [node.body for node in nodes]
        assert await store.transcript(nodes[9].hash) == [node.body for node in nodes[:10]]
        assert await store.verify(run.run_id) == []
        with pytest.raises(NotFound):
            await store.transcript(bytes(32))

    @behaviour
    async def test_runs_share_the_messages_that_both_begin_with(self, store: Store) -> None:
        longer = conversation(10)
        for nodes in (longer[:6], longer, conversation(10, "hi")):
            await store.submit((await begun(store)).call('"q"', kind="llm", nodes=tuple(nodes)))
            assert await store.transcript(nodes[-1].hash) == [node.body for node in nodes]

    @behaviour
    async def test_a_blob_is_stored_once_and_read_by_its_hash(self, store: Store) -> None:
        run = await begun(store)
        blob = Blob(digest('{"tools":[]}'), '{"tools":[]}')
        for number in range(3):
            await store.submit(replace(run.call(f'"{number}"'), blobs=(blob, blob)))
        assert await store.blob(blob.hash) == blob.body
        with pytest.raises(NotFound):
            await store.blob(bytes(32))
