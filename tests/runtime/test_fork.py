"""Forks: from any step of any run another one goes on, with what was done done, and nothing of the first one changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from statecraft import Budget, Data, Event, Failure, Machine, Run, RunFilter, Runtime
from statecraft.errors import ConfigError, InvalidPayload, KeyConflict, NotFound, RunClosed, VersionMismatch
from statecraft.testing import ManualClock
from tests.runtime.trips import Agency, Fine, Forgive, Other, Trip, gone, play, sound, waiting

Story = Callable[[Agency, Runtime, Machine[Trip]], Awaitable[None]]


def trip(story: Story, **bounds: Any) -> None:
    """Run a story with one runtime, whose database need not outlive it."""

    async def go() -> None:
        agency = Agency("sqlite://")
        machine = agency.trips(**bounds)
        async with agency.open(machine) as rt:
            await story(agency, rt, machine)

    play(go)


@pytest.mark.slow
def test_a_fork_goes_on_from_its_step_and_what_was_called_before_is_not_called_again() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await gone(rt, machine)
        before, seen = await rt.history(run.id), list(agency.done)
        fork = await rt.fork(run.id, at=1, by="bob", note="what if we had gone")
        fork = await rt.wait(fork.id)
        assert (fork.status, fork.state, fork.seq) == ("waiting", "asking", 1)
        assert (fork.forked_from, fork.forked_step, fork.forked_by, fork.forked_note) == (run.id, 1, "bob", "what if we had gone")
        await rt.send(fork.id, Fine(), by="eve")
        fork = await rt.wait(fork.id)
        assert fork.status == "done"
        data = await rt.data(fork.id, Trip)
        assert (data.city, data.plan, data.notes) == ("rome", "1 days in rome", ["rome"])
        assert agency.done == [*seen, "pay 1 days in rome"]
        assert await rt.history(run.id) == before
        await sound(rt, run, fork)

    trip(story)


@pytest.mark.slow
def test_a_once_call_of_the_visit_that_is_begun_anew_is_made_again_under_another_key() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await gone(rt, machine)
        fork = await rt.wait((await rt.fork(run.id, at=4)).id)
        assert fork.status == "done"
        assert [each for each in agency.done if each.startswith("pay")] == ["pay 2 days in oslo"] * 2
        assert len(set(agency.keys)) == 2
        await sound(rt, fork)

    trip(story)


def test_other_data_is_one_move_of_its_own() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await gone(rt, machine)
        fork = await rt.wait((await rt.fork(run.id, at=0, data={"city": "lima"}, by="bob")).id)
        assert (fork.state, fork.seq) == ("asking", 2)
        moves = await rt.history(fork.id)
        assert [(move.event, move.target, move.actor) for move in moves[1:]] == [
            ("forked", "planning", "bob"),
            ("planned", "asking", None),
        ]
        assert (await rt.data(fork.id, Trip)).city == "lima"
        assert (await rt.at(fork.id)).visits == {"planning": 1, "asking": 1}
        whole = await rt.wait((await rt.fork(run.id, at=4, data=Trip(city="bonn", plan="walk"))).id)
        assert (await rt.data(whole.id, Trip)).paid.startswith("receipt")
        assert agency.done[-1] == "pay walk"
        await sound(rt, fork, whole)

    trip(story)


def test_data_that_does_not_fit_is_refused() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await waiting(rt, machine)
        for data in ({"town": "rome"}, {"notes": 7}, Data()):
            with pytest.raises(InvalidPayload, match="Trip"):
                await rt.fork(run.id, at=0, data=data)
        assert len(await rt.runs()) == 1

    trip(story)


@pytest.mark.slow
def test_a_fork_of_a_fork_of_a_fork_holds() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        one = await waiting(rt, machine)
        two = await rt.wait((await rt.fork(one.id, at=1, data={"plan": "walk"})).id)
        three = await rt.wait((await rt.fork(two.id, at=2, data={"city": "bonn"})).id)
        four = await rt.wait((await rt.fork(three.id, at=2)).id)
        assert (four.forked_from, four.forked_step) == (three.id, 2)
        assert (await rt.data(three.id, Trip)).model_dump() == {"city": "bonn", "plan": "walk", "notes": ["rome"], "paid": ""}
        assert await rt.data(four.id) == await rt.data(two.id)
        await rt.send(three.id, Fine(), by="ann")
        assert (await rt.wait(three.id)).status == "done"
        assert agency.done[-1] == "pay walk"
        await sound(rt, one, two, three, four)

    trip(story)


def test_an_end_cannot_be_forked_and_what_is_no_step_neither() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await gone(rt, machine)
        with pytest.raises(RunClosed, match=r"had ended in gone at step 5.*0 to 4"):
            await rt.fork(run.id, at=5)
        for step in (6, -1):
            with pytest.raises(NotFound, match="steps 0 to 5"):
                await rt.fork(run.id, at=step)
        with pytest.raises(NotFound):
            await rt.fork("00" * 16, at=0)

    trip(story)


@pytest.mark.slow
def test_runs_that_are_dead_cancelled_or_held_can_be_forked() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        agency.closed = True
        dying = await waiting(rt, machine)
        await rt.send(dying.id, Fine(), by="ann")
        dying = await rt.wait(dying.id)
        assert dying.status == "dead"
        agency.closed = False
        fork = await rt.wait((await rt.fork(dying.id, at=dying.seq)).id)
        assert (fork.status, await rt.diagnosis(fork.id)) == ("done", None)
        assert (await rt.get(dying.id)).status == "dead"
        dropped = await waiting(rt, machine)
        await rt.cancel(dropped.id, by="ann", reason="no")
        assert (await rt.wait((await rt.fork(dropped.id, at=1)).id)).status == "waiting"
        held = await rt.start(machine, Trip(city="bonn"))
        assert held.status == "running"
        fork = await rt.wait((await rt.fork(held.id, at=0)).id)
        assert (fork.status, fork.state) == ("waiting", "asking")
        assert (await rt.wait(held.id)).state == "asking"
        await sound(rt, *await rt.runs())

    trip(story)


@pytest.mark.slow
def test_an_approval_is_not_inherited_by_the_visit_that_is_begun_anew() -> None:
    from statecraft import Approve, GatePolicy

    async def go() -> None:
        agency = Agency("sqlite://")
        agency.settings = replace(agency.settings, gate=GatePolicy(max_auto_risk="safe"))
        machine = agency.trips()
        async with agency.open(machine) as rt:
            run = await waiting(rt, machine)
            await rt.send(run.id, Fine(), by="ann")
            assert (await rt.wait(run.id)).state == "paying"
            await rt.decide(run.id, Approve(), by="ann")
            assert (await rt.wait(run.id)).status == "done"
            fork = await rt.wait((await rt.fork(run.id, at=2)).id)
            assert (fork.status, fork.state) == ("waiting", "paying")
            (asked,) = await rt.reviews(fork.id, open_only=True)
            assert asked.kind == "gate"
            assert len(agency.keys) == 1
            assert [(each.kind, each.decision) for each in await rt.reviews(fork.id)] == [("state", "fine"), ("gate", None)]
            await sound(rt, run, fork)

    play(go)


@pytest.mark.slow
def test_visits_continue_as_at_the_step() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await gone(rt, machine)
        fork = await rt.wait((await rt.fork(run.id, at=3)).id)
        await rt.send(fork.id, Other(city="bonn"), by="ann")  # The third visit of planning, the last that it may have.
        await rt.wait(fork.id)
        await rt.send(fork.id, Other(city="riga"), by="ann")
        fork = await rt.wait(fork.id)
        assert (fork.state, (await rt.history(fork.id))[-1].event) == ("home", "visits_exhausted")
        await sound(rt, fork)

    trip(story)


@pytest.mark.slow
def test_its_own_budgets_continue_as_at_the_step() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await gone(rt, machine)
        fork = await rt.wait((await rt.fork(run.id, at=3)).id)
        meters = [f"run:{each.id}:calls" for each in (run, fork)]
        assert list((await rt._store.used(meters)).values()) == [3, 2]
        await rt.send(fork.id, Other(city="bonn"), by="ann")  # Its third call, of three.
        assert (await rt.wait(fork.id)).status == "dead"
        assert (await rt.dead_letter(fork.id)).error == "BudgetExhausted"
        assert list((await rt._store.used(meters)).values()) == [3, 3]

    trip(story, budget=Budget(calls=3))


def test_steps_are_bounded_as_if_other_data_were_no_step() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await waiting(rt, machine)
        fork = await rt.wait((await rt.fork(run.id, at=1, data={"plan": "walk"})).id)
        again = await rt.wait((await rt.fork(fork.id, at=2, data={"plan": "swim"})).id)
        await rt.send(again.id, Fine(), by="ann")
        again = await rt.wait(again.id)  # Its third step, of three.
        assert (again.status, again.seq, agency.done[-1]) == ("done", 5, "pay swim")

    trip(story, max_steps=3)


@pytest.mark.slow
def test_steps_that_a_redrive_granted_are_granted_to_what_follows_it_only() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        agency.closed = True
        run = await waiting(rt, machine)
        await rt.send(run.id, Fine(), by="ann")
        await rt.wait(run.id)
        agency.closed = False
        await rt.redrive(run.id, by="ann", steps=9)
        assert (await rt.wait(run.id)).status == "done"
        early = await rt.fork(run.id, at=1, detach=True)
        assert (await rt._store.load(bytes.fromhex(early.id))).extra_steps == 0
        open_visit = await rt.fork(run.id, at=2, detach=True)  # The redrive was part of the visit that is begun anew.
        assert (await rt._store.load(bytes.fromhex(open_visit.id))).extra_steps == 0

    trip(story)


@pytest.mark.slow
def test_time_counts_anew_from_the_fork() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await waiting(rt, machine)
        await agency.clock.advance(timedelta(days=30))
        fork = await rt.wait((await rt.fork(run.id, at=1)).id)
        assert (fork.status, fork.state) == ("waiting", "asking")  # Neither its deadline nor its review is over.
        assert fork.deadline_at is not None
        assert fork.deadline_at - fork.created_at == timedelta(days=3)
        (asked,) = await rt.reviews(fork.id, open_only=True)
        assert asked.expires_at is not None
        assert asked.expires_at - fork.created_at == timedelta(days=2)

    trip(story, deadline=timedelta(days=3))


def test_forking_again_with_the_same_key_answers_the_same_fork() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await waiting(rt, machine, key="order-1")
        first = await rt.fork(run.id, at=1, data={"plan": "walk"}, key="fork-1")
        assert (await rt.fork(run.id, at=1, data={"plan": "walk"}, key="fork-1")).id == first.id
        for at, data, key in (
            (1, None, "fork-1"),
            (0, {"plan": "walk"}, "fork-1"),
            (1, {"plan": "swim"}, "fork-1"),
            (1, None, "order-1"),
        ):
            with pytest.raises(KeyConflict, match=key):
                await rt.fork(run.id, at=at, data=data, key=key)
        with pytest.raises(ConfigError, match="given by the library"):
            await rt.fork(run.id, at=1, key="child:1")
        assert len(await rt.runs()) == 2

    trip(story)


@pytest.mark.slow
def test_rewinding_is_forking_where_a_state_was_entered_the_last_time() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        run = await gone(rt, machine)
        back = await rt.rewind(run.id, "planning", detach=True)
        assert (back.forked_step, (await rt.history(back.id))[2].target) == (2, "planning")
        assert (await rt.rewind(run.id, 0, detach=True)).forked_step == 0
        with pytest.raises(NotFound, match="never was in 'home'; it was in planning, asking"):
            await rt.rewind(run.id, "home")

    trip(story)


@pytest.mark.slow
def test_a_run_of_another_definition_is_not_forked_but_told_of(url: str) -> None:
    async def go() -> None:
        agency = Agency(url)
        old, new = agency.trips(), agency.trips(version="2", max_steps=9)
        async with agency.open(old) as rt:
            run = await waiting(rt, old)
        async with agency.open(new) as rt:
            with pytest.raises(VersionMismatch, match=r"with the code of that version$"):
                await rt.fork(run.id, at=0)
            past = await rt.at(run.id)
            assert isinstance(past.data, Trip)
            assert "version 1" in past.problem
        async with agency.open() as rt:
            with pytest.raises(NotFound, match="no machine 'trips'"):
                await rt.fork(run.id, at=0)
            past = await rt.at(run.id)
            assert (past.state, past.data) == ("asking", None)
            assert past.raw["data"]["city"] == "rome"
            assert [each["event"] for each in past.raw["since"]] == ["planned"]
            assert "no machine" in past.problem

    play(go)


@pytest.mark.slow
def test_an_operators_move_is_shared_history_like_any_other() -> None:
    async def story(agency: Agency, rt: Runtime, machine: Machine[Trip]) -> None:
        agency.closed = True
        run = await waiting(rt, machine)
        await rt.send(run.id, Fine(), by="ann")
        await rt.wait(run.id)
        await rt.redrive(run.id, by="ann", event=Forgive())
        fork = await rt.fork(run.id, at=2)
        assert (await rt.history(fork.id))[2].target == "paying"
        assert (await rt.wait(fork.id)).status == "dead"
        await sound(rt, run, fork)

    trip(story)


class Whole(Data):
    made: str = ""


class Made(Event):
    made: str


class Rest(Event): ...


@pytest.mark.slow
def test_child_runs_of_the_shared_history_are_not_started_again() -> None:
    async def go() -> None:
        agency = Agency("sqlite://")
        part: Machine[Whole] = Machine("part", data=Whole)

        @part.state(start=True)
        async def making(run: Run[Whole]) -> Made:
            agency.done.append("made")
            return Made(made="part")

        part.transitions(making.on(Made) >> part.final("ready", ok=True))
        whole: Machine[Whole] = Machine("whole", data=Whole, budget=Budget(calls=5))

        @whole.state(start=True, children=[part])
        async def ordering(run: Run[Whole]) -> Made:
            return Made(made=(await run.child(part, Whole())).data.made)

        @whole.state()
        async def resting(run: Run[Whole]) -> Rest:
            return Rest()

        whole.transitions(ordering.on(Made) >> resting, resting.on(Rest) >> whole.final("done", ok=True))
        async with agency.open(whole) as rt:
            run = await rt.wait((await rt.start(whole, Whole())).id)
            fork = await rt.wait((await rt.fork(run.id, at=1)).id)
            assert (fork.status, (await rt.data(fork.id, Whole)).made, agency.done) == ("done", "part", ["made"])
            again = await rt.wait((await rt.fork(run.id, at=0)).id)  # This visit had not ended then.
            assert (again.status, agency.done) == ("done", ["made", "made"])
            assert len(await rt.runs(RunFilter(parent=again.id))) == 1
            kid = (await rt.runs(RunFilter(parent=run.id)))[0]
            alone = await rt.wait((await rt.fork(kid.id, at=0)).id)
            assert (alone.status, alone.parent) == ("done", None)
            await sound(rt, *await rt.runs())

    play(go)


@pytest.mark.slow
def test_a_long_history_is_forked_with_a_snapshot_and_reads_the_same(url: str) -> None:
    async def go() -> None:
        class Book(Data):
            page: int = 0
            last: str = ""

        class Turned(Event):
            page: int
            last: str

        class Read(Event): ...

        machine: Machine[Book] = Machine("book", data=Book, max_steps=50)

        @machine.state(start=True, max_visits=49)
        async def reading(run: Run[Book]) -> Turned | Read:
            page = run.data.page + 1
            return Turned(page=page, last=f"{page} " + "x" * 8_000) if page < 30 else Read()

        closed, lost = machine.final("closed", ok=True), machine.final("lost")
        machine.transitions(reading.on(Turned) >> reading, reading.on(Read) >> closed, machine.anywhere.on(Failure) >> lost)
        async with Runtime(url, machines=[machine], clock=ManualClock()) as rt:
            run = await rt.wait((await rt.start(machine, Book())).id)
            fork = await rt.fork(run.id, at=20)
            loaded = await rt._store.load(bytes.fromhex(fork.id))
            assert loaded.snapshot is not None
            assert loaded.snapshot[0] >= 20
            assert await rt.data(fork.id, at=20) == await rt.data(run.id, at=20)
            assert (await rt.wait(fork.id)).seq == run.seq
            assert await rt.verify(fork.id) == []

    play(go)


@pytest.mark.slow
def test_a_detached_fork_waits_where_its_source_did(url: str) -> None:
    async def go() -> None:
        agency = Agency(url)
        agency.settings = replace(agency.settings, queues=("slow",))
        machine = agency.trips()
        async with agency.open(machine) as rt:
            run = await waiting(rt, machine, tenant="acme", queue="slow", priority=3)
        async with agency.open(machine, take="none") as desk:  # Nobody takes it here.
            fork = await desk.fork(run.id, at=0, detach=True)
            assert (fork.status, fork.tenant, fork.queue, fork.priority) == ("ready", "acme", "slow", 3)
            assert [entry.kind for entry in await desk.feed(fork.id)] == ["forked"]
        async with agency.open(machine) as rt:
            assert (await rt.wait(fork.id)).state == "asking"

    play(go)
