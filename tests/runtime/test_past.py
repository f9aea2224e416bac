"""Runs as they were, side by side, and worked out again by their machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from statecraft import Data, Event, Machine, Run, Runtime, StepsExhausted
from statecraft.errors import ConfigError, NotFound
from tests.runtime.trips import Agency, Fine, gone, play, waiting
from tests.store.rig import tampered


def test_a_run_is_what_it_was_after_each_of_its_steps() -> None:
    async def go() -> None:
        agency = Agency("sqlite://")
        machine = agency.trips()
        async with agency.open(machine) as rt:
            run = await gone(rt, machine)
            steps = [await rt.at(run.id, step) for step in range(6)]
            assert [past.state for past in steps] == ["planning", "asking", "planning", "asking", "paying", "gone"]
            assert [past.raw["notes"] for past in steps[1:4]] == [["rome"], ["rome"], ["rome", "oslo"]]
            assert [past.visits.get("asking", 0) for past in steps] == [0, 1, 1, 2, 2, 2]
            assert [past.calls for past in steps] == [0, 1, 1, 2, 2, 3]
            for past in steps:
                assert (past.problem, past.data) == ("", await rt.data(run.id, at=past.step))
            assert (await rt.at(run.id)).step == 5
            with pytest.raises(NotFound, match="steps 0 to 5"):
                await rt.at(run.id, 6)

    play(go)


def test_two_runs_are_compared_move_by_move_field_by_field_call_by_call() -> None:
    async def go() -> None:
        agency = Agency("sqlite://")
        machine = agency.trips()
        async with agency.open(machine) as rt:
            run = await gone(rt, machine)
            same = await rt.diff(run.id, run.id)
            assert (same.equal, same.shared, same.parting) == (True, 6, None)
            fork = await rt.wait((await rt.fork(run.id, at=3, data={"plan": "walk"}, by="bob")).id)
            await rt.send(fork.id, Fine(notes=["ok"]), by="ann")
            await rt.wait(fork.id)
            found = await rt.diff(run.id, fork.id)
            assert found.parting is not None
            assert found.parting.one is not None
            assert found.parting.other is not None
            assert (found.shared, found.parting.step) == (4, 4)
            assert (found.parting.one.event, found.parting.other.event) == ("fine", "forked")
            assert dict(found.fields) == {"plan": ("2 days in oslo", "walk"), "paid": ("receipt 3", "receipt 4")}
            assert [(change.what, change.step) for change in found.calls] == [("only one", 4), ("only other", 4)]
            assert (found.one.calls, found.other.calls, found.one.state) == (3, 3, "gone")
            steps = await rt.diff(f"{run.id}:1", f"{run.id}:3")
            assert steps.parting is not None
            assert (steps.shared, steps.parting.one) == (2, None)
            assert dict(steps.fields)["city"] == ("rome", "oslo")
            assert [change.what for change in steps.calls] == ["only other"]
            with pytest.raises(ConfigError, match="RUN:STEP"):
                await rt.diff(run.id, f"{run.id}:x")

    play(go)


def test_an_answer_that_differs_is_told_of_one_call() -> None:
    async def go() -> None:
        agency = Agency("sqlite://")
        machine = agency.trips()
        async with agency.open(machine) as rt:
            one, other = [await waiting(rt, machine) for _ in range(2)]
            found = await rt.diff(one.id, other.id)
            (change,) = found.calls
            assert (change.what, change.step) == ("answer", 0)
            assert change.one is not None
            assert change.other is not None
            assert (change.one.result, change.other.result) == ("1 days in rome", "2 days in rome")

    play(go)


@pytest.mark.slow
def test_a_run_that_moves_on_while_it_is_looked_at_is_told_as_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Head, moves and calls are read one after the other, and somebody else may be running the run."""

    async def go() -> None:
        agency = Agency("sqlite://")
        machine, limited = agency.trips(), counting(max_steps=2)
        async with agency.open(machine, limited) as rt:
            run = await waiting(rt, machine)
            head, moves = await rt.get(run.id), await rt.history(run.id)
            await rt.send(run.id, Fine(notes=["ok"]), by="ann")
            await rt.wait(run.id)
            counted = await rt.wait((await rt.start(limited, Counted())).id)
            assert counted.degraded
            with monkeypatch.context() as patch:
                patch.setattr(rt._store, "history", answering(moves))
                found = await rt.diff(run.id, run.id)
                assert (found.equal, found.shared, found.one.calls) == (True, 2, 1)
            with monkeypatch.context() as patch:
                patch.setattr(rt._store, "run", answering(head))
                explained = await rt.explain(run.id)
                assert (len(explained.steps), explained.steps[-1].event) == (2, None)
                patch.setattr(rt._store, "run", answering(replace(counted, seq=1, degraded=False)))
                assert await rt.verify(counted.id) == []

    play(go)


def answering(found: object) -> Callable[..., Any]:
    """A question to the store that was answered a moment ago."""

    async def answer(*_: object) -> object:
        return found

    return answer


class Counted(Data):
    n: int = 0


class Up(Event):
    n: int


class End(Event): ...


def few(event: Up, data: Counted) -> bool:
    return event.n <= ALLOWED[0]


ALLOWED = [2]


def counting(max_steps: int = 9) -> Machine[Counted]:
    machine = Machine("counting", data=Counted, max_steps=max_steps)

    @machine.state(start=True)
    async def going(run: Run[Counted]) -> Up:
        return Up(n=run.data.n + 1)

    done = machine.final("done", ok=True)
    machine.transitions(going.on(Up.when(few)) >> going, going.on(Up) >> done, going.on(StepsExhausted) >> done)
    return machine


def test_a_machine_whose_code_answers_otherwise_is_found_though_the_hashes_hold(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = counting()

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await rt.wait((await rt.start(machine, Counted())).id)
            assert await rt.verify(run.id) == []
            monkeypatch.setattr(f"{__name__}.ALLOWED", [1])
            (found,) = [problem for problem in await rt.verify(run.id) if problem.startswith("transition 2")]
            assert found == "transition 2: up leads to done, but it is recorded to going"
        async with Runtime(url) as rt:
            assert await rt.verify(run.id) == []  # Without the code there are only hashes.

    play(go)


@pytest.mark.slow
def test_a_forged_history_whose_every_hash_holds_is_found_by_folding_it(url: str) -> None:
    """Somebody who rewrites rows and hashes alike is found where the machine works out something else."""
    from statecraft.store import chain

    machine = counting()

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await rt.wait((await rt.start(machine, Counted())).id)
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as raw:
            rows = raw.execute("SELECT * FROM transitions ORDER BY seq")
            names = [each[0] for each in rows.description]
            previous, changes = chain.origin(), []
            for row in (dict(zip(names, values, strict=True)) for values in rows.fetchall()):
                guards = row["guards"].replace("true", "false") if row["seq"] == 1 else row["guards"]
                place = ("run_id", "seq", "machine", "source", "event", "target", "epoch", "at", "payload")
                what: Any = (*(row[name] for name in place), guards, row["actor"], [])
                previous = chain.link(previous, *what)
                changes.append(f"UPDATE transitions SET guards = '{guards}', hash = x'{previous.hex()}' WHERE seq = {row['seq']}")
        tampered(url, *changes)
        async with Runtime(url, machines=[machine]) as rt:
            assert await rt.verify(run.id) == ["transition 1: its guards answer few yes, but few no is recorded"]

    play(go)


@pytest.mark.slow
def test_a_snapshot_that_is_not_what_the_payloads_fold_to_is_found(url: str) -> None:
    from statecraft.store import chain

    machine = counting()

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await rt.wait((await rt.start(machine, Counted())).id)
        mark = chain.snapshot_hash(1, '{"n":7}').hex()
        tampered(url, f"INSERT INTO snapshots SELECT run_id, 1, x'{mark}', '{{\"n\":7}}' FROM runs")
        async with Runtime(url, machines=[machine]) as rt:
            assert await rt.verify(run.id) == ["snapshot of step 1: differs from the data that the payloads fold to"]

    play(go)
