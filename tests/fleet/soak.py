"""A soak of a fleet on a real PostgreSQL: processes are killed, stopped and cut off until everything that was started
has ended, and then the database is asked whether anything was lost, doubled or forged.

Durations are real here, since real processes need real time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psycopg

from statecraft import Runtime, Settings
from statecraft.errors import Fenced, StoreUnavailable
from statecraft.records import RunFilter
from statecraft.store import open_store
from statecraft.testing.postgres import PostgresServer
from tests.fleet.cargo import STEPS, Cargo, cargo, notebook

LEASE = timedelta(seconds=1)


# --- the processes that work ---------------------------------------------------------------------------------------------


class Noting:
    """A store that writes down each write of ours that was refused because the run is not ours any more."""

    def __init__(self, url: str) -> None:
        self._store = open_store(url)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def submit(self, write: Any) -> Awaitable[object]:
        answer = self._store.submit(write)
        assert isinstance(answer, asyncio.Future)
        answer.add_done_callback(_note)
        return answer


def _note(answer: asyncio.Future[object]) -> None:
    if not answer.cancelled() and isinstance(answer.exception(), Fenced):
        notebook.write("fenced")


def work(url: str, notes: str, where: str = "here") -> None:
    """Take whatever is due, for ever. Runs in a process of its own."""
    os.setpgid(0, 0)
    notebook.where = where
    notebook.path = Path(notes)
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # until the process ends
    asyncio.run(_work(url))


async def _work(url: str) -> None:
    # Here it is never a run's own fault that its holders die.
    settings = Settings(lease=LEASE, poll=timedelta(milliseconds=200), concurrency=8, poison=1_000)
    while True:
        try:
            store: Any = Noting(url)
            async with Runtime(url, machines=[cargo], settings=settings, store=store):
                await asyncio.Event().wait()
        except StoreUnavailable:  # The server is being restarted just now.
            await asyncio.sleep(0.1)


# --- the storm -----------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What was done to the fleet, and what the database and the notes say afterwards."""

    kills: int = 0
    stops: int = 0
    restarts: int = 0
    runs: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    moves: int = 0
    calls: int = 0
    effects: int = 0
    fenced: int = 0
    recovered: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        storm = f"{self.kills} SIGKILL, {self.stops} SIGSTOP, {self.restarts} restarts of the database in {self.seconds:.0f} s"
        story = f"{self.runs} runs ended {dict(self.ended)}, {self.moves} moves, {self.calls} calls"
        extra = f"{self.effects} effects, {self.fenced} writes refused by a fence, {self.recovered} runs taken over"
        return "\n".join([storm, story, extra, *(self.wrong or ["nothing is wrong"])])


@dataclass
class Fleet:
    """Worker processes, some of them stopped for a while."""

    url: str
    notes: Path
    chance: random.Random
    living: list[ForkServerProcess] = field(default_factory=list)
    stopped: dict[int, float] = field(default_factory=dict)

    def grow(self, count: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.fleet.soak"])
        for _ in range(count):
            process = context.Process(target=work, args=(self.url, str(self.notes)), daemon=True)
            process.start()
            self.living.append(process)

    def kill_one(self) -> None:
        """SIGKILL, without a warning, and another one in its place."""
        victim = self.living.pop(self.chance.randrange(len(self.living)))
        self.stopped.pop(victim.pid or 0, None)
        victim.kill()
        victim.join()
        self.grow(1)

    def stop_one(self) -> bool:
        """SIGSTOP for longer than a lease; at most half of the fleet at a time."""
        awake = [each.pid for each in self.living if each.pid and each.pid not in self.stopped]
        if len(awake) <= len(self.living) / 2:
            return False
        pid = self.chance.choice(awake)
        os.kill(pid, signal.SIGSTOP)
        self.stopped[pid] = time.monotonic() + LEASE.total_seconds() * self.chance.uniform(1.3, 2.5)
        return True

    def wake(self, *, all: bool = False) -> None:
        for pid, until in list(self.stopped.items()):
            if all or time.monotonic() >= until:
                os.kill(pid, signal.SIGCONT)
                del self.stopped[pid]

    def end(self) -> None:
        self.wake(all=True)
        for each in self.living:
            each.kill()
        for each in self.living:
            each.join()


@dataclass
class Soak:
    """One soak: `storm` until the quotas are met and everything has ended, then `judge`."""

    server: PostgresServer
    url: str
    folder: Path
    runs: int = 600
    workers: int = 6
    kills: int = 30
    stops: int = 20
    minutes: float = 0.0
    seed: int = 1
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    async def run(self) -> Outcome:
        began = time.monotonic()
        await self._start(self.runs)
        fleet = Fleet(self.url, self.notes, random.Random(self.seed))
        fleet.grow(self.workers)
        try:
            await self._storm(fleet, began)
        finally:
            fleet.end()
        self.outcome.seconds = time.monotonic() - began
        await Judge(self.url, self.notes, self.outcome).judge()
        return self.outcome

    async def _start(self, count: int) -> None:
        """Every third run has two children."""
        async with Runtime(self.url, machines=[cargo], settings=Settings(take="none")) as rt:
            datas = (Cargo(seconds=0.04, parcels=2 * (number % 3 == 0)) for number in range(count))
            await asyncio.gather(*(rt.start(cargo, data) for data in datas))

    async def _storm(self, fleet: Fleet, began: float) -> None:
        done, gave_up = self.outcome, began + 60 * self.minutes + 240
        while True:
            await asyncio.sleep(fleet.chance.uniform(0.1, 0.4))
            fleet.wake()
            left, ended = self._count()
            raging = done.kills < self.kills or done.stops < self.stops or time.monotonic() - began < 60 * self.minutes
            if not raging and left == 0:
                return
            if time.monotonic() > gave_up:
                done.wrong.append(f"{left} runs had not ended after {gave_up - began:.0f} s")
                return
            if raging and left < self.runs / 4:
                await self._start(self.runs // 4)
            if raging and fleet.chance.random() < 0.6:
                fleet.kill_one()
                done.kills += 1
            elif raging:
                done.stops += fleet.stop_one()
            if ended > self.runs / 2 and time.monotonic() - began > 60 * done.restarts:
                await asyncio.to_thread(self.server.restart, "immediate")
                done.restarts += 1

    def _count(self) -> tuple[int, int]:
        """Open runs, and ended ones."""
        with psycopg.connect(self.url, autocommit=True) as sql:
            row = sql.execute("SELECT count(*) FILTER (WHERE finished_at IS NULL), count(finished_at) FROM runs").fetchone()
        assert row is not None
        return row[0], row[1]


@dataclass
class Judge:
    """Looks for what must never be, in the database and in the notes, and says so in the outcome."""

    url: str
    notes: Path
    outcome: Outcome

    async def judge(self) -> None:
        found = self.outcome
        with psycopg.connect(self.url, autocommit=True) as sql:
            self._count(sql)
            for what, query in _NEVER.items():
                if number := _one(sql, query):
                    found.wrong.append(f"{number} times: {what}")
            self._effects(sql)
        async with Runtime(self.url, settings=Settings(take="none")) as rt:
            runs = await rt.runs(RunFilter(limit=1_000_000))
            for run, texts in zip(runs, await asyncio.gather(*(rt.verify(run.id) for run in runs)), strict=True):
                found.wrong += [f"run {run.id}: {text}" for text in texts]
                if run.status != "done":
                    found.wrong.append(f"run {run.id} ended {run.status}: {run.reason}")

    def _count(self, sql: psycopg.Connection[Any]) -> None:
        found = self.outcome
        found.runs = _one(sql, "SELECT count(*) FROM runs")
        found.moves = _one(sql, "SELECT count(*) FROM transitions WHERE seq > 0")
        found.calls = _one(sql, "SELECT count(*) FROM calls WHERE kind = 'tool'")
        found.recovered = _one(sql, _RECOVERED)
        found.ended.update({str(row[0]): row[1] for row in sql.execute("SELECT status, count(*) FROM runs GROUP BY 1")})

    def _effects(self, sql: psycopg.Connection[Any]) -> None:
        """A recorded call is never made again; a call is made again only when its holder was lost in the middle of it."""
        found = self.outcome
        lines = [line.split()[2:] for line in self.notes.read_text().splitlines()]
        made = Counter((line[1], int(line[2])) for line in lines if line[0] == "effect")
        found.effects = made.total()
        found.fenced = sum(line[0] == "fenced" for line in lines)
        steps = {(row[0].hex(), row[1]) for row in sql.execute("SELECT run_id, seq FROM calls WHERE kind = 'tool'")}
        if missing := steps - made.keys():
            found.wrong.append(f"{len(missing)} calls are recorded that were never made")
        claims = Counter({(row[0].hex(), row[1]): row[2] for row in sql.execute(_CLAIMS)})
        for (run, seq), times in made.items():
            if times > 1 + claims[run, seq]:
                found.wrong.append(f"step {seq} of run {run} took effect {times} times under {claims[run, seq]} more claims")
        if found.effects > found.calls + found.recovered:
            found.wrong.append(f"{found.effects} effects are more than {found.calls} calls and {found.recovered} take-overs")


def _one(sql: psycopg.Connection[Any], query: str) -> int:
    row = sql.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


_NEVER = {
    "the epoch of a history goes back": (
        "SELECT count(*) FROM transitions a JOIN transitions b ON b.run_id = a.run_id AND b.seq = a.seq + 1"
        " WHERE b.epoch < a.epoch"
    ),
    "a history has a gap": "SELECT count(*) FROM (SELECT 1 FROM transitions GROUP BY run_id HAVING count(*) <> max(seq) + 1) x",
    "a journey is not whole": (
        "SELECT count(*) FROM runs r JOIN machines m USING (machine) WHERE r.status = 'done'"
        f" AND r.seq <> CASE m.name WHEN 'cargo' THEN {STEPS} ELSE 1 END"
    ),
    "a run lacks children or has too many": (
        "SELECT count(*) FROM (SELECT parent FROM runs WHERE parent IS NOT NULL GROUP BY parent HAVING count(*) <> 2) x"
    ),
    "an ended run is held": "SELECT count(*) FROM runs WHERE finished_at IS NOT NULL AND owner IS NOT NULL",
    "a run was told to start or to end twice": (
        "SELECT count(*) FROM (SELECT run_id FROM feed WHERE kind = 'started' GROUP BY run_id HAVING count(*) <> 1) x"
    ),
}

_RECOVERED = """
SELECT count(*) - (SELECT count(*) FROM runs) - (SELECT count(*) FROM feed WHERE kind = 'waiting')
FROM feed WHERE kind = 'claimed'
"""
"""Claims but for the first of each run and those after it had parked."""

_CLAIMS = "SELECT run_id, seq, count(*) FROM feed WHERE kind = 'claimed' GROUP BY run_id, seq"
