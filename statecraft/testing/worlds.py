"""One run from its start to its end, by processes of which some die on the way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from statecraft.clock import instant
from statecraft.engine.settings import Settings
from statecraft.errors import ConfigError
from statecraft.ids import RandomIds, digest
from statecraft.llm.port import LLM
from statecraft.machine.declare import Machine
from statecraft.records import RunRecord
from statecraft.runtime import Runtime
from statecraft.store import tables as t
from statecraft.testing.answers import Decisions, Person
from statecraft.testing.clock import LeapingClock
from statecraft.testing.facts import Facts, effects_of_tools, gather
from statecraft.testing.ledger import Identity, Ledger, Perform, WatchedRuntime
from statecraft.testing.lives import Ground, SteadyIds, both, let_time_pass, take_over, unhurried
from statecraft.testing.points import Marked, MarkedStore, Point

Effects = Callable[[], int | Sized | Mapping[str, int]]
"""How much the outside has seen so far: a number, something with a length, or a number for each name."""


@dataclass(frozen=True)
class Plot:
    """What all worlds of a crash test share."""

    machine: Machine[Any]
    input: Callable[[], Any]
    model: Callable[[], LLM | Mapping[str, LLM] | None]
    decisions: Decisions | None
    effects: Effects | None
    settings: Settings | None
    put_back: bool = False
    """Whether the outside is as it was whenever a world begins; then all of them may have the same ids."""
    killed: bool = False
    """Whether lives are processes of their own, which end by SIGKILL."""

    def counted(self) -> dict[str, int]:
        """The outside, as the caller counts it."""
        seen = 0 if self.effects is None else self.effects()
        if isinstance(seen, Mapping):
            return {str(name): int(number) for name, number in seen.items()}
        if not isinstance(seen, int | Sized):
            wanted = "a number, something with a length, or a number for each name"
            raise ConfigError(f"crash_everywhere(effects=...) answers {wanted}, not {type(seen).__name__}")
        return {"": seen if isinstance(seen, int) else len(seen)}


@dataclass
class World:
    """One run, what it did, and where its processes died."""

    plot: Plot
    ground: Ground
    number: int
    folder: Path
    ledger: Ledger = field(init=False)
    life: int = 0
    points: list[Point] = field(default_factory=list)
    """Persistence points that the last life passed before the run had ended."""
    finished: list[set[Identity]] = field(default_factory=list)
    """For each death, the calls that were in the journal by then."""
    deaths: list[str] = field(default_factory=list)
    """For each death, how far the journal had got."""
    run_id: str = ""

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder / f"ledger-{self.number}" if self.plot.killed else None)
        self._model = self.plot.model()
        self._after = self._feed_end()
        # An outside that nobody put back must not know the idempotency keys of a world yet.
        steady = digest(f"{self.plot.machine.name} {0 if self.plot.put_back else self.number}")[:16]
        first = RandomIds().run_id(self.ground.clock.now()) if self.ground.shared else steady
        self._seed = 0 if self.plot.put_back else 1000 * self.number
        self._ids = SteadyIds(first, self._seed)
        self._unborn = True
        """Whether the run is not in the database yet, so that the next id is its."""

    # --- living ------------------------------------------------------------------------------------------------------

    def run(self, points: Sequence[Point]) -> Facts:
        """Die at each of the points in turn (a life that ends before its point does not die), then live to the end."""
        before = self.plot.counted()
        for at in points:
            if self._live(at):
                break
            self._look_at_death()
        else:
            if not self._live(None):
                raise AssertionError("a process died that nobody killed")
        after = self.plot.counted()
        grown = {name: after.get(name, 0) - before.get(name, 0) for name in {*after, *before}}
        return asyncio.run(self._facts({name: number for name, number in grown.items() if number}))

    def _live(self, at: Point | None) -> bool:
        """One process; whether the run ended before it died."""
        self.ledger.life, self.life = self.life, self.life + 1
        if self.plot.killed:
            self._ids = SteadyIds(self._ids.first, self._seed + self.life)
        self._ids.begins = self._unborn
        if self.plot.killed:
            ended = self._in_child(at)
            self.ledger.read()
            return ended
        probe = Marked(self._ids.first, at)
        opened = partial(self._open, probe)
        return self.ground.live(probe, opened, lambda runtime: self._story(runtime, probe)) is not None

    def _open(self, probe: Marked) -> WatchedRuntime:
        store = MarkedStore(self.ground.database(), probe)
        options: dict[str, Any] = {"settings": unhurried(self.plot.settings), "clock": self.ground.clock, "ids": self._ids}
        machines = [self.plot.machine]
        return WatchedRuntime(self.ground.url, machines=machines, llm=self._model, store=store, ledger=self.ledger, **options)

    async def _story(self, runtime: WatchedRuntime, probe: Marked) -> RunRecord:
        """What every process does, whatever came before it."""
        run = await runtime.start(self.plot.machine, self.plot.input(), key=f"crash test {self._ids.first.hex()}")
        self.run_id = run.id
        await take_over(runtime, run, runtime.look_after)
        person = Person(self.plot.decisions, self.ledger)
        ended = await both(self._until_ended(runtime, person), self._aside(runtime, person))
        self.points = list(probe.passed)
        return ended

    async def _until_ended(self, runtime: Runtime, person: Person) -> RunRecord:
        while True:
            run = await runtime.wait(self.run_id)
            if run.status.closed:
                return run
            await person.decide(runtime, run.id)

    async def _aside(self, runtime: Runtime, person: Person) -> None:
        """Time passes for whoever waits for it, and child runs have their questions answered."""
        async for entry in runtime.follow(after=self._after):
            if entry.kind == "waiting":
                await let_time_pass(runtime, self.ground.clock, entry.run_id)
                if entry.run_id != self.run_id:
                    await person.decide(runtime, entry.run_id)

    # --- dying by SIGKILL --------------------------------------------------------------------------------------------

    def _in_child(self, at: Point | None) -> bool:
        """A life in a process of its own; whether the run ended in it."""
        if not hasattr(os, "fork"):
            raise ConfigError("crash_everywhere(processes=True) needs an operating system that can fork")
        self.ground.clock = LeapingClock(instant(self._latest() or self.ground.clock.now()))
        told = self.folder / f"points-{self.number}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Of threads: this process has none that the child needs.
            child = os.fork()
        if child == 0:
            self._be_the_child(at, told)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) == signal.SIGKILL and at is not None:
                return False
            raise AssertionError(f"the process died of signal {os.WTERMSIG(status)}")
        said = told.read_text() if told.exists() else ""
        if os.waitstatus_to_exitcode(status) != 0:
            raise AssertionError(f"the process failed:\n{said}")
        self.run_id, *lines = said.splitlines()
        self.points = [Point(*json.loads(line)) for line in lines]
        return True

    def _be_the_child(self, at: Point | None, told: Path) -> None:
        """Never comes back."""
        code = 1
        try:
            probe = Marked(self._ids.first, at, kill=True)

            async def live() -> None:
                async with self._open(probe) as runtime:
                    await self._story(runtime, probe)

            asyncio.run(live())
            told.write_text("\n".join([self.run_id, *(json.dumps(astuple(point)) for point in self.points)]))
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the parent must hear of it and nothing else may run
            told.write_text(traceback.format_exc())
        finally:
            os._exit(code)

    # --- looking -----------------------------------------------------------------------------------------------------

    def _look_at_death(self) -> None:
        with self.ground.looking() as sql:
            calls = sql.execute(t.calls.select()).all()
            head = sql.execute(t.runs.select().where(t.runs.c.run_id == self._ids.first)).first()
        self._unborn = head is None
        self.finished.append({(row.run_id.hex(), row.seq, row.digest.hex(), row.occurrence) for row in calls})
        done = 0 if head is None else sum(row.run_id == self._ids.first and row.seq == head.seq for row in calls)
        recorded = f", with {done} of its calls" if done else ""
        self.deaths.append("nothing of the run" if head is None else f"step {head.seq} in {head.state}{recorded}")

    def _feed_end(self) -> int:
        if not self.ground.shared:
            return 0
        with self.ground.looking() as sql:
            last = sql.execute(t.feed.select().order_by(t.feed.c.pos.desc()).limit(1)).first()
            return 0 if last is None else int(last.pos)

    def _latest(self) -> int | None:
        with self.ground.looking() as sql:
            last = sql.execute(t.feed.select().order_by(t.feed.c.at.desc()).limit(1)).first()
            return None if last is None else int(last.at)

    async def _facts(self, effects: Mapping[str, int]) -> Facts:
        acting = frozenset(name for name, effect in effects_of_tools(self.plot.machine).items() if effect != "read")
        async with self._reader() as runtime:
            return await gather(runtime, self.ground.looking, self.run_id, self.ledger, acting, effects)

    def _reader(self) -> Runtime:
        """A runtime that only looks."""
        quiet = replace(unhurried(self.plot.settings), take="none", channels=())
        machines = [self.plot.machine]
        return Runtime(self.ground.url, machines=machines, store=self.ground.store(), settings=quiet, clock=self.ground.clock)

    def replayed(self) -> str:
        """Where a replay of the run differs from its journal; empty if nowhere."""

        async def replay() -> str:
            async with self._reader() as runtime:
                found = await runtime.replay(self.run_id)
                return "" if found.agrees else str(found.divergence)

        return asyncio.run(replay())

    # --- judging -----------------------------------------------------------------------------------------------------

    def wrongs(self) -> list[str]:
        """What no process may do, whatever came before it: a finished call again, a `once` call twice."""
        effects = effects_of_tools(self.plot.machine)
        again = [each for each in self.ledger.performs if any(each.call in done for done in self.finished[: each.life])]
        found = [f"calls: {each.kind} {each.name} was finished, and process {each.life + 1} made it again" for each in again]
        for call, performs in self._by_call().items():
            name, keys = performs[0].name, {perform.key for perform in performs}
            if len(keys) > 1:
                found.append(f"calls: {name} in step {call[1]} was made with {len(keys)} idempotency keys")
            if effects.get(name) == "once" and len(performs) > 1:
                found.append(f"calls: {name} in step {call[1]} is a `once` tool and was made {len(performs)} times")
        return found

    def _by_call(self) -> dict[Identity, list[Perform]]:
        found: dict[Identity, list[Perform]] = {}
        for perform in self.ledger.performs:
            found.setdefault(perform.call, []).append(perform)
        return found

    def repeated(self) -> dict[str, int]:
        """How many calls were made more than once, by effect; a model's are `model`."""
        effects = effects_of_tools(self.plot.machine)
        found: dict[str, int] = {}
        for performs in self._by_call().values():
            lives = {perform.life for perform in performs}
            if len(lives) > 1:
                name = "model" if performs[0].kind == "llm" else effects.get(performs[0].name, "read")
                found[name] = found.get(name, 0) + 1
        return found
