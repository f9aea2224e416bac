"""A history proves itself: any changed byte is found, and named."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from statecraft.errors import NotFound
from statecraft.records import Status
from statecraft.store.port import Head
from statecraft.store.sql import SqlStore
from tests.store.rig import Story, begun, conversation, path_of, within

LONG = json.dumps("long " * 2_000)


async def history(store: SqlStore) -> Story:
    """Five steps with calls between them; step 2 and one answer are long, one call is a conversation."""
    run = await begun(store)
    nodes = conversation(4)
    await store.submit(run.move("more"))
    await store.submit(run.call('"a"', '"yes"'))
    await store.submit(run.call('"b"', LONG))
    await store.submit(run.move("more", payload=LONG))
    await store.submit(run.call(json.dumps({"head": nodes[-1].hash.hex()}), kind="llm", nodes=tuple(nodes)))
    await store.submit(run.move("more"))
    await store.submit(run.move("asked"))
    await store.submit(run.ask_person())
    await store.submit(run.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
    return run


def tampered(url: str, *changes: str) -> None:
    """Change rows as somebody would who owns the file: triggers dropped, checks off."""
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as raw:
        for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {trigger}")
        for change in changes:
            assert raw.execute(change).rowcount > 0, change


BROKEN = {
    "a payload": ("UPDATE transitions SET payload = '{\"n\":2}' WHERE seq = 3", "transition 3: hash differs"),
    "a guard's answer": ("UPDATE transitions SET guards = '[]' WHERE seq = 4", "transition 4: hash differs"),
    "an instant": ("UPDATE transitions SET at = at + 1 WHERE seq = 1", "transition 1: hash differs"),
    "an actor": ("UPDATE transitions SET actor = 'bob' WHERE seq = 5", "transition 5: hash differs"),
    "the input": ('UPDATE transitions SET payload = \'{"topic":"wasps"}\' WHERE seq = 0', "transition 0: hash differs"),
    "an event": ("UPDATE transitions SET event = 'rejected' WHERE seq = 5", "transition 5: hash differs"),
    "a hash": ("UPDATE transitions SET hash = zeroblob(32) WHERE seq = 2", "transition 2: hash differs"),
    "an answer": ("UPDATE calls SET result = '\"no\"' WHERE seq = 1 AND idx = 0", "call 1.0: hash differs"),
    "a question": ("UPDATE calls SET request = '\"z\"' WHERE seq = 1 AND idx = 0", "call 1.0: hash differs"),
    "a price": ("UPDATE calls SET input_tokens = 0 WHERE seq = 2", "call 2.0: hash differs"),
    "a call's hash": ("UPDATE calls SET hash = zeroblob(32) WHERE seq = 1 AND idx = 1", "call 1.1: hash differs"),
    "a missing call": ("DELETE FROM calls WHERE seq = 1 AND idx = 0", "call 1.0: missing"),
    "a missing last call": ("DELETE FROM calls WHERE seq = 1 AND idx = 1", "transition 2: counts 2 calls, but 1 are stored"),
    "a missing step": ("DELETE FROM transitions WHERE seq = 2", "transition 2: missing"),
    "a missing last step": ("DELETE FROM transitions WHERE seq = 5", "head: says step 5 in done, but the journal is at step 4"),
    "a head": ("UPDATE runs SET state = 'failed'", "head: says step 5 in failed, but the journal is at step 5 in done"),
    "an epoch": ("UPDATE runs SET epoch = 0", "head: has epoch 0, but step 5 was written under epoch 1"),
    "a long text": (
        "UPDATE payloads SET body = replace(body, 'long', 'lung')",
        "transition 2: its payload differs from its hash",
    ),
    "a long answer": ("UPDATE payloads SET body = replace(body, 'long', 'lung')", "call 1: its result differs from its hash"),
    "a lost text": ("DELETE FROM payloads", "transition 2: its payload is missing"),
    "a message": ("UPDATE messages SET body = '{}' WHERE parent IS NULL", "call 2.0: message"),
    "a lost message": ("DELETE FROM messages WHERE parent IS NULL", "call 2.0: its transcript is not whole"),
    "a lost transcript": ("DELETE FROM messages", "call 2.0: its transcript is not whole"),
}


def test_an_untouched_history_holds(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await history(store)
        assert await store.verify(run.run_id) == []

    within(url, story)


@pytest.mark.parametrize("what", BROKEN)
def test_a_change_is_found_and_named(url: str, what: str) -> None:
    run = within(url, history)
    change, finding = BROKEN[what]
    tampered(url, change)
    found = within(url, lambda store: store.verify(run.run_id))
    assert [problem for problem in found if problem.startswith(finding)], found


@pytest.mark.parametrize("what", ["a payload", "an instant", "an answer", "a price", "the input"])
def test_only_the_changed_row_is_named(url: str, what: str) -> None:
    run = within(url, history)
    change, finding = BROKEN[what]
    tampered(url, change)
    assert within(url, lambda store: store.verify(run.run_id)) == [finding]


def test_rewriting_a_call_with_its_hash_is_found_by_the_step_that_covers_it(url: str) -> None:
    run = within(url, history)

    async def forged(store: SqlStore) -> bytes:
        return (await begun(store)).call('"a"', '"no"').hash

    forged_hash = within("sqlite://", forged).hex()
    tampered(url, f"UPDATE calls SET result = '\"no\"', hash = x'{forged_hash}' WHERE seq = 1 AND idx = 0")
    assert "transition 2: hash differs" in within(url, lambda store: store.verify(run.run_id))


def test_another_runs_damage_is_not_this_runs(url: str) -> None:
    async def two(store: SqlStore) -> tuple[Story, Story]:
        return await history(store), await history(store)

    first, second = within(url, two)
    tampered(url, f"UPDATE transitions SET at = 0 WHERE seq = 1 AND run_id = x'{first.run_id.hex()}'")
    assert within(url, lambda store: store.verify(second.run_id)) == []
    assert within(url, lambda store: store.verify(first.run_id)) == ["transition 1: hash differs"]


def test_verifying_no_run_says_so(url: str) -> None:
    async def story(store: SqlStore) -> None:
        with pytest.raises(NotFound):
            await store.verify(bytes(16))

    within(url, story)
