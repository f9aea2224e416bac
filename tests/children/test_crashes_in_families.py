"""A parent with children, and a process that dies at every commit: each child starts once, and the end is the same."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from statecraft import CallInfo, Failure, Machine, Run, Runtime, any_of, tool
from statecraft.errors import RunClosed
from statecraft.ids import RandomIds, idempotency_key
from statecraft.records import RunRecord, Status
from statecraft.store import open_store
from tests.children.kin import Done, Failed, Made, Piece, Whole
from tests.engine.dying import SETTINGS, Databases, Dying, FirstIsFixed, World, in_file, lives, pairs, some
from tests.servers import OnServer

OPEN = "SELECT count(*) FROM runs WHERE status NOT IN ('done', 'failed', 'cancelled', 'dead')"


class Ids(FirstIsFixed):
    """Every run of a database has an id of its own."""

    def run_id(self, now: int) -> bytes:
        return RandomIds.run_id(self, now)


@dataclass
class Household(World[Whole]):
    """A world whose processes take over every run of the one before."""

    ids: FirstIsFixed = field(default_factory=lambda: Ids(3))

    async def _story(self, probe: Dying) -> RunRecord:
        options: dict[str, Any] = {"settings": SETTINGS, "clock": self.clock, "ids": self.ids}
        async with Runtime(self.url, machines=[self.machine], store=open_store(self.url, probe=probe), **options) as runtime:
            run = await runtime.start(self.machine, self.data, key="the-run")
            for each in await runtime.runs():
                if each.owner not in (None, runtime._worker.owner):
                    with contextlib.suppress(RunClosed):
                        await runtime.resume(each.id, force=True)
            run = await runtime.wait(run.id)
            for each in await runtime.runs():
                assert await runtime.verify(each.id) == []
                replayed = await runtime.replay(each.id)
                assert replayed.agrees, str(replayed.divergence)
            return run

    def finished(self) -> set[str]:
        """Keys of the tool calls that are recorded."""
        if "calls" not in self.tables():
            return set()
        found = self.ask("SELECT c.run_id, seq, digest, occurrence FROM calls c WHERE kind = 'tool'")
        return {idempotency_key(*row) for row in found}


@dataclass
class Stage:
    """The machines, for one world after another."""

    place: list[Household] = field(default_factory=list)
    databases: Databases = in_file

    def machine(self, *, race: bool) -> Machine[Whole]:
        piece = self.piece()
        parent = Machine("race" if race else "whole", data=Whole)

        @tool(effect="idempotent")
        async def pack(info: CallInfo, parts: list[str]) -> list[str]:
            """Pack what was made."""
            self.place[0].effects.append((self.place[0].life, info.key))
            return parts

        @parent.state(start=True, children=[piece], tools=[pack])
        async def working(run: Run[Whole]) -> Done:
            async def one(n: int) -> str:
                return (await run.child(piece, Piece(n=n))).data.made

            made = [await run.map(one, [0, 1, 2], join=any_of)] if race else await run.map(one, [1, 2])
            return Done(parts=await run.tool(pack, made))

        failed = parent.final("failed")
        parent.transitions(working.on(Done) >> parent.final("done", ok=True), parent.anywhere.on(Failure) >> failed)
        return parent

    def piece(self) -> Machine[Piece]:
        machine = Machine("piece", data=Piece)

        @tool(effect="idempotent")
        async def cut(info: CallInfo, n: int) -> str:
            """Cut a piece."""
            self.place[0].effects.append((self.place[0].life, info.key))
            return f"piece {n}"

        @machine.state(start=True, tools=[cut])
        async def making(run: Run[Piece]) -> Made | Failed:
            return Made(made=await run.tool(cut, run.data.n)) if run.data.n else Failed()

        made, spoiled = machine.final("made", ok=True), machine.final("spoiled")
        machine.transitions(making.on(Made) >> made, making.on(Failed) >> spoiled, machine.anywhere.on(Failure) >> spoiled)
        return machine

    def new(self, folder: Path, machine: Machine[Whole]) -> Household:
        folder.mkdir(parents=True)
        self.place[:] = [Household(folder, machine, Whole(), databases=self.databases)]
        return self.place[0]


def disturbed(stage: Stage, machine: Machine[Whole], folder: Path, points: tuple[int, ...]) -> Household:
    """Die at the points; assert what must hold whenever and wherever a process dies."""
    world = stage.new(folder, machine)
    done: list[set[str]] = []

    def watch() -> None:
        world.sound()
        done.append(world.finished())

    ended = lives(world, points, watch)
    assert (ended.status, ended.state) == (Status.DONE, "done")
    assert world.noises == []
    assert world.ask(OPEN) == [(0,)]
    made = Counter(key for _, key in world.effects)
    assert all(times <= 1 + len(done) for times in made.values())
    for life, key in world.effects:
        assert not any(key in known for known in done[:life]), f"life {life} made a finished call again"
    assert all(row == (1,) for row in world.ask("SELECT count(*) FROM feed WHERE kind = 'started' GROUP BY run_id"))
    return world


def result(world: Household) -> list[str]:
    ((payload,),) = world.ask("SELECT payload FROM transitions WHERE event = 'done'")
    parts: list[str] = json.loads(payload)["parts"]
    return parts


def check_two(world: Household) -> None:
    assert result(world) == ["piece 1", "piece 2"]
    assert world.ask("SELECT status, count(*) FROM runs GROUP BY 1") == [("done", 3)]
    kinds = "SELECT kind, count(*) FROM calls GROUP BY 1 ORDER BY 1"
    assert world.ask(kinds) == [("child", 2), ("tool", 3)]
    assert len({key for _, key in world.effects}) == 3


def check_race(world: Household) -> None:
    ((join,),) = world.ask("SELECT result FROM calls WHERE kind = 'join'")
    (chosen,) = json.loads(join)["chosen"]
    assert result(world) == [f"piece {chosen}"]
    assert chosen in (1, 2)
    assert world.ask("SELECT count(*) FROM runs WHERE status = 'done' AND parent IS NOT NULL")[0][0] >= 1
    assert world.ask("SELECT count(*) FROM runs") == [(4,)]


CASES = [(False, check_two), (True, check_race)]


@pytest.mark.slow
@pytest.mark.parametrize(("race", "check"), CASES, ids=["two", "race"])
def test_a_family_whose_process_dies_at_any_commit_ends_as_if_nothing_happened(tmp_path: Path, race: bool, check: Any) -> None:
    stage = Stage()
    machine = stage.machine(race=race)
    for at in range(disturbed(stage, machine, tmp_path / "calm", ()).points[0]):
        check(disturbed(stage, machine, tmp_path / str(at), (at,)))


@pytest.mark.slow
@pytest.mark.parametrize(("race", "check"), CASES, ids=["two", "race"])
def test_a_family_whose_processes_die_at_any_two_commits_ends_as_well(tmp_path: Path, race: bool, check: Any) -> None:
    stage = Stage()
    machine = stage.machine(race=race)
    points = disturbed(stage, machine, tmp_path / "calm", ()).points[0]
    for one, two in pairs(points, points, most=30, seed=20261121):
        check(disturbed(stage, machine, tmp_path / f"{one}-{two}", (one, two)))


@pytest.mark.slow
@pytest.mark.parametrize(("race", "check"), CASES, ids=["two", "race"])
def test_a_family_on_a_server_whose_processes_die_ends_as_well(
    on_server: OnServer, tmp_path: Path, race: bool, check: Any
) -> None:
    stage = Stage(databases=on_server)
    machine = stage.machine(race=race)
    points = disturbed(stage, machine, tmp_path / "calm", ()).points[0]
    for at in some(points, step=5):
        check(disturbed(stage, machine, tmp_path / str(at), (at, points - at)))
