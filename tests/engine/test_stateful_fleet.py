"""Several runtimes over one database that crash, stop for longer than a lease and come back, while people interfere."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from statecraft import Approve, Happened, Reject, Runtime
from statecraft.decisions import Decision, DidNotHappen
from statecraft.errors import Refused, StatecraftError, StoreUnavailable
from statecraft.ids import RandomIds
from statecraft.records import ReviewRecord, RunFilter, RunRecord, Status
from statecraft.store import open_store
from statecraft.store import tables as t
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock, ScriptedLLM
from statecraft.testing.postgres import PostgresServer
from tests.engine.dying import Dying
from tests.fleet import script
from tests.fleet.script import Errand, Yes, answer, errand, outside

R = TypeVar("R")
QUIET: Any = list(HealthCheck)
LEASE = timedelta(seconds=9)
KINDS = ("ask", "write", "nest", "rest", "try", "ship", "spend", "refuse", "people")
WORKERS, SEEDS = st.integers(0, 2), st.integers(0, 2**32 - 1)
EVERYTHING = RunFilter(limit=10_000)
_ALSO = (StatecraftError, StoreUnavailable)


class Slow:
    """A store behind a network that may stand still: nothing is written and nothing is read until it goes on."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.open_for_all = asyncio.Event()
        self.open_for_all.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def submit(self, write: Any) -> asyncio.Future[object]:
        return self._store.submit(write) if self.open_for_all.is_set() else asyncio.ensure_future(self._later(write))

    async def _later(self, write: Any) -> object:
        await self.open_for_all.wait()
        return await self._store.submit(write)


@dataclass
class Process:
    """One runtime, and how to kill it."""

    runtime: Runtime
    store: Slow
    probe: Dying

    async def crash(self) -> None:
        """From now on nothing is written; what it was about to do is lost."""
        self.probe.die()
        self.store.open_for_all.set()
        with contextlib.suppress(*_ALSO):
            await self.runtime.__aexit__(None, None, None)


class Fleet(RuleBasedStateMachine):
    """Three processes on one clock."""

    databases: Callable[[], str]
    folders: Callable[[], Path]
    wrong: list[str]

    @initialize()
    def begin(self) -> None:
        self.runner, self.url, self.clock = asyncio.Runner(), self.databases(), ManualClock()
        outside.folder = self.folders()
        (outside.folder / "effects").touch()
        self.numbers = itertools.count(1)
        self.ended: dict[str, RunRecord] = {}
        self.wait(self.open())

    async def open(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # A killed process has nobody to complain to.
        self.person = (await self.process("none")).runtime
        self.processes = [await self.process("all") for _ in range(3)]

    async def process(self, take: Any) -> Process:
        probe = Dying(None, lambda: None)
        store = open_store(self.url, probe=probe, clock=self.clock)
        assert isinstance(store, SqlStore)
        slow: Any = Slow(store)
        how = replace(script.settings(take), lease=LEASE, poll=timedelta(seconds=1), channels=(), poison=50)
        given: Any = {"clock": self.clock, "ids": RandomIds(next(self.numbers)), "llm": ScriptedLLM(answer), "store": slow}
        runtime = Runtime(self.url, machines=[errand], settings=how, **given)
        await runtime.__aenter__()
        return Process(runtime, slow, probe)

    def wait(self, story: Coroutine[Any, Any, R]) -> R:
        return self.runner.run(asyncio.wait_for(story, 30))

    def do(self, what: str, story: Coroutine[Any, Any, object]) -> None:
        """Do one thing and let the others react; then look."""
        try:
            with contextlib.suppress(Refused):  # Somebody was faster, and nothing was written.
                self.wait(story)
            self.wait(self.look())
        except BaseException as error:
            self.wrong.append(f"{what}: {error!r}")
            raise
        note(what)

    async def breathe(self) -> None:
        """Some turns for everybody, and for the threads of their stores."""
        for _ in range(3):
            await asyncio.sleep(0.001)
            for each in self.processes:
                each.runtime._worker.poke()

    # --- rules -------------------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(KINDS), detach=st.booleans(), who=WORKERS, delay=st.sampled_from((0, 0, 12)))
    def start(self, kind: str, detach: bool, who: int, delay: int) -> None:
        async def story() -> None:
            process = self.processes[who]
            runtime = self.person if detach or not process.store.open_for_all.is_set() else process.runtime
            await runtime.start(errand, Errand(kind=kind, weight=3), tenant="acme", delay=timedelta(seconds=delay))
            await self.breathe()

        self.do(f"start {kind}", story())

    @rule(seconds=st.sampled_from((1, 2, 4, 10, 10, 20, 3600)))
    def time_passes(self, seconds: int) -> None:
        async def story() -> None:
            await self.clock.advance(timedelta(seconds=seconds))
            await self.breathe()

        self.do(f"{seconds} s pass", story())

    @rule(who=WORKERS, turns=st.integers(0, 3))
    def crash(self, who: int, turns: int) -> None:
        async def story() -> None:
            for _ in range(turns):  # In the middle of what it does.
                await asyncio.sleep(0)
            await self.processes[who].crash()
            self.processes[who] = await self.process("all")

        self.do(f"{who} crashes", story())

    @rule(who=WORKERS)
    def stop(self, who: int) -> None:
        """Its writes stand still, and the others take its runs over; later it goes on as if nothing had happened."""

        async def story() -> None:
            gate = self.processes[who].store.open_for_all
            if gate.is_set():
                gate.clear()
                await self.clock.advance(LEASE / 2)
                await self.clock.advance(LEASE)
            else:
                gate.set()
            await self.breathe()

        self.do(f"{who} stops or goes on", story())

    @rule(seed=SEEDS, yes=st.booleans())
    def decide(self, seed: int, yes: bool) -> None:
        self.do("decide", self.answer(Random(seed), yes=yes))

    async def answer(self, chance: Random, *, yes: bool) -> bool:
        reviews = await self.person.reviews(open_only=True)
        if not reviews:
            return False
        review = chance.choice(reviews)
        if review.kind == "state":
            await self.person.send(review.run_id, Yes(said=["yes"]) if yes else script.Refused(), by="ann")
        else:
            await self.person.decide(review.run_id, self.verdict(review, yes=yes), by="ann", review=review.id)
        await self.breathe()
        return True

    def verdict(self, review: ReviewRecord, *, yes: bool) -> Decision:
        """Asked what became of a call, the person looks."""
        if review.kind == "gate":
            return Approve() if yes else Reject("no")
        made = any(effect.endswith(review.show["key"]) for effect in outside.effects)
        return Happened("it was") if made else DidNotHappen()

    @rule(seed=SEEDS, what=st.sampled_from(("cancel", "redrive", "redrive", "drop", "resume", "resume", "mend")))
    def interfere(self, seed: int, what: str) -> None:
        self.do(what, self.interfering(Random(seed), what))

    async def interfering(self, chance: Random, what: str) -> None:
        runs = sorted(await self.person.runs(EVERYTHING), key=lambda run: run.id)
        if what == "mend":
            (outside.folder / "mended").touch()
            return
        if what in ("redrive", "drop"):
            runs = [run for run in runs if run.status is Status.DEAD] or runs
        if not runs:
            return
        run = chance.choice(runs)
        match what:
            case "cancel" if chance.random() < 0.4:
                await self.person.cancel(run.id, by="ann", reason="enough")
            case "redrive":
                await self.person.redrive(run.id, by="ann", note="again")
            case "drop":
                await self.person.drop(run.id, by="ann", note="no")
            case "resume":
                process = chance.choice(self.processes)
                if process.store.open_for_all.is_set():
                    await process.runtime.resume(run.id, force=True)
        await self.breathe()

    # --- what must hold ----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Who has ended stays as they are, nothing is kept aside for who does not run, and no effect came twice."""
        store: Any = self.person._store
        assert await store._read(_left_aside) == []
        runs = {run.id: run for run in await self.person.runs(EVERYTHING)}
        for run_id, before in self.ended.items():
            now = runs[run_id]
            if before.status is not Status.DEAD:
                assert (now.status, now.seq, now.state, now.epoch) == (before.status, before.seq, before.state, before.epoch)
            assert now.epoch >= before.epoch
        self.ended = {run_id: run for run_id, run in runs.items() if run.status.closed}
        twice = {effect: times for effect, times in Counter(outside.effects).items() if times > 1}
        assert not twice, twice

    async def finish(self) -> None:
        """All goes well from here on, and everything ends."""
        (outside.folder / "mended").touch()
        for process in self.processes:
            process.store.open_for_all.set()
        open_runs: list[RunRecord] = []
        for turn in range(4_000):
            await self.breathe()
            open_runs = [run for run in await self.person.runs(EVERYTHING) if not run.status.closed]
            if not open_runs:
                break
            with contextlib.suppress(Refused):
                if await self.answer(Random(1), yes=True):
                    continue
            # Time must not run away from those who work, or no lease would ever last.
            if all(run.status is Status.WAITING for run in open_runs):
                await self.clock.advance(timedelta(seconds=10))
            elif turn % 10 == 0:
                await self.clock.advance(LEASE / 3)
        else:
            raise AssertionError(f"these never end: {open_runs}")
        await self.look()
        for run in await self.person.runs(EVERYTHING):
            await self.judge(run)

    async def judge(self, run: RunRecord) -> None:
        assert await self.person.verify(run.id) == [], run
        moves = await self.person.history(run.id)
        assert [(move.seq, move.source) for move in moves[1:]] == [(at + 1, move.target) for at, move in enumerate(moves[:-1])]
        assert moves[-1].target == run.state
        epochs = [move.epoch for move in moves]
        assert epochs == sorted(epochs)
        assert epochs[-1] <= run.epoch
        calls = await self.person.calls(run.id)
        assert max(Counter((call.seq, call.digest, call.occurrence) for call in calls).values(), default=1) == 1
        if run.status is not Status.CANCELLED:
            assert (replayed := await self.person.replay(run.id)).agrees, str(replayed.divergence)

    def teardown(self) -> None:
        if not hasattr(self, "processes"):
            return
        try:
            if not self.wrong:
                self.do("finish", self.finish())
        finally:
            for each in self.processes:
                self.wait(each.crash())
            self.wait(self.person.__aexit__(None, None, None))
            self.runner.close()


def _left_aside(sql: sa.Connection) -> list[str]:
    """Runs that nobody holds, and that something is reserved for."""
    stands = sa.select(t.runs.c.run_id, t.runs.c.status).join(t.reservations, t.reservations.c.run_id == t.runs.c.run_id)
    return [f"{run_id.hex()} is {status}" for run_id, status in sql.execute(stands.where(t.runs.c.status != "running"))]


def run(examples: int, steps: int, folder: Path, databases: Callable[[], str]) -> None:
    numbers, wrong = itertools.count(), list[str]()

    def fresh() -> Path:
        (made := folder / f"outside {next(numbers)}").mkdir()
        return made

    fleet = type("Fleet", (Fleet,), {"databases": staticmethod(databases), "folders": staticmethod(fresh), "wrong": wrong})
    quiet = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=QUIET, database=None)
    try:
        run_state_machine_as_test(fleet, settings=quiet)
    except Flaky as error:  # Threads and servers take their own time, so that it need not happen again.
        raise AssertionError(wrong) from error
    assert wrong == []


@pytest.mark.slow
def test_no_crash_pause_or_person_breaks_a_fleet_on_a_file(tmp_path: Path) -> None:
    numbers = itertools.count()
    run(4, 25, tmp_path, lambda: f"sqlite:///{tmp_path / f'{next(numbers)}.db'}")


@pytest.mark.slow
def test_no_crash_pause_or_person_breaks_a_fleet_on_a_server(
    tmp_path: Path, fleet_url: str, postgres_server: PostgresServer
) -> None:
    def wiped() -> str:
        postgres_server.wipe(fleet_url, keep=["schema_version"])
        return fleet_url

    run(3, 20, tmp_path, wiped)
