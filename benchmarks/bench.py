"""What durability costs, as ratios to a raw `sqlite3` floor measured in the same run. `make bench` runs this.

The floor writes the same rows (a transition, the head, a feed entry) with the same schema, constraints, pragmas and
batch sizes, from one prepared loop without any engine. Floor and engine take turns; the median of the turns counts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.calls import AT_ONCE, crowd, stack_cost
from benchmarks.parked import PARKED
from benchmarks.parked import flat as beside_parked
from statecraft import Append, Data, Event, Machine, Run, Runtime, Settings, StepsExhausted
from statecraft.store import open_store
from statecraft.store.port import MachineSpec

TURNS = int(os.environ.get("BENCH_TURNS", "3"))
RUNS, STEPS = 200, 50
LONE_STEPS = 1000
TARGETS = {
    "concurrent": 0.4,
    "lone": 0.4,
    "cpu": 150.0,
    "growth": 1.5,
    "flat": 1.2,
    "resume": 20.0,
    "cpu_import": 0.35,
    "rss_import": 45.0,
    "parked": 1.5,
    "stack": 250.0,
    "at_once": 1000.0,
}

INSERT = (
    "INSERT INTO transitions(run_id, seq, machine, source, event, target, epoch, at, calls, input_tokens, output_tokens,"
    " actor, hash, guards, payload) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
HEAD = "UPDATE runs SET seq=?, state=?, attempts=0, updated_at=? WHERE run_id=? AND epoch=? AND seq=?"
FEED = "INSERT INTO feed(run_id, kind, seq, idx, at) VALUES(?,?,?,0,?)"


class Loop(Data):
    limit: int
    count: int = 0


class Tick(Event):
    count: int


class Enough(Event): ...


class Begin(Event): ...


def looping(steps: int, gate: asyncio.Event | None = None) -> Machine[Loop]:
    """Two states that hand over to each other until `limit` moves are made; handlers do nothing else.

    Runs wait for `gate` in their start state, so that all of them can be timed from the same moment.
    """
    machine = Machine("loop", data=Loop, max_steps=steps + 10)

    @machine.state(start=True)
    async def ready(_run: Run[Loop]) -> Begin:
        if gate is not None:
            await gate.wait()
        return Begin()

    @machine.state()
    async def ping(run: Run[Loop]) -> Tick | Enough:
        return Enough() if run.data.count >= run.data.limit else Tick(count=run.data.count + 1)

    @machine.state()
    async def pong(run: Run[Loop]) -> Tick | Enough:
        return Enough() if run.data.count >= run.data.limit else Tick(count=run.data.count + 1)

    end = machine.final("end", ok=True)
    machine.transitions(
        ready.on(Begin) >> ping,
        ping.on(Tick) >> pong,
        pong.on(Tick) >> ping,
        ping.on(Enough) >> end,
        pong.on(Enough) >> end,
        machine.anywhere.on(StepsExhausted) >> end,
    )
    return machine


@dataclass(frozen=True)
class Measured:
    """One turn: moves a second by the wall, and microseconds of CPU a move."""

    rate: float
    cpu: float


def measured(moves: int, work: Callable[[], object]) -> Measured:
    """Time one piece of work that makes `moves` moves."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Measured(moves / (time.perf_counter() - wall), (time.process_time() - cpu) / moves * 1e6)


def seeded(folder: Path, runs: int) -> tuple[sqlite3.Connection, list[bytes], int]:
    """A database with the real schema and `runs` started runs, opened by the raw driver."""
    path, machine = folder / "raw.db", looping(10).definition

    async def create() -> int:
        store = open_store(f"sqlite:///{path}")
        await store.open()
        spec = MachineSpec(machine.name, machine.version, machine.fingerprint, machine.spec, machine.edges)
        number = await store.register(spec)
        await store.close()
        return number

    number = asyncio.run(create())
    raw = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        raw.execute(f"PRAGMA {pragma}")
    ids = [os.urandom(16) for _ in range(runs)]
    raw.execute("BEGIN IMMEDIATE")
    for run_id in ids:
        raw.execute(INSERT, (run_id, 0, number, "", "start", "ready", 1, 1, 0, 0, 0, None, b"0" * 32, "[]", "{}"))
        raw.execute(
            "INSERT INTO runs(run_id, machine, seq, state, status, epoch, attempts, owner, lease_until, created_at, updated_at,"
            " trace_id) VALUES(?,?,0,'ready','running',1,0,'me',99,1,1,'')",
            (run_id, number),
        )
    raw.execute("COMMIT")
    return raw, ids, number


def floor(runs: int, steps: int) -> Measured:
    """The raw loop: `steps` batches of one move of each of `runs` runs."""
    with tempfile.TemporaryDirectory() as folder:
        raw, ids, number = seeded(Path(folder), runs)

        def loop() -> None:
            for step in range(1, steps + 1):
                source, target = ("pong", "ping") if step % 2 else ("ping", "pong")
                source, event = ("ready", "begin") if step == 1 else (source, "tick")
                payload = json.dumps({"count": step})
                rows = [
                    (run_id, step, number, source, event, target, 1, 1, 0, 0, 0, None, b"0" * 32, "[]", payload) for run_id in ids
                ]
                raw.execute("BEGIN IMMEDIATE")
                raw.executemany(INSERT, rows)
                raw.executemany(HEAD, [(step, target, 1, run_id, 1, step - 1) for run_id in ids])
                raw.executemany(FEED, [(run_id, "transition", step, 1) for run_id in ids])
                raw.execute("COMMIT")

        result = measured(runs * steps, loop)
        raw.close()
        return result


def engine(runs: int, steps: int) -> Measured:
    """The same moves by a runtime: decided, folded, journaled, logs off."""

    async def go(folder: str) -> Measured:
        gate = asyncio.Event()
        machine = looping(steps, gate)
        settings = Settings(concurrency=runs + 1, take="own")
        async with Runtime(f"sqlite:///{folder}/engine.db", machines=[machine], settings=settings) as runtime:
            started = [await runtime.start(machine, Loop(limit=steps)) for _ in range(runs)]
            ends = [asyncio.ensure_future(runtime.wait(run.id)) for run in started]
            wall, cpu = time.perf_counter(), time.process_time()
            gate.set()
            await asyncio.gather(*ends)
            moves = runs * (steps + 2)
            return Measured(moves / (time.perf_counter() - wall), (time.process_time() - cpu) / moves * 1e6)

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(go(folder))


class Pile(Data):
    limit: int
    notes: Append[list[str]] = []


class Noted(Event):
    notes: list[str]


def piling(steps: int, entered: asyncio.Queue[float] | None = None) -> Machine[Pile]:
    """A run whose data grows by 2 KB a step. At its last step it says when its handler was entered, and stays there."""
    machine = Machine("pile", data=Pile, max_steps=steps + 10)

    @machine.state(start=True)
    async def noting(run: Run[Pile]) -> Noted | Enough:
        n = len(run.data.notes)
        if n < run.data.limit:
            return Noted(notes=[f"{n:08d}" + "x" * 2030])
        if entered is not None:
            entered.put_nowait(time.perf_counter())
            await asyncio.get_running_loop().create_future()
        return Enough()

    end = machine.final("end", ok=True)
    machine.transitions(noting.on(Noted) >> noting, noting.on(Enough) >> end, machine.anywhere.on(StepsExhausted) >> end)
    return machine


def growth(steps: int = 500) -> tuple[float, float, float]:
    """(bytes on disk per payload byte, cost of the last steps per cost of step 10, milliseconds to resume)."""

    async def go(url: str) -> tuple[float, float, float]:
        entered: asyncio.Queue[float] = asyncio.Queue()
        machine, settings = piling(steps, entered), Settings(take="own")
        async with Runtime(url, machines=[machine], settings=settings) as runtime:
            run = await runtime.start(machine, Pile(limit=steps))
            await entered.get()
            history = await runtime.history(run.id)
        payload = sum(len(json.dumps(dict(move.payload))) for move in history)
        gaps = [(b.at - a.at).total_seconds() for a, b in itertools.pairwise(history)]
        flat = statistics.median(gaps[-60:-10]) / statistics.median(gaps[5:55])
        times = []
        for _ in range(5):
            async with Runtime(url, machines=[machine], settings=settings) as runtime:
                begun = time.perf_counter()
                await runtime.resume(run.id)
                times.append((await entered.get() - begun) * 1000)
        return payload, flat, statistics.median(times)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pile.db"
        payload, flat, resumed = asyncio.run(go(f"sqlite:///{path}"))
        return path.stat().st_size / payload, flat, resumed


def imported() -> tuple[float, float]:
    """(CPU seconds, MB) of importing what a program needs to declare and run a machine, in a fresh interpreter."""
    # VmHWM, because the peak that getrusage reports is inherited from the parent across fork and exec.
    code = (
        "import resource; from statecraft import Machine, Runtime; u = resource.getrusage(resource.RUSAGE_SELF);"
        "hwm = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1];"
        "print(u.ru_utime + u.ru_stime, int(hwm) / 1024)"
    )
    outs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() for _ in range(3)
    ]
    return statistics.median(float(o[0]) for o in outs), statistics.median(float(o[1]) for o in outs)


def line(what: str, value: float, target: float, unit: str, *, at_least: bool = False) -> bool:
    """Print one row; True if it meets its target."""
    met = value >= target if at_least else value <= target
    bound = "at least" if at_least else "at most"
    print(f"  {what:<62} {value:9.2f} {unit:<10} {bound} {target:g}  {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Run everything; exit code 1 if a target is missed."""
    print(f"statecraft bench, Python {sys.version.split()[0]}, {os.cpu_count()} cores, {TURNS} turns each, medians")
    many = [(floor(RUNS, STEPS), engine(RUNS, STEPS)) for _ in range(TURNS)]
    lone = [(floor(1, LONE_STEPS), engine(1, LONE_STEPS)) for _ in range(TURNS)]
    raw, ours = (statistics.median(pair[i].rate for pair in many) for i in (0, 1))
    raw1, ours1 = (statistics.median(pair[i].rate for pair in lone) for i in (0, 1))
    print(f"  {RUNS} runs at once: raw {raw:,.0f} moves/s, engine {ours:,.0f}; one run: raw {raw1:,.0f}, engine {ours1:,.0f}")
    disk, flat, resumed = growth()
    cpu_import, rss_import = imported()
    everything, bare, row = stack_cost(TURNS)
    print(f"  CPU of a call: {everything:.0f} us with every member on, {bare:.0f} us with none, {row:.0f} us its row alone")
    full = crowd()
    claimed, listed = beside_parked()
    print(f"  {AT_ONCE} calls at once: answered and recorded {full.seconds:.2f} s after the first began")
    met = [
        line(
            f"{RUNS} concurrent runs, share of the raw loop",
            statistics.median(e.rate / f.rate for f, e in many),
            TARGETS["concurrent"],
            "",
            at_least=True,
        ),
        line(
            "one run at a time, share of the raw loop",
            statistics.median(e.rate / f.rate for f, e in lone),
            TARGETS["lone"],
            "",
            at_least=True,
        ),
        line("CPU per transition, all in (and the database)", statistics.median(e.cpu for _, e in many), TARGETS["cpu"], "us"),
        line("disk per payload byte, 500 steps of 2 KB", disk, TARGETS["growth"], ""),
        line("cost of step 500 to step 10", flat, TARGETS["flat"], ""),
        line("resume of the 500-step run, from the call to its handler", resumed, TARGETS["resume"], "ms"),
        line(f"claiming beside {PARKED:,} parked runs, to beside none", claimed, TARGETS["parked"], ""),
        line(f"listing beside {PARKED:,} parked runs, to beside none", listed, TARGETS["parked"], ""),
        line("CPU of the whole call stack, beyond the journal row", everything - row, TARGETS["stack"], "us"),
        line("calls in flight at once in one process", full.most, TARGETS["at_once"], "", at_least=True),
        line("from statecraft import Machine, Runtime: CPU", cpu_import, TARGETS["cpu_import"], "s"),
        line("from statecraft import Machine, Runtime: peak memory", rss_import, TARGETS["rss_import"], "MB"),
    ]
    print(f"  peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
