"""What is stored takes the room it needs, once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from statecraft.errors import NotFound
from statecraft.ids import digest
from statecraft.store.port import Blob
from statecraft.store.sql import SqlStore
from statecraft.store.tables import INLINE_BYTES
from tests.store.rig import ask, begun, conversation, path_of, within

LONG = json.dumps("long " * 2_000)


def test_a_long_text_is_kept_once_and_put_back_for_readers(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for number in range(3):
            await store.submit(run.call(json.dumps(f"{number} " + "ask " * 2_000), LONG))
            await store.submit(run.move("more", payload=LONG))
        assert ask(url, "SELECT count(*), sum(length(body) > 4096) FROM payloads") == [(4, 4)]
        payloads: list[object] = [move.payload for move in (await store.history(run.run_id))[1:]]
        assert payloads == [json.loads(LONG)] * 3
        assert [call.result for call in await store.calls(run.run_id)] == [json.loads(LONG)] * 3
        assert (await store.load(run.run_id)).tail[0] == (1, "more", LONG)
        assert await store.verify(run.run_id) == []

    within(url, story)


def test_the_bound_counts_bytes(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for payload in ("x" * INLINE_BYTES, "ü" * (INLINE_BYTES // 2), "x" * INLINE_BYTES + "y", "ü" * (INLINE_BYTES // 2 + 1)):
            await store.submit(run.move("more", payload=payload))
        kept = ask(url, "SELECT payload IS NOT NULL FROM transitions WHERE seq > 0 ORDER BY seq")
        assert kept == [(1,), (1,), (0,), (0,)]
        assert await store.verify(run.run_id) == []

    within(url, story)


def test_a_conversation_of_500_messages_is_500_messages(url: str) -> None:
    nodes = conversation(500)

    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for turn in range(1, 251):
            told = json.dumps({"head": nodes[2 * turn - 1].hash.hex()})
            # The first turns send everything again: what is stored already costs nothing.
            fresh = nodes[: 2 * turn] if turn < 20 else nodes[2 * turn - 2 : 2 * turn]
            await store.submit(run.call(told, kind="llm", nodes=tuple(fresh)))
        assert ask(url, "SELECT count(*) FROM messages") == [(500,)]
        assert await store.transcript(nodes[-1].hash) == [node.body for node in nodes]
        assert await store.transcript(nodes[9].hash) == [node.body for node in nodes[:10]]
        assert await store.verify(run.run_id) == []
        with pytest.raises(NotFound):
            await store.transcript(bytes(32))

    within(url, story)


def test_runs_share_the_messages_they_have_in_common(url: str) -> None:
    async def story(store: SqlStore) -> None:
        for _ in range(3):
            run = await begun(store)
            await store.submit(run.call('"q"', kind="llm", nodes=tuple(conversation(10))))
        assert ask(url, "SELECT count(*) FROM messages") == [(10,)]

    within(url, story)


def test_a_blob_is_stored_once_and_read_by_its_hash(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        blob = Blob(digest('{"tools":[]}'), '{"tools":[]}')
        for number in range(3):
            await store.submit(replace(run.call(f'"{number}"'), blobs=(blob, blob)))
        assert await store.blob(blob.hash) == blob.body
        assert ask(url, "SELECT count(*) FROM payloads") == [(1,)]
        with pytest.raises(NotFound):
            await store.blob(bytes(32))

    within(url, story)


@pytest.mark.parametrize("size", [2_000, 2_048, 2_500, 4_000])
def test_500_steps_of_2_kb_take_at_most_half_as_much_again_on_disk(url: str, size: int) -> None:
    payload = json.dumps({"text": "x" * (size - 12)})

    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for _ in range(500):
            await store.submit(run.move("more", payload=payload))

    assert len(payload) == size
    within(url, story)
    assert path_of(url).stat().st_size <= 1.5 * 500 * size
