"""A history proves itself: any changed byte is found, and named."""

from __future__ import annotations

import pytest

from statecraft.store.sql import SqlStore
from tests.store.rig import Story, begun, ended, tampered, within

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


@pytest.mark.slow
@pytest.mark.parametrize("what", BROKEN)
def test_a_change_is_found_and_named(each_url: str, what: str) -> None:
    run = within(each_url, ended)
    change, finding = BROKEN[what]
    tampered(each_url, change)
    found = within(each_url, lambda store: store.verify(run.run_id))
    assert [problem for problem in found if problem.startswith(finding)], found


@pytest.mark.slow
@pytest.mark.parametrize("what", ["a payload", "an instant", "an answer", "a price", "the input"])
def test_only_the_changed_row_is_named(each_url: str, what: str) -> None:
    run = within(each_url, ended)
    change, finding = BROKEN[what]
    tampered(each_url, change)
    assert within(each_url, lambda store: store.verify(run.run_id)) == [finding]


@pytest.mark.slow
def test_rewriting_a_call_with_its_hash_is_found_by_the_step_that_covers_it(each_url: str) -> None:
    run = within(each_url, ended)

    async def forged(store: SqlStore) -> bytes:
        return (await begun(store)).call('"a"', '"no"').hash

    forged_hash = within("sqlite://", forged).hex()
    tampered(each_url, f"UPDATE calls SET result = '\"no\"', hash = x'{forged_hash}' WHERE seq = 1 AND idx = 0")
    assert "transition 2: hash differs" in within(each_url, lambda store: store.verify(run.run_id))


@pytest.mark.slow
def test_another_runs_damage_is_not_this_runs(each_url: str) -> None:
    async def two(store: SqlStore) -> tuple[Story, Story]:
        return await ended(store), await ended(store)

    first, second = within(each_url, two)
    tampered(each_url, f"UPDATE transitions SET at = 0 WHERE seq = 1 AND run_id = x'{first.run_id.hex()}'")
    assert within(each_url, lambda store: store.verify(second.run_id)) == []
    assert within(each_url, lambda store: store.verify(first.run_id)) == ["transition 1: hash differs"]
