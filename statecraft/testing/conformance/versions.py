"""Migrations: a run goes on under another definition, in one write, and the visit that was open goes on with it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from statecraft.clock import instant
from statecraft.errors import Fenced, NotFound, Superseded, WriteRefused
from statecraft.records import Status
from statecraft.store.port import Charge, Claim, Head, MachineSpec, Migrate, Move, Store, Transition
from statecraft.testing.conformance.questions import asking
from statecraft.testing.conformance.stories import IDS, Story, begun, question, waiting_for_review
from statecraft.testing.conformance.suite import Suite, behaviour, heads, refused, taken

SECOND = MachineSpec(
    "paper",
    "2",
    "c" * 64,
    "{}",
    (
        ("", "start", "writing"),
        ("draft", "migrated", "writing"),
        ("review", "migrated", "reading"),
        ("writing", "more", "writing"),
        ("reading", "liked", "done"),
    ),
)
"""The next release of the machine that writes papers: two states have other names, and one event has."""

NAMES = {"draft": "writing", "review": "reading"}


async def migration(store: Store, run: Story, *, held: bool, first: int | None = None, **other: Any) -> Migrate:
    """The write that puts a run under the next release."""
    machine, target = await store.register(SECOND), NAMES[run.state]
    told = {"data": {"topic": "wasps"}, "visits": {target: 3}, "first": run.seq if first is None else first, "entered_at": 500}
    run.seq, run.machine = run.seq + 1, machine
    link = run._link(run.state, "migrated", target, json.dumps(told), None)  # noqa: SLF001 - a move that no story has
    run.state, run.calls, run.marks = target, [], []
    return Migrate(link, json.dumps(told["data"]), held, **other)


class Versions(Suite):
    """What a migration changes, and what it keeps."""

    @behaviour
    async def test_the_definitions_of_a_name_are_known_by_their_versions(self, store: Store) -> None:
        run = await begun(store)
        second = await store.register(SECOND)
        found = await store.versions(["paper", "nothing"])
        facts = [(each.number, each.name, each.version, each.fingerprint) for each in found]
        assert facts == [(run.machine, "paper", "1", "a" * 64), (second, "paper", "2", "c" * 64)]
        assert await store.versions(["nothing"]) == []

    @behaviour
    async def test_a_migrated_run_stands_in_the_new_state_and_its_visit_goes_on(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.attempt('"a"', 1))
        await store.submit(run.call('"b"'))
        await store.submit(await migration(store, run, held=True))
        await store.submit(run.attempt('"a"', 2))
        await store.submit(run.call('"a"'))
        (head,) = await heads(store, run)
        assert (head.version, head.state, head.seq, head.status, head.owner) == ("2", "writing", 1, Status.RUNNING, "me")
        loaded = await store.load(run.run_id)
        assert (loaded.machine, loaded.first, loaded.entered_at, loaded.visits) == (run.machine, 0, 500, {"writing": 3})
        assert (loaded.snapshot, loaded.tail, loaded.extra_steps) == ((1, '{"topic": "wasps"}'), (), 1)
        assert [(call.seq, call.idx, call.request) for call in loaded.calls] == [(0, 0, "b"), (1, 0, "a")]
        assert [(each.seq, each.attempt) for each in loaded.attempts] == [(0, 1), (1, 2)]
        assert (loaded.usage.input_tokens, loaded.usage.output_tokens) == (6, 4)  # Each call counts once.
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_after_it_visits_count_from_what_it_said_and_a_move_ends_the_visit(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(await migration(store, run, held=True))
        await store.submit(_more(run, snapshot='{"n":1}'))
        await store.submit(_more(run))
        loaded = await store.load(run.run_id)
        assert (loaded.first, loaded.visits, loaded.calls) == (None, {"writing": 5}, ())
        assert loaded.entered_at == run.at
        assert loaded.events == {"start", "migrated", "more"}

    @behaviour
    async def test_a_second_migration_carries_the_visit_on_from_where_it_began(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.call('"a"'))
        await store.submit(await migration(store, run, held=True))
        third = MachineSpec("paper", "3", "d" * 64, "{}", (("", "start", "draft"), ("writing", "migrated", "draft")))
        await store.register(third)
        run.machine = (await store.versions(["paper"]))[-1].number
        run.seq += 1
        told = json.dumps({"data": {}, "visits": {"draft": 1}, "first": 0, "entered_at": 500})
        link = run._link("writing", "migrated", "draft", told, None)  # noqa: SLF001 - as above
        await store.submit(Migrate(link, "{}", True))
        loaded = await store.load(run.run_id)
        assert (loaded.first, loaded.extra_steps, [call.seq for call in loaded.calls]) == (0, 2, [0])
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_a_question_about_a_call_waits_on_and_its_decision_wakes_the_run(self, store: Store) -> None:
        run, asked = await asking(store), question()
        decision = run.decide(asked)
        await store.submit(await migration(store, run, held=False))
        (review,) = await store.reviews(run.run_id, open_only=True)
        assert (review.seq, review.tool) == (0, "send")
        (head,) = await heads(store, run)
        assert head.due_at == instant(9_000)
        await store.submit(decision)
        (head,) = await heads(store, run)
        assert (head.status, head.due_at) == (Status.WAITING, instant(3_000))
        assert await store.reviews(run.run_id, open_only=True) == []
        (review,) = (await store.load(run.run_id)).reviews
        assert (review.decision, review.state) == ("approve", "writing")
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_a_question_that_the_run_left_behind_cannot_be_decided_any_more(self, store: Store) -> None:
        run, asked = await asking(store), question()
        decision = run.decide(asked)
        await store.submit(await migration(store, run, held=False))
        run.epoch = (await taken(store, run.claim())).epoch
        await store.submit(_more(run))
        assert await store.reviews(run.run_id, open_only=True) == []
        await refused(store, decision, Superseded, "went on without")

    @behaviour
    async def test_the_question_of_a_state_is_asked_on_with_the_decisions_of_the_new_one(self, store: Store) -> None:
        run = await waiting_for_review(store)
        (before,) = await store.reviews(run.run_id, open_only=True)
        await store.submit(await migration(store, run, held=False, events=("liked",)))
        (after,) = await store.reviews(run.run_id, open_only=True)
        assert (after.seq, after.state, after.events) == (2, "reading", ("liked",))
        kept = ("question", "show", "requested_at", "expires_at")
        assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
        run.seq += 1
        link = run._link("reading", "liked", "done", "{}", "ann")  # noqa: SLF001 - as above
        await store.submit(Move(link, Head(Status.DONE), decision=True))
        decided = [review.decision for review in await store.reviews(run.run_id)]
        assert decided == [None, "liked"]
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_what_states_used_under_other_names_is_charged(self, store: Store) -> None:
        run = await begun(store)
        meter = f"state:{run.run_id.hex()}:writing:calls"
        await store.submit(await migration(store, run, held=True, charges=(Charge(meter, 7),)))
        assert (await store.load(run.run_id)).used == {meter: 7}

    @behaviour
    async def test_it_takes_an_edge_that_the_new_definition_declares(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.move("asked"))
        await store.register(SECOND)
        write = await migration(store, run, held=True)
        wrong = Migrate(_elsewhere(write, "done"), write.snapshot, True)
        await refused(store, wrong, WriteRefused)

    @behaviour
    async def test_it_is_fenced_by_epoch_and_step_and_by_who_holds_the_run(self, store: Store) -> None:
        run = await begun(store)
        write = await migration(store, run, held=True)
        await refused(store, Migrate(write.transition, "{}", False), Fenced, "is running")
        await taken(store, Claim(run.run_id, "you", 5_000, 10**15, 1))
        await refused(store, write, Fenced, "expects epoch 1 at step 0", "has epoch 2")
        nobody = Story(run.machine, run_id=IDS.run_id(1))
        await refused(store, await migration(store, nobody, held=True), NotFound)


def _more(run: Story, snapshot: str | None = None) -> Move:
    """A step of the next release."""
    run.seq += 1
    link = run._link("writing", "more", "writing", '{"n":1}', None)  # noqa: SLF001 - as above
    run.calls, run.marks = [], []
    return Move(link, snapshot=snapshot)


def _elsewhere(write: Migrate, target: str) -> Transition:
    return replace(write.transition, target=target)
