"""What a fleet costs on PostgreSQL (fsync on, a private server): `python -m benchmarks fleet`. It takes minutes.

- The engine against raw psycopg: 200 runs at once; the floor writes the same rows (a transition, the head, a feed entry) in the
  same batches, each as one statement over `unnest`, from one prepared loop.
- Claims out of a million runs, of which many or few are due.
- A queue drained by one worker and by four, each a program of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.bench import TURNS, Loop, Measured, line, looping, measured
from benchmarks.crowded import NOW, Mix, fill
from statecraft import Runtime, Settings
from statecraft.store import open_store
from statecraft.store.port import ClaimDue, MachineSpec
from statecraft.testing.postgres import PostgresServer

RUNS, STEPS = 200, 50
MILLION = int(os.environ.get("BENCH_MILLION", "1000000"))
QUEUED = int(os.environ.get("BENCH_QUEUED", "5000"))
CLAIMS, AT_ONCE = 40, 25
TARGETS = {"floor": 0.4, "claim": 1.5}

LINKS = (
    "INSERT INTO transitions(run_id, seq, machine, source, event, target, epoch, at, calls, input_tokens, output_tokens, hash,"
    " guards, payload) SELECT r, %s, %s, %s, %s, %s, 1, 1, 0, 0, 0, %s, '[]', %s FROM unnest(%s::bytea[]) AS t(r)"
)
HEADS = (
    "UPDATE runs SET seq = %s, state = %s, attempts = 0, updated_at = 1 FROM unnest(%s::bytea[]) AS t(r)"
    " WHERE run_id = r AND epoch = 1 AND seq = %s"
)
FED = "INSERT INTO feed(run_id, kind, seq, idx, at) SELECT r, 'transition', %s, 0, 1 FROM unnest(%s::bytea[]) AS t(r)"


def floor(url: str) -> Measured:
    """The raw loop: `STEPS` batches of one move of each of `RUNS` runs."""
    import psycopg

    machine = looping(10).definition

    async def create() -> int:
        store = open_store(url)
        await store.open()
        number = await store.register(
            MachineSpec(machine.name, machine.version, machine.fingerprint, machine.spec, machine.edges)
        )
        await store.close()
        return number

    number, ids, zeros = asyncio.run(create()), [os.urandom(16) for _ in range(RUNS)], b"0" * 32
    with psycopg.connect(url) as raw:
        raw.execute(LINKS, (0, number, "", "start", "ready", zeros, "{}", ids))
        raw.execute(
            "INSERT INTO runs(run_id, machine, seq, state, status, epoch, attempts, owner, lease_until, created_at, updated_at,"
            " trace_id) SELECT r, %s, 0, 'ready', 'running', 1, 0, 'me', 99, 1, 1, '' FROM unnest(%s::bytea[]) AS t(r)",
            (number, ids),
        )
        raw.commit()

        def loop() -> None:
            for step in range(1, STEPS + 1):
                source, target = ("pong", "ping") if step % 2 else ("ping", "pong")
                source, event = ("ready", "begin") if step == 1 else (source, "tick")
                raw.execute(LINKS, (step, number, source, event, target, zeros, json.dumps({"count": step}), ids), prepare=True)
                raw.execute(HEADS, (step, target, ids, step - 1), prepare=True)
                raw.execute(FED, (step, ids), prepare=True)
                raw.commit()

        return measured(RUNS * STEPS, loop)


async def engine(url: str) -> Measured:
    """The same moves by a runtime."""
    gate = asyncio.Event()
    machine = looping(STEPS, gate)
    async with Runtime(url, machines=[machine], settings=Settings(concurrency=RUNS + 1, take="own")) as runtime:
        started = [await runtime.start(machine, Loop(limit=STEPS)) for _ in range(RUNS)]
        ends = [asyncio.ensure_future(runtime.wait(run.id)) for run in started]
        wall, cpu = time.perf_counter(), time.process_time()
        gate.set()
        await asyncio.gather(*ends)
        moves = RUNS * (STEPS + 2)
        return Measured(moves / (time.perf_counter() - wall), (time.process_time() - cpu) / moves * 1e6)


async def claiming(url: str, due: int) -> float:
    """Milliseconds (first quartile: disks are not steady) to claim `AT_ONCE` runs out of a million of which `due` are due."""
    machine = await fill(url, Mix(due=due, later=MILLION // 10, closed=MILLION - MILLION // 10 - due))
    store = open_store(url)
    await store.open()
    took: list[float] = []
    for number in range(CLAIMS):
        begun = time.perf_counter()
        taken = await store.submit(ClaimDue(f"worker {number}", NOW, NOW * 10, (machine,), AT_ONCE))
        took.append((time.perf_counter() - begun) * 1000)
        assert isinstance(taken, list), taken
        assert len(taken) == AT_ONCE, len(taken)
    await store.close()
    return statistics.quantiles(took[5:])[0]


async def looked_at(url: str) -> float:
    """Milliseconds (median) of all operating figures at once."""
    store = open_store(url)
    await store.open()
    took: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        await store.figures(NOW)
        took.append((time.perf_counter() - begun) * 1000)
    await store.close()
    return statistics.median(took)


def drained(command: Sequence[str], workers: int, left: Callable[[], int]) -> float:
    """Seconds until `left()` is 0 after `workers` programs were told to go. Each says `ready` first, and stops when told."""
    with ExitStack() as stack:
        programs = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(workers)
        ]
        try:
            for program in programs:
                assert program.stdout is not None
                assert program.stdout.readline().strip() == "ready"
            begun = time.perf_counter()
            for program in programs:
                assert program.stdin is not None
                program.stdin.write("go\n")
                program.stdin.flush()
            while left():
                if time.perf_counter() - begun > 300 or any(program.poll() is not None for program in programs):
                    raise RuntimeError(f"not drained after {time.perf_counter() - begun:.0f} s: {left()} left")
                time.sleep(0.05)
            return time.perf_counter() - begun
        finally:
            for program in programs:
                program.kill()


def rows_left(url: str, query: str) -> Callable[[], int]:
    """A function that answers what a counting query does now."""
    import psycopg

    link: Any = psycopg.connect(url, autocommit=True)
    return lambda: int(link.execute(query).fetchall()[0][0])


def open_runs(url: str) -> Callable[[], int]:
    """A function that answers how many runs have not ended."""
    return rows_left(url, "SELECT count(*) FROM runs WHERE status IN ('ready', 'running', 'waiting')")


def queue(server: PostgresServer, workers: int) -> float:
    """Runs a second that so many workers drain from a queue of `QUEUED` runs of five steps."""
    from benchmarks.drain import enqueue

    url = server.create_database()
    asyncio.run(enqueue(url, QUEUED))
    return QUEUED / drained([sys.executable, "-m", "benchmarks.drain", url], workers, open_runs(url))


def told(pairs: Sequence[tuple[float, float]]) -> str:
    """Each turn of two, as text."""
    return ", ".join(f"{one:,.0f} and {four:,.0f}" for one, four in pairs)


def main() -> int:
    """Everything; exit code 1 if a target is missed."""
    print(f"statecraft fleet bench, Python {sys.version.split()[0]}, {os.cpu_count()} cores, PostgreSQL with fsync")
    with PostgresServer.for_tests(fsync=True) as server:
        pairs = [(floor(server.create_database()), asyncio.run(engine(server.create_database()))) for _ in range(TURNS)]
        raw, ours = (statistics.median(pair[i].rate for pair in pairs) for i in (0, 1))
        print(f"  {RUNS} runs at once: raw psycopg {raw:,.0f} moves/s, engine {ours:,.0f}")
        few = asyncio.run(claiming(server.create_database(), MILLION // 100))
        crowded = server.create_database()
        many = asyncio.run(claiming(crowded, MILLION // 10))
        figures = asyncio.run(looked_at(crowded))
        print(f"  {AT_ONCE} claimed out of {MILLION:,} runs: {few:.2f} ms with 1% due, {many:.2f} ms with 10% due")
        print(f"  all operating figures of these runs: {figures:.1f} ms")
        drains = [(queue(server, 1), queue(server, 4)) for _ in range(TURNS)]
        one, four = (statistics.median(pair[i] for pair in drains) for i in (0, 1))
        print(
            f"  {QUEUED} queued runs of 5 steps: {one:,.0f} runs/s by one worker, {four:,.0f} by four; in turns: {told(drains)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        lite = [
            asyncio.run(claiming(f"sqlite:///{Path(folder) / name}.db", MILLION // part))
            for name, part in (("a", 100), ("b", 10))
        ]
    print(f"  the same claims on SQLite: {lite[0]:.2f} ms, {lite[1]:.2f} ms")
    met = [
        line(
            f"{RUNS} concurrent runs on PostgreSQL, share of raw psycopg",
            statistics.median(e.rate / f.rate for f, e in pairs),
            TARGETS["floor"],
            "",
            at_least=True,
        ),
        line("a queue drained by four workers, to by one", statistics.median(b / a for a, b in drains), 1.0, "", at_least=True),
        line("claim from a million, 10% due to 1% due, PostgreSQL", many / few, TARGETS["claim"], ""),
        line("claim from a million, 10% due to 1% due, SQLite", lite[1] / lite[0], TARGETS["claim"], ""),
    ]
    return 0 if all(met) else 1
