"""What is stored takes the room it needs, once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from statecraft.ids import digest
from statecraft.store.port import Blob
from statecraft.store.sql import SqlStore
from statecraft.store.tables import INLINE_BYTES
from tests.store.rig import LONG, ask, begun, conversation, path_of, within


def test_a_long_text_is_kept_once_beside_the_rows_that_have_it(each_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for number in range(3):
            await store.submit(run.call(json.dumps(f"{number} " + "ask " * 2_000), LONG))
            await store.submit(run.move("more", payload=LONG))

    within(each_url, story)
    assert ask(each_url, f"SELECT length(body) > {INLINE_BYTES}, count(*) FROM payloads GROUP BY 1") == [(1, 4)]


def test_the_bound_counts_bytes(each_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for payload in ("x" * INLINE_BYTES, "ü" * (INLINE_BYTES // 2), "x" * INLINE_BYTES + "y", "ü" * (INLINE_BYTES // 2 + 1)):
            await store.submit(run.move("more", payload=payload))
        kept = ask(each_url, "SELECT payload IS NOT NULL FROM transitions WHERE seq > 0 ORDER BY seq")
        assert kept == [(1,), (1,), (0,), (0,)]
        assert await store.verify(run.run_id) == []

    within(each_url, story)


def test_a_conversation_is_as_many_rows_as_it_has_messages(each_url: str) -> None:
    nodes = conversation(60)

    async def story(store: SqlStore) -> None:
        for run in [await begun(store) for _ in range(2)]:
            for turn in range(1, 31):
                # The first turns send everything again: what is stored already costs nothing.
                fresh = nodes[: 2 * turn] if turn < 20 else nodes[2 * turn - 2 : 2 * turn]
                await store.submit(run.call(json.dumps(turn), kind="llm", nodes=tuple(fresh)))

    within(each_url, story)
    assert ask(each_url, "SELECT count(*) FROM messages") == [(60,)]


def test_a_blob_is_stored_once(each_url: str) -> None:
    blob = Blob(digest('{"tools":[]}'), '{"tools":[]}')

    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for number in range(3):
            await store.submit(replace(run.call(f'"{number}"'), blobs=(blob, blob)))

    within(each_url, story)
    assert ask(each_url, "SELECT count(*) FROM payloads") == [(1,)]


@pytest.mark.slow
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
