"""A process that is stopped past its lease and wakes up when another one has finished its run."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from statecraft import Runtime, Status
from tests.engine.holder import SETTINGS, Ear, Word, listening

HOLDER = Path(__file__).with_name("holder.py")
ROOT = Path(__file__).parents[2]


def dump(path: Path) -> list[str]:
    """Everything the database holds, but for the signs of life of the processes themselves."""
    with closing(sqlite3.connect(path)) as raw:
        return [line for line in raw.iterdump() if not line.startswith('INSERT INTO "workers"')]


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute(sql).fetchall()


async def finish(url: str) -> tuple[str, Word]:
    """Wait for the lease to end, take the run over and bring it to its end. (id, data)"""
    machine = listening(Ear(waits=False))
    async with Runtime(url, machines=[machine], settings=SETTINGS) as runtime:
        run = await runtime.start(machine, Word(), key="the-run")
        assert run.status is Status.RUNNING
        run = await runtime.wait(run.id, timeout=timedelta(seconds=60))
        assert run.status is Status.DONE
        assert run.epoch >= 2
        assert await runtime.verify(run.id) == []
        assert (await runtime.replay(run.id)).agrees
        data = await runtime.data(run.id)
        assert isinstance(data, Word)
        return run.id, data


def locked(path: Path) -> bool:
    """Whether somebody is in the middle of a write."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as raw:
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        raw.execute("ROLLBACK")
        return False


def stop(holder: subprocess.Popen[str], path: Path) -> None:
    """Stop the process, but not while it holds SQLite's lock: nobody could write then until it wakes up."""
    for _ in range(100):
        holder.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(holder.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        if not locked(path):
            return
        holder.send_signal(signal.SIGCONT)
    raise AssertionError("the holder was writing all the time")


def outlive(holder: subprocess.Popen[str], path: Path, url: str, word: str | None) -> tuple[list[str], str]:
    """Stop the holder in its tool, finish its run elsewhere, wake it up: (what the database held before that, run id)."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in the tool\n"
    stop(holder, path)
    assert ask(path, "SELECT status, seq FROM runs") == [("running", 0)]

    run_id, data = asyncio.run(finish(url))
    assert data.word == "the other's, noise 3"
    before = dump(path)

    if word is not None:
        holder.stdin.write(f"{word}\n")
        holder.stdin.flush()
    holder.send_signal(signal.SIGCONT)
    assert holder.stdout.readline() == "lost\n"
    holder.stdin.close()
    assert holder.stdout.read().splitlines()[-1] == "closed"
    assert holder.wait() == 0
    return before, run_id


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
@pytest.mark.parametrize("word", ["mine", None], ids=["it goes on in its tool", "nobody talks to it"])
def test_a_holder_stopped_past_its_lease_writes_nothing_when_it_wakes_up(tmp_path: Path, word: str | None) -> None:
    path = tmp_path / "runs.db"
    url = f"sqlite:///{path}"
    command = [sys.executable, str(HOLDER), url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as holder:
        try:
            before, run_id = outlive(holder, path, url, word)
        finally:
            holder.kill()
    assert dump(path) == before
    assert ask(path, "SELECT count(*), count(DISTINCT epoch) FROM calls") == [(3, 2)]
    assert ask(path, "SELECT lower(hex(run_id)), status, owner FROM runs") == [(run_id, "done", None)]
