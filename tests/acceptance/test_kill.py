"""A research run killed with SIGKILL, at every persistence point and at random moments, ends as if nothing happened."""

from __future__ import annotations

import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).parents[2]
SIGKILLED = -9


@dataclass
class Server:
    """The process that forks one child per request."""

    process: subprocess.Popen[str]

    def run(self, folder: Path, **request: object) -> tuple[int, str]:
        """(exit status, what the child said) of one child working on the database in `folder`."""
        line = {"url": f"sqlite:///{folder / 'runs.db'}", "calls": str(folder / "calls.txt"), **request}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return int(answer["status"]), str(answer["said"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    script = Path(__file__).with_name("crash_server.py")
    command = [sys.executable, str(script)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANTHROPIC_")}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


@dataclass(frozen=True)
class Ending:
    """All that must not depend on when the process died."""

    head: tuple[Any, ...]
    path: list[tuple[Any, ...]]
    calls: list[tuple[Any, ...]]


def ending(folder: Path) -> Ending:
    with closing(sqlite3.connect(folder / "runs.db")) as db, db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        (run,) = db.execute("SELECT state, status, seq FROM runs").fetchall()
        moves = "SELECT seq, source, event, target, coalesce(payload, hex(payload_hash)) FROM transitions ORDER BY seq"
        answer = "hex(digest), occurrence, ok, coalesce(result, hex(result_hash))"
        calls = f"SELECT seq, kind, name, {answer} FROM calls ORDER BY seq, digest, occurrence"
        return Ending(run, db.execute(moves).fetchall(), db.execute(calls).fetchall())


def model_requests(folder: Path) -> int:
    return len((folder / "calls.txt").read_text().splitlines())


@pytest.fixture(scope="module")
def calm(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ending, int, int]:
    """(ending, persistence points, model requests) of a run that nobody kills."""
    folder = tmp_path_factory.mktemp("calm")
    status, said = server.run(folder)
    assert status == 0, said
    return ending(folder), int(said), model_requests(folder)


@pytest.mark.slow
def test_sigkill_at_every_persistence_point_leads_to_the_same_end(
    server: Server, calm: tuple[Ending, int, int], tmp_path: Path
) -> None:
    expected, points, requests = calm
    repeated: Counter[int] = Counter()
    for at in itertools.count():
        folder = tmp_path / str(at)
        folder.mkdir()
        status, said = server.run(folder, kill_at=at)
        if status == 0:  # It passed fewer points than that: parallel calls share commits as they happen to meet.
            break
        assert status == SIGKILLED, said
        status, said = server.run(folder)
        assert status == 0, f"resuming after a kill at point {at}: {said}"
        assert ending(folder) == expected, f"killed at point {at}"
        repeated[model_requests(folder) - requests] += 1
    assert points > 20
    assert repeated.total() > points / 2
    # Only a call whose answer was not yet durable is made again: with calls in parallel, those in flight.
    assert min(repeated) == 0
    assert repeated[0] > repeated.total() / 2


@pytest.mark.slow
def test_sigkill_at_random_moments_again_and_again_leads_to_the_same_end(
    server: Server, calm: tuple[Ending, int, int], tmp_path: Path
) -> None:
    expected, _, _ = calm
    rng = random.Random(20261121)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    begun = time.monotonic()
    assert server.run(fresh)[0] == 0
    whole = time.monotonic() - begun
    killed = 0
    for trial in range(6):
        folder = tmp_path / str(trial)
        folder.mkdir()
        for _ in range(20):
            status, said = server.run(folder, kill_after=rng.uniform(0.1, 0.6) * whole)
            if status == 0:
                break
            assert status == SIGKILLED, said
            killed += 1
        else:
            status, said = server.run(folder)
            assert status == 0, said
        assert ending(folder) == expected, f"trial {trial}"
    assert killed >= 6


def test_the_calm_run_ends_and_its_calls_are_recorded_once(calm: tuple[Ending, int, int]) -> None:
    expected, _, requests = calm
    assert cast(str, expected.head[1]) == "done"
    keys = [call[0:1] + call[3:5] for call in expected.calls]
    assert len(keys) == len(set(keys))
    assert requests == sum(call[1] == "llm" for call in expected.calls)
