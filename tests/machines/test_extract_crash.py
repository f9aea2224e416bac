"""The extraction agent, killed just before or just after a commit: whatever died, each document is in the table once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from machines.extract import Approved, Batch, extract
from machines.extract_offline import OfflineExtraction
from statecraft import Runtime, Settings, Status
from statecraft.ids import RandomIds
from statecraft.store.sql import SqlStore
from statecraft.testing.lives import Dying, Ground, take_over, unhurried
from tests.machines.extract_cases import DOLLAR, NONE, SURE, folder_of, table

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """One folder, one database for its rows, one for the runs, and a person who approves."""

    place: Path
    ground: Ground = field(default_factory=Ground)
    lives: int = 0

    def live(self, at: int | None = None) -> tuple[str | None, int]:
        """The state that one process brought the run to, None if it died first; and the points it passed."""
        probe = Dying(at)
        ended = self.ground.live(probe, self._open, self._tell)
        return ended, probe.points

    def _open(self, store: SqlStore) -> Runtime:
        options: dict[str, Any] = {"settings": unhurried(Settings()), "clock": self.ground.clock, "ids": RandomIds(self.lives)}
        self.lives += 1
        return Runtime(self.ground.url, machines=[extract], llm=OfflineExtraction(), store=store, **options)

    async def _tell(self, runtime: Runtime) -> str:
        batch = Batch(folder=str(self.place / "documents"), database=str(self.place / "out.db"))
        run = await runtime.start(extract, batch, key="the-run")
        await take_over(runtime, run)
        run = await runtime.wait(run.id)
        if run.status is Status.WAITING:
            await runtime.send(run.id, Approved(), by="ann")
            run = await runtime.wait(run.id)
        assert (await runtime.data(run.id, Batch)).written == 2
        assert (await runtime.replay(run.id)).agrees
        return run.state


def told(place: Path, *deaths: int) -> int:
    """Die at each of these points in turn, then live to the end; answers the points of the last life."""
    place.mkdir()
    folder_of(place, f"{SURE} {DOLLAR} {NONE}")
    story = Story(place)
    try:
        for at in deaths:
            if (ended := story.live(at)[0]) is not None:
                assert ended == "complete"
        ended, points = story.live()
    finally:
        story.ground.close()
    assert ended == "complete"
    assert table(place) == [(SURE, 1), (DOLLAR, 1)]
    assert table(place, "SELECT file, records FROM invoices_documents ORDER BY 1") == [(SURE, 1), (DOLLAR, 1), (NONE, 0)]
    assert table(place, "SELECT count(*), count(DISTINCT key) FROM invoices") == [(2, 1)]
    return points


def test_a_run_that_dies_anywhere_writes_each_document_once(tmp_path: Path) -> None:
    points = told(tmp_path / "whole")
    assert points > 40
    for at in range(points):
        told(tmp_path / str(at), at)
