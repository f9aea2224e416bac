"""A worker that is told to stop is gone soon, whatever its handlers do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from statecraft.cli import leaving
from statecraft.cli.exits import Exit
from statecraft.cli.leaving import Leaving
from tests.cli.support import cli, fields

STUCK = '''
import asyncio, time
from pathlib import Path
from statecraft import Data, Event, Failure, Machine, Run, Settings, seconds, tool


class Item(Data):
    how: str = ""


class Done(Event):
    pass


@tool(effect="idempotent", risk="low")
def hang() -> str:
    """Hang."""
    Path("thread.begun").touch()
    time.sleep(10_000)
    return ""


items = Machine("items", data=Item)


@items.state(start=True, tools=[hang])
async def first(run: Run[Item]) -> Done:
    if run.data.how != "thread":
        Path(f"{run.data.how}.begun").touch()
    while run.data.how == "deaf":
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
    while run.data.how == "busy":
        sum(range(1000))
    if run.data.how == "thread":
        await run.tool(hang)
    return Done()


items.transitions(first.on(Done) >> items.final("done", ok=True), items.anywhere.on(Failure) >> items.final("failed"))
settings = Settings(poll=seconds(0.2))
'''
PROGRAM = """
import sys
import time
from statecraft.cli import leaving
from statecraft.worker import worker
leaving.LATE, leaving.AT_ONCE, leaving.LINGER, worker.STUBBORN = 20.0, 0.5, 0.5, 0.2
from statecraft.cli import main
sys.argv[0] = "statecraft"
main()
"""
ENDS = {"deaf": (1, Exit.DONE, "ready"), "thread": (1, Exit.DONE, "ready"), "busy": (2, Exit.FAILED, "running")}
"""By what the handler does: how many signals, the exit code, and how the run stands then."""


@pytest.mark.slow
def test_a_worker_whose_handler_does_not_end_leaves_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stuck.py").write_text(STUCK)
    workers: dict[str, subprocess.Popen[str]] = {}
    for how in ENDS:
        assert cli("start", "stuck.py:items", "--set", f"how={how}", "--detach", "--db", f"{how}.db").exit_code == 0
        words = ["worker", "stuck.py:items", "--grace", "0.2s", "--db", f"{how}.db"]
        command = [sys.executable, "-c", PROGRAM, *words]
        workers[how] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        for how in ENDS:
            leave(how, workers[how])
    finally:
        for one in workers.values():
            if one.poll() is None:
                one.kill()
                one.communicate()


def leave(how: str, one: subprocess.Popen[str]) -> None:
    """Tell a worker to stop while its handler is under way, and look at what becomes of it and of its run."""
    signals, code, status = ENDS[how]
    gave_up = time.monotonic() + 30
    while not Path(f"{how}.begun").exists():
        assert time.monotonic() < gave_up, f"the handler that is {how} did not begin"
        time.sleep(0.02)
    for _ in range(signals):
        one.send_signal(signal.SIGTERM)
        if signals > 1:
            time.sleep(0.3)
    _, rest = one.communicate(timeout=30)
    assert (one.returncode, "worker cut off: " in rest) == (code, True), rest
    assert ("run.stuck" in rest) == (how == "deaf")
    assert [run["status"] for run in fields(cli("runs", "--json", "--db", f"{how}.db"))["runs"]] == [status]


def test_the_third_signal_ends_the_process_here_and_now(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Exit] = []
    monkeypatch.setattr(leaving, "_end", lambda code, _: ended.append(code))
    with Leaving(60.0) as one:
        one.told()
        one.told()
        assert ended == []
        one.told()
    assert ended == [Exit.FAILED]


def test_who_leaves_in_time_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LATE", 0.05)
    monkeypatch.setattr(leaving, "LINGER", 0.05)
    ended: list[Exit] = []
    monkeypatch.setattr(leaving, "_end", lambda code, _: ended.append(code))
    with Leaving(0.0) as one:
        one.told()
        one.done()
        assert len(one.timers) == 1
    assert one.timers == []
    assert ended == []
