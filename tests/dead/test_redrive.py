"""Dead letters: what they hold, and how a dead run goes on, is moved, or is given up."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from statecraft import Budget, CallInfo, Data, Event, Machine, Run, RunFilter, tool
from statecraft.errors import Gone, IllegalEvent, NotDead, NotFound, WouldDieAgain
from statecraft.letters import DeadFilter
from tests.dead.plant import Bought, Close, Order, Plant, Skip, dead, play
from tests.dead.test_timers import parked


def test_a_letter_holds_what_a_person_needs(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying()

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await dead(rt, machine)
            letter = await rt.dead_letter(run.id)
            assert (letter.machine, letter.state, letter.error, letter.call) == ("buying", "work", "permanent", "ship")
            assert "the shipper is down" in letter.reason
            assert letter.data == {"item": "tea", "said": []}
            assert [(call["name"], call["ok"], call["attempts"]) for call in letter.last_calls] == [
                ("charge", True, 1),
                ("ship", False, 1),
            ]
            assert letter.event == "call_failed"
            assert "a row for call_failed" in letter.needs
            assert letter.open
            assert [each.run_id for each in await rt.dead_letters()] == [run.id]
            assert await rt.dead_letters(DeadFilter(error="timeout")) == []

    play(story)


@pytest.mark.slow
def test_a_redriven_run_makes_the_failed_call_again_and_no_other(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying()

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await dead(rt, machine)
            again = await rt.redrive(run.id, by="ann", note="perhaps it is up")
            assert again.attempts <= 1  # The worker of this process may have claimed it already.
            again = await rt.wait(run.id)
            assert (again.status, (await rt.dead_letter(run.id)).deaths) == ("dead", 2)
            plant.down = False
            await rt.redrive(run.id, by="bob", note="it is up")
            done = await rt.wait(run.id)
            assert (done.status, plant.paid, len(plant.asked)) == ("done", ["tea"], 3)
            assert (await rt.data(run.id, Order)).said == ["paid 1", "shipped"]
            letter = await rt.dead_letter(run.id)
            assert (letter.open, letter.deaths) == (False, 2)
            told = [entry.detail for entry in await rt.feed(run.id) if entry.kind == "redriven"]
            assert [(each["actor"], each["note"]) for each in told] == [("ann", "perhaps it is up"), ("bob", "it is up")]
            assert await rt.verify(run.id) == []
            assert (await rt.replay(run.id)).agrees
            assert await rt.dead_letters() == []

    play(story)


def test_the_call_that_is_made_again_keeps_its_idempotency_key(tmp_path: Path) -> None:
    keys: list[str] = []
    machine = Machine("keys", data=Order)

    @tool(effect="idempotent")
    async def ship(info: CallInfo, item: str) -> str:
        """Ship it."""
        keys.append(info.key)
        if len(keys) == 1:
            raise ValueError("no")
        return "yes"

    @machine.state(start=True, tools=[ship])
    async def work(run: Run[Order]) -> Bought:
        return Bought(said=[await run.tool(ship, "tea")])

    machine.transitions(work.on(Bought) >> machine.final("done", ok=True))

    async def story() -> None:
        async with Plant(tmp_path).runtime(machine) as rt:
            run = await dead(rt, machine)
            await rt.redrive(run.id, by="ann")
            assert (await rt.wait(run.id)).status == "done"
            assert len(keys) == 2
            assert keys[0] == keys[1]

    play(story)


def test_an_operator_moves_a_dead_run_by_a_row_of_its_machine(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying()

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run, other = await dead(rt, machine), await dead(rt, machine)
            await rt.redrive(run.id, by="ann", event=Skip(said=["by hand"]))
            done = await rt.wait(run.id)
            last = (await rt.history(run.id))[-1]
            assert (done.status, done.state, last.event, last.actor) == ("done", "done", "skip", "ann")
            assert (await rt.data(run.id, Order)).said == ["by hand"]
            closed = await rt.redrive(other.id, by="ann", event=Close())
            assert (closed.status, closed.state) == ("failed", "closed")
            for each in (run, other):
                assert await rt.verify(each.id) == []
                assert (await rt.replay(each.id)).agrees

    play(story)


def test_what_is_not_declared_for_operators_moves_nothing(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying()

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await dead(rt, machine)
            with pytest.raises(IllegalEvent, match="skip or close"):
                await rt.redrive(run.id, by="ann", event=Bought())  # type: ignore[arg-type]
            assert (await rt.get(run.id)).status == "dead"
            done = await rt.redrive(run.id, by="ann", event=Close())
            with pytest.raises(NotDead, match="is failed in closed"):
                await rt.redrive(done.id, by="ann")
            with pytest.raises(NotFound):
                await rt.dead_letter("00" * 16)

    play(story)


def test_a_run_that_died_of_its_deadline_needs_another(tmp_path: Path) -> None:
    plant = Plant(tmp_path, down=False)
    machine = plant.buying(deadline=timedelta(minutes=5))

    async def story() -> None:
        async with plant.runtime(machine, take="none") as rt:
            run = await rt.start(machine, Order())
            await plant.clock.advance(timedelta(minutes=6))
        async with plant.runtime(machine) as rt:
            assert (await rt.wait(run.id)).status == "dead"
            assert (await rt.dead_letter(run.id)).error == "DeadlinePassed"
            with pytest.raises(WouldDieAgain, match="deadline="):
                await rt.redrive(run.id, by="ann")
            assert (await rt.dead_letter(run.id)).open
            await rt.redrive(run.id, by="ann", deadline=timedelta(minutes=1))
            done = await rt.wait(run.id)
            assert (done.status, done.degraded) == ("done", False)

    play(story)


class More(Event): ...


def test_a_run_that_died_of_its_steps_needs_more(tmp_path: Path) -> None:
    machine = Machine("steps", data=Order, max_steps=3)
    limit = [10]

    @machine.state(start=True)
    async def work(run: Run[Order]) -> More | Bought:
        limit[0] -= 1
        return More() if limit[0] > 0 else Bought()

    machine.transitions(work.on(More) >> work, work.on(Bought) >> machine.final("done", ok=True))

    async def story() -> None:
        async with Plant(tmp_path).runtime(machine) as rt:
            run = await dead(rt, machine)
            assert (run.seq, (await rt.dead_letter(run.id)).error) == (3, "StepsExhausted")
            with pytest.raises(WouldDieAgain, match="steps="):
                await rt.redrive(run.id, by="ann")
            await rt.redrive(run.id, by="ann", steps=2)
            run = await rt.wait(run.id)
            assert (run.status, run.seq) == ("dead", 5)
            await rt.redrive(run.id, by="ann", steps=9)
            assert (await rt.wait(run.id)).status == "done"

    play(story)


def test_visits_and_budgets_that_are_used_up_need_an_operators_row(tmp_path: Path) -> None:
    plant = Plant(tmp_path, down=False)
    machine = plant.buying(budget=Budget(calls=1))

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await rt.wait((await rt.start(machine, Order())).id)
            assert (run.status, (await rt.dead_letter(run.id)).error) == ("dead", "BudgetExhausted")
            await rt.redrive(run.id, by="ann", event=Skip())
            assert (await rt.wait(run.id)).status == "done"

    play(story)


def test_the_time_of_a_state_begins_anew_with_a_redrive(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying(timeout=timedelta(minutes=1))

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await dead(rt, machine)
            await plant.clock.advance(timedelta(hours=1))
            plant.down = False
            await rt.redrive(run.id, by="ann")
            assert (await rt.wait(run.id)).status == "done"

    play(story)


def test_two_who_redrive_one_run_do_it_once(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying()

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await dead(rt, machine)
            async with plant.runtime(machine, take="none") as other:
                await other.redrive(run.id, by="bob")
                with pytest.raises(NotDead, match="is ready in work"):
                    await rt.redrive(run.id, by="ann")
            assert [entry.detail["actor"] for entry in await rt.feed(run.id) if entry.kind == "redriven"] == ["bob"]

    play(story)


@pytest.mark.slow
def test_many_are_redriven_only_when_told_and_at_most_so_many(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying()

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            runs = [await dead(rt, machine) for _ in range(4)]
            plant.down = False
            preview = await rt.redrive_all(by="ann", limit=3)
            assert (preview.dry_run, preview.matching, len(preview.runs), len(preview.patterns)) == (True, 4, 3, 1)
            assert all(each.ok for each in preview.runs)
            assert len(await rt.dead_letters()) == 4
            done = await rt.redrive_all(DeadFilter(state="work"), by="ann", limit=3, dry_run=False)
            assert [each.run_id for each in done.runs] == [run.id for run in reversed(runs)][:3]
            for each in done.runs:
                assert (await rt.wait(each.run_id)).status == "done"
            left = await rt.dead_letters()
            assert [each.run_id for each in left] == [runs[0].id]
            refused = await rt.redrive_all(by="ann", event=More())  # type: ignore[arg-type]
            assert "no operator's event more" in refused.runs[0].refused

    play(story)


def test_a_dropped_run_ends_as_cancelled_and_stays_readable(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying()

    async def story() -> None:
        async with plant.runtime(machine) as rt:
            run = await dead(rt, machine)
            dropped = await rt.drop(run.id, by="ann", note="sold out")
            assert (dropped.status, dropped.reason) == ("cancelled", "sold out")
            assert "the shipper is down" in (await rt.dead_letter(run.id)).reason
            assert await rt.dead_letters() == []
            with pytest.raises(NotDead, match="only a dead run is dropped"):
                await rt.drop(run.id, by="ann", note="twice")

    play(story)


def test_patterns_count_what_runs_died_of_by_hour(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    machine = plant.buying()
    other = Machine("other", data=Order)

    @other.state(start=True)
    async def look(run: Run[Order]) -> Bought:
        raise KeyError("tea")

    other.transitions(look.on(Bought) >> other.final("done", ok=True))

    async def story() -> None:
        async with plant.runtime(machine, other) as rt:
            first = await dead(rt, machine)
            await plant.clock.advance(timedelta(hours=2))
            ids = [(await dead(rt, machine)).id for _ in range(2)]
            await dead(rt, other)
            most, least = await rt.dead_patterns()
            assert (most.machine, most.state, most.error, most.call, most.count) == ("buying", "work", "permanent", "ship", 3)
            hour = first.updated_at.hour
            assert {at: n for at, n in enumerate(most.hours) if n} == {hour: 1, (hour + 2) % 24: 2}
            assert (most.first_at, most.runs) == (first.updated_at, (ids[1], first.id))
            assert (least.error, least.call, least.count) == ("KeyError", "", 1)
            assert [each.machine for each in await rt.dead_patterns(DeadFilter(error="KeyError"))] == ["other"]
            assert await rt.dead_patterns(DeadFilter(since=most.last_at + timedelta(hours=1))) == []

    play(story)


# --- families ---------------------------------------------------------------------------------------------------------


class Ask(Data):
    said: str = ""


class Told(Event):
    said: str = ""


def family(plant: Plant, child: Machine[Order]) -> Machine[Ask]:
    parent = Machine("parent", data=Ask)

    @parent.state(start=True, children=[child])
    async def asking(run: Run[Ask]) -> Told:
        return Told(said=(await run.child(child, Order())).state)

    parent.transitions(asking.on(Told) >> parent.final("done", ok=True))
    return parent


@pytest.mark.slow
def test_a_child_whose_parent_was_told_of_its_death_is_not_redriven_but_the_parent_is(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    child = plant.buying()
    parent = family(plant, child)

    async def story() -> None:
        async with plant.runtime(parent) as rt:
            run = await rt.wait((await rt.start(parent, Ask())).id)
            (kid,) = await rt.runs(RunFilter(parent=run.id))
            assert (run.status, kid.status) == ("dead", "dead")
            with pytest.raises(Gone, match="has ended"):
                await rt.redrive(kid.id, by="ann")
            plant.down = False
            await rt.redrive(run.id, by="ann")
            done = await rt.wait(run.id)
            assert (done.status, len(await rt.runs(RunFilter(parent=run.id)))) == ("done", 2)
            assert await rt.verify(run.id) == []
            assert (await rt.replay(run.id)).agrees

    play(story)


def test_a_child_whose_parent_still_waits_is_redriven(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    child = plant.buying()
    parent = family(plant, child)

    async def story() -> None:
        async with plant.runtime(parent, take="own") as rt:
            run = await rt.start(parent, Ask())
            await parked(rt, run.id)
            kids = await rt.runs(RunFilter(parent=run.id))
            rt._worker.forget(bytes.fromhex(run.id))  # Nobody takes the parent here any more.
            kid = await rt.wait(kids[0].id)
            assert (kid.status, (await rt.get(run.id)).status) == ("dead", "waiting")
            plant.down = False
            await rt.redrive(kid.id, by="ann")
            assert (await rt.wait(kid.id)).status == "done"
            rt._worker.look_after(bytes.fromhex(run.id))
            assert (await rt.wait(run.id)).status == "done"
            assert (await rt.data(run.id, Ask)).said == "done"

    play(story)


def test_children_that_the_death_of_their_parent_cancelled_are_started_anew(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    child = Machine("dozing", data=Order)

    @child.state(start=True)
    async def doze(run: Run[Order]) -> Bought:
        if plant.down:
            await run.sleep(timedelta(hours=1))
        return Bought()

    child.transitions(doze.on(Bought) >> child.final("done", ok=True))
    parent = Machine("hasty", data=Ask)

    @parent.state(start=True, children=[child], timeout=timedelta(minutes=1))
    async def asking(run: Run[Ask]) -> Told:
        return Told(said=(await run.child(child, Order())).state)

    parent.transitions(asking.on(Told) >> parent.final("done", ok=True))

    async def story() -> None:
        async with plant.runtime(parent) as rt:
            run = await rt.start(parent, Ask())
            await parked(rt, run.id)
            (kid,) = await rt.runs(RunFilter(parent=run.id))
            await parked(rt, kid.id)
            await plant.clock.advance(timedelta(minutes=2))
            rt._worker.poke()
            assert (await rt.wait(run.id)).status == "dead"
            assert (await rt.dead_letter(run.id)).error == "StateTimeout"
            assert (await rt.get(kid.id)).status == "cancelled"
            plant.down = False
            await rt.redrive(run.id, by="ann")
            assert (await rt.wait(run.id)).status == "done"
            assert [each.status for each in await rt.runs(RunFilter(parent=run.id))] == ["done", "cancelled"]
            assert (await rt.replay(run.id)).agrees

    play(story)
