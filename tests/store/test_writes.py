"""What each write promises: durable, fenced, whole or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from statecraft.errors import AlreadyDecided, Fenced, NotFound, RunClosed, StatecraftError, WriteRefused
from statecraft.records import RunFilter, Status, Usage, Waiting
from statecraft.store.port import Cancel, Head, Move, Write
from statecraft.store.sql import SqlStore
from tests.store.rig import PAPER, Story, ask, begun, conversation, ready, waiting_for_review, within

TABLES = ("runs", "transitions", "calls", "attempts", "reviews", "snapshots", "deaths", "messages", "payloads", "feed")


def written(url: str) -> list[list[tuple[object, ...]]]:
    """Everything that the file holds about runs."""
    return [ask(url, f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES]


async def refused(store: SqlStore, url: str, write: Write, error: type[StatecraftError], *words: str) -> None:
    """The write fails so, says so in one line, and leaves nothing."""
    before = written(url)
    with pytest.raises(error) as told:
        await store.submit(write)
    assert "\n" not in str(told.value)
    assert [word for word in words if word not in str(told.value)] == []
    assert written(url) == before


# --- start ---------------------------------------------------------------------------------------------------------


def test_a_start_writes_the_head_and_the_first_step(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = Story(await store.register(PAPER))
        assert await store.submit(run.start(key="order-1")) == run.run_id
        head = await store.run(run.run_id)
        assert (head.id, head.machine, head.version, head.fingerprint) == (run.run_id.hex(), "paper", "1", "a" * 64)
        assert (head.status, head.state, head.seq, head.epoch, head.owner) == (Status.RUNNING, "draft", 0, 1, "me")
        assert (head.key, head.trace_id, head.attempts) == ("order-1", "trace", 0)
        (first,) = await store.history(run.run_id)
        assert (first.seq, first.source, first.event, first.target) == (0, "", "start", "draft")
        assert first.payload == {"topic": "bees"}
        assert first.guards == (("fits", True),)
        assert first.hash == run.hash

    within(url, story)


def test_starting_again_with_the_same_key_answers_the_run_that_owns_it_and_writes_nothing(url: str) -> None:
    async def story(store: SqlStore) -> None:
        first = await begun(store, key="order-1")
        before = written(url)
        again = Story(first.machine)
        assert await store.submit(again.start(key="order-1")) == first.run_id
        assert written(url) == before

    within(url, story)


def test_of_many_starts_with_one_key_at_once_one_wins_and_all_agree(url: str) -> None:
    async def story(store: SqlStore) -> None:
        machine = await store.register(PAPER)
        answers = await asyncio.gather(*(store.submit(Story(machine).start(key="order-1")) for _ in range(20)))
        (owner,) = set(answers)
        (run,) = await store.runs(RunFilter())
        assert owner == bytes.fromhex(run.id)

    within(url, story)


def test_runs_without_a_key_are_all_different(url: str) -> None:
    async def story(store: SqlStore) -> None:
        runs = [await begun(store) for _ in range(3)]
        assert [run.id for run in await store.runs(RunFilter())] == [run.run_id.hex() for run in reversed(runs)]

    within(url, story)


def test_a_run_cannot_start_twice_under_one_id(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await refused(store, url, Story(run.machine, run.run_id).start(), WriteRefused, run.run_id.hex())

    within(url, story)


def test_a_start_that_is_no_edge_of_the_machine_is_refused(url: str) -> None:
    async def story(store: SqlStore) -> None:
        start = Story(await store.register(PAPER)).start()
        wrong = replace(start, transition=replace(start.transition, target="review"))
        await refused(store, url, wrong, WriteRefused, "machine 1 has no such edge")

    within(url, story)


# --- move ----------------------------------------------------------------------------------------------------------


def test_a_move_goes_on_under_the_same_lease(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        assert await store.submit(run.move("more")) is None
        head = await store.run(run.run_id)
        assert (head.seq, head.state, head.status, head.owner, head.epoch) == (1, "draft", Status.RUNNING, "me", 1)

    within(url, story)


def test_a_move_with_a_head_gives_the_lease_up(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.move("gave_up", head=Head(Status.FAILED)))
        head = await store.run(run.run_id)
        assert (head.status, head.owner, head.lease_until, head.state) == (Status.FAILED, None, None, "failed")
        assert ask(url, "SELECT finished_at FROM runs") == [(run.at,)]

    within(url, story)


def test_a_move_starts_the_count_of_claims_again(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store, ready())
        await store.submit(run.claim())
        run.epoch = 1
        assert (await store.run(run.run_id)).attempts == 1
        await store.submit(run.move("more"))
        assert (await store.run(run.run_id)).attempts == 0

    within(url, story)


FENCES = {
    "an older epoch": (0, 1),
    "a newer epoch": (2, 1),
    "a step too many": (1, 2),
}


@pytest.mark.parametrize("fence", FENCES)
def test_a_fenced_move_writes_nothing(url: str, fence: str) -> None:
    epoch, steps = FENCES[fence]

    async def story(store: SqlStore) -> None:
        run = await begun(store)
        run.epoch = epoch
        for _ in range(steps - 1):
            run.move("more")
        await refused(store, url, run.move("more", snapshot="{}"), Fenced, run.run_id.hex(), f"epoch {epoch}")

    within(url, story)


def test_the_same_move_twice_is_fenced(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        move = run.move("more")
        await store.submit(move)
        await refused(store, url, move, Fenced)

    within(url, story)


def test_whoever_gave_a_run_up_cannot_write_to_it(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.sleep_until(9_000))
        for late in (run.call('"q"'), run.attempt('"q"', 1), run.sleep_until(9_000), run.die(), run.move("more")):
            await refused(store, url, late, Fenced, "waiting")

    within(url, story)


def test_a_write_to_a_run_that_does_not_exist_says_so(url: str) -> None:
    async def story(store: SqlStore) -> None:
        nobody = Story(await store.register(PAPER))
        for write in (nobody.call('"q"'), nobody.sleep_until(1), nobody.claim(), Cancel(nobody.run_id, 1, "ann", "")):
            await refused(store, url, write, NotFound, nobody.run_id.hex())

    within(url, story)


def test_an_illegal_move_is_refused_by_name(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        move = run.move("more")
        unknown = Move(replace(move.transition, target="done"))
        await refused(store, url, unknown, WriteRefused, "draft by more to done", "no such edge", run.run_id.hex())
        elsewhere = Move(replace(move.transition, source="review", event="approved", target="done"))
        await refused(store, url, elsewhere, WriteRefused, "the run stood in draft after step 0")
        await store.submit(move)

    within(url, story)


def test_a_head_that_cannot_be_is_refused_by_name(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        move = run.move("more")
        for head, constraint in (
            (Head(Status.READY), "ready_is_due"),
            (Head(Status.WAITING), "waiting_iff_reason"),
            (Head(Status.RUNNING), "held_iff_running"),
        ):
            await refused(store, url, replace(move, head=head), WriteRefused, constraint, run.run_id.hex())

    within(url, story)


def test_what_cannot_be_stored_is_refused_and_the_store_goes_on(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        move = run.move("more")
        for payload in ('"\ud800"', '"' + "\ud800" * 5000 + '"'):
            await refused(store, url, Move(replace(move.transition, payload=payload)), WriteRefused)
        await refused(store, url, Move(replace(move.transition, at=2**70)), WriteRefused)
        await store.submit(move)

    within(url, story)


def test_a_snapshot_replaces_the_older_one(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.move("more", snapshot='{"n":1}'))
        await store.submit(run.move("more"))
        await store.submit(run.move("more", snapshot='{"n":3}'))
        await store.submit(run.move("more", payload='{"n":4}'))
        loaded = await store.load(run.run_id)
        assert (loaded.snapshot, loaded.snapshot_at) == ((3, '{"n":3}'), 3)
        assert loaded.tail == ((4, "more", '{"n":4}'),)
        assert loaded.payload_bytes == len('{"n":4}')
        assert ask(url, "SELECT count(*) FROM snapshots") == [(1,)]

    within(url, story)


# --- calls and attempts ----------------------------------------------------------------------------------------------


def test_a_call_is_recorded_once_for_its_question(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.call('"q"', '"first"'))
        again = run.call('"q"', '"second"')
        await refused(store, url, again, WriteRefused, "call search", run.run_id.hex())
        (call,) = await store.calls(run.run_id)
        assert (call.request, call.result, call.ok, call.usage, call.model) == ("q", "first", True, Usage(3, 2), "model-1")
        await store.submit(replace(again, occurrence=1))
        assert [call.occurrence for call in await store.calls(run.run_id, 0)] == [0, 1]

    within(url, story)


def test_calls_and_attempts_are_fenced(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.move("more"))
        for write in (run.call('"q"'), run.attempt('"q"', 1)):
            await refused(store, url, replace(write, epoch=0), Fenced)
            await refused(store, url, replace(write, seq=0), Fenced)

    within(url, story)


def test_attempts_are_kept_in_order_with_their_intent(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for kind, number, due in (("begun", 1, None), ("overloaded", 1, 9_000), ("begun", 2, None)):
            await store.submit(run.attempt('"q"', number, kind, due))
        found = await store.attempts(run.run_id, 0)
        assert [(attempt.kind, attempt.attempt) for attempt in found] == [("begun", 1), ("overloaded", 1), ("begun", 2)]
        assert found[1].due_at is not None
        assert await store.attempts(run.run_id, 1) == []
        assert (await store.load(run.run_id)).attempts == tuple(found)

    within(url, story)


def test_a_call_with_a_message_whose_parent_is_unknown_is_refused_whole(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        orphan = conversation(2)[1]
        await refused(store, url, run.call('"q"', nodes=(orphan,)), WriteRefused, "parent")

    within(url, story)


# --- parking and reviews -------------------------------------------------------------------------------------------


def test_a_parked_run_has_a_reason_and_no_owner(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.sleep_until(9_000))
        head = await store.run(run.run_id)
        assert (head.status, head.waiting_for, head.owner, head.seq) == (Status.WAITING, Waiting.TIMER, None, 0)
        assert await store.next_due([run.machine], None) == 9_000

    within(url, story)


def test_the_first_question_of_a_visit_stays(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.move("asked"))
        await store.submit(run.ask_person("Publish?"))
        await store.submit(run.claim(epoch=1))
        run.epoch = 2
        await store.submit(run.ask_person("Really publish?"))
        (review,) = await store.reviews(run.run_id)
        assert (review.question, review.show, review.events) == ("Publish?", {"text": "bees"}, ("approved", "rejected"))
        assert (await store.run(run.run_id)).status is Status.WAITING

    within(url, story)


def test_a_decision_moves_a_waiting_run_and_closes_its_review(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await waiting_for_review(store)
        assert [review.seq for review in await store.reviews(open_only=True)] == [1]
        await store.submit(run.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
        (review,) = await store.reviews(run.run_id)
        assert (review.decision, review.decided_by) == ("approved", "ann")
        assert await store.reviews(open_only=True) == []
        assert (await store.run(run.run_id)).status is Status.DONE
        assert (await store.history(run.run_id))[-1].actor == "ann"

    within(url, story)


def test_time_may_decide_a_review_while_somebody_holds_the_run(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await waiting_for_review(store)
        await store.submit(run.claim())
        run.epoch = 2
        assert [review.seq for review in await store.reviews(run.run_id, open_only=True)] == [1]
        await store.submit(run.move("rejected", decision=True))
        (review,) = await store.reviews(run.run_id)
        assert (review.decision, review.decided_by) == ("rejected", None)

    within(url, story)


def test_of_two_decisions_at_once_one_is_told_that_the_other_came_first(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await waiting_for_review(store)
        other = replace(run)
        moves = [
            run.move("approved", head=Head(Status.DONE), decision=True, actor="ann"),
            other.move("rejected", head=ready(), decision=True, actor="bob"),
        ]
        outcomes = await asyncio.gather(*map(store.submit, moves), return_exceptions=True)
        assert outcomes[0] is None
        assert isinstance(outcomes[1], AlreadyDecided)
        assert [review.decided_by for review in await store.reviews()] == ["ann"]

    within(url, story)


def test_a_decision_without_an_open_review_is_refused(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await refused(store, url, run.move("more", decision=True), AlreadyDecided)

    within(url, story)


def test_a_waiting_run_moves_by_a_decision_only(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await waiting_for_review(store)
        await refused(store, url, run.move("approved", head=Head(Status.DONE)), Fenced)

    within(url, story)


def test_a_dead_run_keeps_its_diagnosis(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        assert await store.diagnosis(run.run_id) is None
        await store.submit(run.die("no row takes it"))
        head = await store.run(run.run_id)
        assert (head.status, head.reason) == (Status.DEAD, "no row takes it")
        assert await store.diagnosis(run.run_id) == '{"why":"no row"}'

    within(url, story)


# --- cancelling ----------------------------------------------------------------------------------------------------


def test_cancelling_fences_the_holder_and_closes_the_run(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        assert await store.submit(Cancel(run.run_id, 2_000, "ann", "not needed")) is None
        head = await store.run(run.run_id)
        assert (head.status, head.reason, head.epoch, head.owner) == (Status.CANCELLED, "not needed", 2, None)
        await refused(store, url, run.call('"q"'), Fenced)
        await refused(store, url, run.move("more"), Fenced, "cancelled")
        await refused(store, url, Cancel(run.run_id, 3_000, "bob", "again"), RunClosed, "cancelled")

    within(url, story)


def test_a_cancelled_run_asks_nobody_any_more(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await waiting_for_review(store)
        await store.submit(Cancel(run.run_id, 2_000, "ann", "not needed"))
        assert await store.reviews(open_only=True) == []
        assert len(await store.reviews(run.run_id)) == 1
        late = run.move("approved", head=Head(Status.DONE), decision=True, actor="bob")
        await refused(store, url, late, Fenced, "cancelled")

    within(url, story)


def test_a_machine_is_registered_once(url: str) -> None:
    async def story(store: SqlStore) -> None:
        numbers = await asyncio.gather(*(store.register(PAPER) for _ in range(5)))
        assert len(set(numbers)) == 1
        spec = await store.spec(PAPER.fingerprint)
        assert (spec.name, spec.version, spec.spec) == (PAPER.name, PAPER.version, PAPER.spec)
        assert set(spec.edges) == set(PAPER.edges)
        with pytest.raises(NotFound):
            await store.spec("c" * 64)

    within(url, story)


def test_two_rows_that_lead_to_the_same_edge_make_one_edge(url: str) -> None:
    async def story(store: SqlStore) -> None:
        await store.register(replace(PAPER, edges=PAPER.edges + PAPER.edges))
        assert ask(url, "SELECT count(*) FROM machine_edges") == [(len(PAPER.edges),)]

    within(url, story)
