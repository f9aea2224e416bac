"""`make rivals`: the same work by statecraft and by others, each in a process of its own, taking turns on the same disk.

A contender that is not installed is left out, and said to be. `RIVALS_RUNS` (default 200) and `RIVALS_TURNS` (3) say how much.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rivals.work import SIZE, STEPS, Measured

if TYPE_CHECKING:
    from statecraft.testing.postgres import PostgresServer

RUNS = int(os.environ.get("RIVALS_RUNS", "200"))
TURNS = int(os.environ.get("RIVALS_TURNS", "3"))
QUEUED = int(os.environ.get("RIVALS_QUEUED", "5000"))
QUEUE_TURNS = int(os.environ.get("RIVALS_QUEUE_TURNS", "1"))
PATIENCE = 300
CONTENDERS = {
    "statecraft": ("ours", ("statecraft",)),
    "LangGraph": ("langgraph", ("langgraph", "langgraph.checkpoint.{kind}")),
    "Burr": ("burr", ("burr",)),
    "DBOS": ("dbos", ("dbos",)),
}
ONLY_SQLITE = {"Burr"}


def missing(name: str, kind: str) -> str | None:
    """Why a contender cannot run; None if it can."""
    if name in ONLY_SQLITE and kind != "sqlite":
        return "its synchronous persister was measured with SQLite only"
    for module in CONTENDERS[name][1]:
        wanted = module.format(kind=kind)
        try:
            found = importlib.util.find_spec(wanted)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"{wanted} is not installed; `make rivals` installs it if the package index can be reached"
    return None


def turn(name: str, url: str) -> Measured | str:
    """One turn of a contender, or why there is none."""
    command = [sys.executable, "-m", f"benchmarks.rivals.{CONTENDERS[name][0]}", url, str(RUNS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"not done in {PATIENCE} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"seconds"')]
    if done.returncode or not lines:
        return " ".join((done.stderr.strip().splitlines() or ["it said nothing"])[-1].split())[:160]
    return Measured(**json.loads(lines[-1]))


@contextmanager
def fresh(kind: str) -> Iterator[str]:
    """The URL of an empty database on this machine's disk."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'runs.db'}"
        return
    from statecraft.testing.postgres import PostgresServer

    with PostgresServer.for_tests(fsync=True) as server:
        yield server.create_database()


def compare(kind: str) -> None:
    """All contenders on one sort of database, in turns; print what they reached."""
    print(f"\n{kind}: {RUNS} runs of {STEPS} steps, {SIZE} characters of state, durable after each step, {TURNS} turns, medians")
    took: dict[str, list[Measured]] = {}
    left_out: dict[str, str] = {}
    for _ in range(TURNS):
        for name in CONTENDERS:
            why = left_out.get(name) or missing(name, kind)
            if why is None:
                with fresh(kind) as url:
                    result = turn(name, url)
                if isinstance(result, Measured):
                    took.setdefault(name, []).append(result)
                    continue
                why = result
            left_out[name] = why
    rates = {name: statistics.median(each.steps / each.seconds for each in turns) for name, turns in took.items()}
    ours = rates.get("statecraft")
    for name, rate in sorted(rates.items(), key=lambda each: -each[1]):
        ratio = f"{rate / ours:6.2f}" if ours else "     -"
        print(f"  {name:<12} {rate:10,.0f} steps/s  {ratio} of ours   {took[name][0].how}")
    for name, why in left_out.items():
        print(f"  {name:<12} left out: {why}")


def queues() -> None:
    """The same queue drained by one worker and by four, each a program of its own."""
    from statecraft.testing.postgres import PostgresServer

    print(f"\npostgres: a queue of {QUEUED} runs of {STEPS} steps, drained by one worker and by four")
    ours, theirs = ([sys.executable, "-m", module] for module in ("benchmarks.drain", "benchmarks.rivals.dbos_drain"))
    with PostgresServer.for_tests(fsync=True) as server:
        for name, command in (("statecraft", ours), ("DBOS", theirs)):
            why = missing(name, "postgres")
            if why is not None:
                print(f"  {name:<12} left out: {why}")
                continue
            turns = [[_drained(server, name, command, workers) for workers in (1, 4)] for _ in range(QUEUE_TURNS)]
            one, four = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
            each = ", ".join(f"{a:,.0f} and {b:,.0f}" for a, b in turns)
            print(f"  {name:<12} {one:8,.0f} runs/s by one, {four:8,.0f} by four: {four / one:.2f} times; in turns: {each}")


def _drained(server: PostgresServer, name: str, command: list[str], workers: int) -> float:
    """Runs a second."""
    from benchmarks.fleet import drained, open_runs, rows_left
    from benchmarks.rivals import dbos_drain

    url = server.create_database()
    subprocess.run([*command, url, str(QUEUED)], check=True, capture_output=True)
    left = open_runs(url) if name == "statecraft" else rows_left(url, dbos_drain.LEFT)
    return QUEUED / drained([*command, url], workers, left)


def main() -> int:
    """Everything on both databases; exit code 0, because nothing here is a target."""
    compare("sqlite")
    try:
        compare("postgres")
        queues()
    except Exception as error:  # noqa: BLE001 - whatever keeps PostgreSQL from starting is a reason to show, not a failure
        print(f"\npostgres: left out: {' '.join(str(error).split())[:200]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
