"""Several processes on one SQLite file: each run is in one process's hands, each step is taken once, who dies is replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from statecraft import Runtime, Settings, Status
from tests.acceptance.drainer import SETTINGS, Parcel, posting

ROOT = Path(__file__).parents[2]


def steps(runs: int) -> set[tuple[str, str]]:
    return {(str(n), step) for n in range(runs) for step in ("pack", "send")}


@contextmanager
def drainers(url: str, diary: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that have opened the database and look for runs."""
    command = [sys.executable, str(Path(__file__).with_name("drainer.py")), url, str(diary)]
    started = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for _ in range(count)
    ]
    try:
        for one in started:
            assert one.stdout is not None
            assert one.stdout.readline() == "open\n"
        yield started
    finally:
        for one in started:
            one.communicate()


def drained(
    tmp_path: Path, count: int, meanwhile: Callable[[Path, list[subprocess.Popen[str]]], None]
) -> list[tuple[str, str, str]]:
    """What the processes wrote into their diary until all runs were done: (process, run, step)."""
    url, diary = f"sqlite:///{tmp_path}/runs.db", tmp_path / "diary.txt"
    diary.touch()

    async def story(workers: list[subprocess.Popen[str]]) -> None:
        machine = posting(None)
        async with Runtime(url, machines=[machine], settings=Settings(take="none", poll=SETTINGS.poll)) as rt:
            runs = await asyncio.gather(*(rt.start(machine, Parcel(n=n), detach=True) for n in range(count)))
            await asyncio.to_thread(meanwhile, diary, workers)
            for run in runs:
                ended = await rt.wait(run.id, timeout=timedelta(seconds=60))
                assert (ended.status, ended.state, ended.seq) == (Status.DONE, "sent", 2)
            assert await rt.verify(runs[0].id) == await rt.verify(runs[-1].id) == []

    with drainers(url, diary, 4) as workers:
        asyncio.run(story(workers))
    with closing(sqlite3.connect(tmp_path / "runs.db")) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        assert raw.execute("SELECT count(*), max(calls), min(calls) FROM transitions WHERE seq > 0").fetchone() == (
            2 * count,
            1,
            1,
        )
    lines = [line.split() for line in diary.read_text().splitlines()]
    return [(owner, run, step) for owner, run, step in lines]


def nothing(_: Path, __: list[subprocess.Popen[str]]) -> None: ...


@pytest.mark.slow
def test_four_processes_drain_the_runs_of_one_file_and_take_each_step_once(tmp_path: Path) -> None:
    noted = drained(tmp_path, 200, nothing)
    assert Counter((run, step) for _, run, step in noted) == Counter(steps(200))
    owners = {run: {owner for owner, each, _ in noted if each == run} for _, run, _ in noted}
    assert all(len(found) == 1 for found in owners.values())
    assert len({owner for owner, _, _ in noted}) > 1
    with closing(sqlite3.connect(tmp_path / "runs.db")) as raw:
        assert raw.execute("SELECT DISTINCT epoch FROM runs").fetchall() == [(1,)]


@pytest.mark.slow
def test_of_four_processes_one_is_killed_and_the_others_finish_its_runs(tmp_path: Path) -> None:
    def kill(diary: Path, workers: list[subprocess.Popen[str]]) -> None:
        """Kill the first that is seen at work."""
        while "\n" not in (text := diary.read_text()):
            os.sched_yield()
        [victim] = [one for one in workers if one.pid == int(text.split()[0])]
        victim.send_signal(signal.SIGKILL)
        victim.wait()

    noted = drained(tmp_path, 60, kill)
    taken = Counter((run, step) for _, run, step in noted)
    assert taken.keys() == steps(60)
    # Only what the dead one had in hand was done again: a call whose answer was not yet durable.
    again = [step for step, times in taken.items() if times > 1]
    assert len(again) <= SETTINGS.concurrency
    assert max(taken.values()) <= 2
