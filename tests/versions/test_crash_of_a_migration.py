"""Processes of two releases that die at any commit: a run is migrated once or not at all, and pays once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from statecraft import Approve, GatePolicy
from statecraft.decisions import Decision, DidNotHappen, Happened
from statecraft.records import ReviewRecord, Status
from tests.engine.dying import SETTINGS, Databases, World, in_file, pairs
from tests.servers import OnServer
from tests.versions.releases import RENAMED, Approved, Bill, Office, since

GATED = replace(SETTINGS, gate=GatePolicy(max_auto_risk="medium"))


def moved(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "receipts": [*data["receipts"], "moved"]}


class Story:
    """A run of the first release that dies at a point, and processes of the second that go on with it, and die."""

    def __init__(self, folder: Path, databases: Databases) -> None:
        folder.mkdir(parents=True)
        self.office = Office("")
        self.old, self.new = self.office.first(), self.office.renamed(since("1", states=RENAMED, data=moved))
        self.world: World[Bill] = World(
            folder, self.old, Bill(), verdict=self.verdict, decision=Approved(), settings=GATED, databases=databases
        )

    def verdict(self, world: World[Bill], review: ReviewRecord) -> Decision:
        if review.kind == "gate":
            return Approve()
        return Happened("paid 100") if "pay" in self.office.effects else DidNotHappen()

    def live(self, at: int, points: Sequence[int]) -> World[Bill]:
        """Die at `at` in the first release, at each of `points` in the second, and live on."""
        world = self.world
        if world.live(at) is None and not self.over():
            world.machine = self.new
            for point in points:
                self.never_half()
                if world.live(point) is not None:
                    break
            else:
                world.live()
        self.never_half()
        return world

    def over(self) -> bool:
        """Whether the first release ended the run, though nobody heard of it."""
        return "runs" in self.world.tables() and self.world.ask("SELECT status FROM runs") == [("done",)]

    def never_half(self) -> None:
        """Either all of the migration is there, or nothing."""
        world = self.world
        world.sound()
        if "runs" not in world.tables() or not (heads := world.ask("SELECT machine, extra_steps, seq FROM runs")):
            return
        machine, extra, seq = heads[0]
        names: dict[int, str] = dict(world.ask("SELECT machine, version FROM machines"))
        rows = world.ask("SELECT seq, machine, payload FROM transitions WHERE event = 'migrated'")
        last = world.ask(f"SELECT machine FROM transitions WHERE seq = {seq}")
        assert last == [(machine,)]
        assert len(rows) == extra <= 1
        for at, number, payload in rows:
            assert (names[number], number) == ("2", machine)
            ((kept_at, kept),) = world.ask("SELECT seq, data FROM snapshots")
            assert kept_at >= at
            if kept_at == at:
                assert json.loads(kept) == json.loads(payload)["data"]

    def ended_well(self) -> None:
        world = self.world
        assert world.noises == []
        assert world.ask("SELECT status FROM runs") == [(str(Status.DONE),)]
        assert self.office.effects.count("pay") == 1
        assert len({key for what, key in self.office.paid if what == "weigh"}) == 1
        migrated = world.ask("SELECT count(*) FROM transitions WHERE event = 'migrated'")[0][0]
        begun_old = world.ask("SELECT target FROM transitions WHERE seq = 0") == [("paying",)]
        ended_old = world.ask("SELECT count(*) FROM transitions WHERE source = 'checking' AND target = 'done'") == [(1,)]
        assert migrated == (begun_old and not ended_old)
        asked = world.ask("SELECT kind, decision FROM call_reviews")
        assert asked.count(("gate", "approve")) == 1
        assert len(asked) <= world.life  # the gate, and at most one doubt for each death


def points(folder: Path, databases: Databases) -> int:
    story = Story(folder, databases)
    assert story.world.live() is not None
    return story.world.points[0]


@pytest.mark.slow
def test_a_process_that_dies_at_any_commit_around_a_migration_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    every = points(tmp_path / "calm", in_file)
    for at, second in pairs(every, every, most=24, seed=20261207):
        story = Story(tmp_path / f"{at}-{second}", in_file)
        story.live(at, [second])
        story.ended_well()


@pytest.mark.slow
def test_on_a_server_a_migration_is_as_whole(on_server: OnServer, tmp_path: Path) -> None:
    every = points(tmp_path / "calm", on_server)
    for at, second in ((every // 3, 1), (every // 2, 3), (every // 2, 5), (2 * every // 3, 4)):
        story = Story(tmp_path / f"{at}-{second}", on_server)
        story.live(at, [second, second + 1])
        story.ended_well()
