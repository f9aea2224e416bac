"""Crash-test a machine of your own: one run without a crash, then one that dies at each of its persistence points.

    def test_a_refund_survives_any_crash() -> None:
        print(crash_everywhere(refunds, Claim(order="17"), model, decisions={"asking": Approved()}, effects=lambda: len(sent)))

A persistence point is a moment just before or just after a commit. What a process does between two of them is lost with it, so
these are all the moments that matter. After each death a new process goes on, and in the end everything must be as if nothing
had happened: see `CrashReport`.
"""

from __future__ import annotations

import copy
import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from statecraft.engine.settings import Settings
from statecraft.errors import ConfigError
from statecraft.llm.port import LLM
from statecraft.llm.scripted import ScriptedLLM
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.store import shown
from statecraft.testing.answers import Decisions
from statecraft.testing.facts import Facts, differences
from statecraft.testing.lives import Ground, refuse_inside_a_loop
from statecraft.testing.points import Point
from statecraft.testing.worlds import Effects, Plot, World

D = TypeVar("D", bound=Data)

MOST_PAIRS = 200
"""So many pairs of points are tried if nobody says how many."""
_CLASSES = {"model": "of models", "read": "of `read` tools", "idempotent": "of `idempotent` tools, each with its own key"}


@dataclass(frozen=True)
class CrashReport:
    """A crash test that found nothing wrong.

    For every point that was tried: the run ended in the same state with the same data; its history is the same and verifies,
    times aside; budgets and reservations add up; nobody holds a lease; no intent, question or child run is left open; no
    finished call was made again; every `once` tool acted once; the caller's own effects are the same.
    """

    machine: str
    store: str
    """`memory`, `sqlite`, or the database, without its password."""
    status: str
    state: str
    """Where every run ended."""
    points: int
    """Persistence points of the run that nobody disturbed."""
    tried: tuple[tuple[int, ...], ...]
    """At which of them processes died, one after the other in each run."""
    deaths: int
    doubts: int
    """How often a person was asked whether a call took effect."""
    repeated: Mapping[str, int]
    """Calls that a crash had made again, by `model`, `read`, `idempotent` and `once`."""
    named: bool = False
    """Whether the caller named the points. Else, if they are not all, they are spread evenly."""

    def __str__(self) -> str:
        pairs = any(len(points) > 1 for points in self.tried)
        whole = self.points * (self.points + 1) // 2 if pairs else self.points
        what = "pairs of points" if pairs else "persistence points"
        how = "as named" if self.named else "spread evenly"
        distinct = len(set(self.tried))
        share = f"all {whole} {what}" if distinct == whole else f"{distinct} of {whole} {what}, {how}"
        lines = [
            f"{self.machine} on {self.store}: {self.deaths} deaths, at {share}",
            f"  every run ended {self.status} in {self.state}, with data, history and budgets as if nothing had happened",
        ]
        late = sum(len(points) for points in self.tried) - self.deaths
        if late:
            lines += [f"  processes that were to die, and whose run was over before they came to the point: {late}"]
        again = [f"{number} {_CLASSES[name]}" for name, number in sorted(self.repeated.items()) if name in _CLASSES]
        lines += [f"  calls made again, because a crash lost their answer: {', '.join(again) or 'none'}"]
        if self.doubts:
            lines += [f"  calls in doubt, put to a person and never made twice: {self.doubts}"]
        return "\n".join(lines)


def crash_everywhere(
    machine: Machine[D],
    input: D | Callable[[], D],
    model: LLM | Mapping[str, LLM] | Callable[[], LLM | Mapping[str, LLM]] | None = None,
    *,
    store: str | Callable[[], str] = "memory",
    decisions: Decisions | None = None,
    effects: Effects | None = None,
    before_each: Callable[[], object] | None = None,
    settings: Settings | None = None,
    pairs: bool = False,
    processes: bool = False,
    most: int | None = None,
    points: Sequence[int | tuple[int, ...]] | None = None,
) -> CrashReport:
    """Run a machine once undisturbed, then once for each persistence point, killing its process there and starting another.

    `input` starts each run; `model` answers `run.llm` (a function makes one for each run; a `ScriptedLLM` begins anew with
    each). `store`: `memory`, `sqlite` (files), a database's URL, or a function that gives the URL of an empty database for
    each run. `decisions`: what people answer, by review state or tool, or a function of the review; a call that a gate
    stops is approved, and one in doubt is looked up, unless it says otherwise. `effects` counts what the outside has seen, so
    that effects of handlers and tools are compared too; `before_each` puts all of the outside back before each run (then all
    runs in databases of their own have the same ids and idempotency keys). `settings`
    are the runtime's, but for lease, polling and poison. `pairs`: two processes die in each run. `processes`: they are real
    ones, ended by SIGKILL; then the store must be a file or a server, the model must answer from the request, and effects
    must be kept outside the process. `most`: at most so many points, spread evenly; for pairs 200 if it is not said.
    `points`: only these.

    Raises `AssertionError` at the first point after which anything differs, with what differs and how to see it; also if two
    undisturbed runs differ, since then no crash can be judged. `ConfigError` for what cannot be combined.
    """
    refuse_inside_a_loop("crash_everywhere")
    _check(store, processes, most, points)
    given = input if callable(input) else lambda: input
    plot = Plot(
        machine,
        cast("Callable[[], Any]", given),
        _models(model),
        decisions,
        effects,
        settings,
        before_each is not None,
        processes,
    )
    with tempfile.TemporaryDirectory(prefix="statecraft-crash-") as folder:
        return _Matrix(plot, store, before_each, Path(folder)).run(pairs, most, points)


def _check(store: object, processes: bool, most: int | None, points: Sequence[int | tuple[int, ...]] | None) -> None:
    if processes and store == "memory":
        raise ConfigError('a killed process takes its memory with it: crash_everywhere(processes=True, store="sqlite")')
    if (most is not None and most < 1) or (points is not None and (not points or () in points)):
        raise ConfigError("a crash test that tries no point proves nothing: most is 1 or more, and points names at least one")


def _models(model: Any) -> Callable[[], Any]:
    """A function that gives the model for one run."""
    if callable(model) and not hasattr(model, "complete"):
        return cast("Callable[[], Any]", model)
    if isinstance(model, Mapping):
        return lambda: {name: _anew(each) for name, each in model.items()}
    return lambda: _anew(model)


def _anew(model: Any) -> Any:
    if not isinstance(model, ScriptedLLM):
        return model
    fresh = copy.copy(model)
    fresh.requests = []
    return fresh


class _Matrix:
    """One crash test."""

    def __init__(
        self, plot: Plot, store: str | Callable[[], str], before_each: Callable[[], object] | None, folder: Path
    ) -> None:
        self.plot, self.store, self.before_each, self.folder = plot, store, before_each, folder
        self.number = 0

    def run(self, pairs: bool, most: int | None, points: Sequence[int | tuple[int, ...]] | None) -> CrashReport:
        """All of it."""
        calm, passed = self._calm()
        count = len(passed)
        if points is None:
            chosen = _chosen(count, pairs=pairs, most=most)
        else:
            chosen = [(each,) if isinstance(each, int) else each for each in points]
        deaths = doubts = 0
        repeated = Counter[str]()
        for each in chosen:
            world, facts = self._disturbed(each, calm, passed)
            deaths, doubts = deaths + len(world.deaths), doubts + facts.doubts
            repeated.update(world.repeated())
        name = self.store if isinstance(self.store, str) else "databases of its own"
        told = (self.plot.machine.name, shown(name), *calm.states)
        return CrashReport(*told, count, tuple(chosen), deaths, doubts, dict(repeated), points is not None)

    def _calm(self) -> tuple[Facts, Sequence[Point]]:
        """The undisturbed run and the points it passed. Twice, since what differs by itself cannot be compared."""
        with closing(self._ground()) as ground:
            world = self._world(ground)
            calm = world.run([])
            self._fail_if(world.wrongs(), "the run that nobody disturbed", "")
            divergence = world.replayed()
            ended = f"it ended {' in '.join(calm.states)}, by {calm.runs[0].history[-1]}"
            self._fail_if([f"replay: {divergence}", ended] if divergence else [], "the run that nobody disturbed", "")
        with closing(self._ground()) as ground:
            world = self._world(ground)
            again = world.run([])
            why = "what a handler draws or looks at outside run.* differs from run to run, so no crash can be judged"
            if self.before_each is not None:
                why += "; or before_each leaves something of the outside, which knows the idempotency keys already"
            self._fail_if(differences(again, calm), "a second run that nobody disturbed", why)
        return calm, world.points

    def _disturbed(self, points: tuple[int, ...], calm: Facts, passed: Sequence[Point]) -> tuple[World, Facts]:
        if not all(0 <= at < len(passed) for at in points):
            raise ConfigError(f"the run has persistence points 0 to {len(passed) - 1}, not {points}")
        with closing(self._ground()) as ground:
            world = self._world(ground)
            try:
                facts = world.run([passed[at] for at in points])
                wrong = [*differences(facts, calm), *world.wrongs()]
            except AssertionError as error:
                raise AssertionError(self._told([str(error)], _place(points, passed, world), _how(points))) from error
            self._fail_if(wrong, _place(points, passed, world), _how(points))
        return world, facts

    def _fail_if(self, wrong: Sequence[str], place: str, how: str) -> None:
        if wrong:
            raise AssertionError(self._told(wrong, place, how))

    def _told(self, wrong: Sequence[str], place: str, how: str) -> str:
        lines = [f"crash test of {self.plot.machine.name}: {place} is not what it should be", *(f"  - {each}" for each in wrong)]
        return "\n".join([*lines, how] if how else lines)

    # --- grounds -----------------------------------------------------------------------------------------------------

    def _world(self, ground: Ground) -> World:
        if self.before_each is not None:
            self.before_each()
        return World(self.plot, ground, self.number, self.folder)

    def _ground(self) -> Ground:
        self.number += 1
        if not isinstance(self.store, str):
            return Ground(self.store())
        if self.store == "memory":
            return Ground()
        if self.store == "sqlite":
            return Ground(f"sqlite:///{self.folder / f'{self.number}.db'}")
        return Ground(self.store, shared=True)


def _place(points: tuple[int, ...], passed: Sequence[Point], world: World) -> str:
    places = zip(points, world.deaths, strict=False)
    died = "; then ".join(f"point {at} of {len(passed)}, {passed[at]} (the journal had {had})" for at, had in places)
    return f"the run whose process died at {died}," if died else f"the run that was to die at {points}"


def _how(points: tuple[int, ...]) -> str:
    which = f"[{points[0]}]" if len(points) == 1 else f"[{points}]"
    return (
        f'to see it: crash_everywhere(..., points={which}, store="sqlite:///crash.db"), then '
        "`statecraft show @last --steps --db crash.db`"
    )


def _chosen(count: int, *, pairs: bool, most: int | None) -> list[tuple[int, ...]]:
    every = list(itertools.combinations_with_replacement(range(count), 2 if pairs else 1))
    limit = MOST_PAIRS if most is None and pairs else most
    if limit is None or limit >= len(every):
        return every
    # Steps of a golden section go round and meet all parts alike, before and after commits, early and late deaths.
    step = int(len(every) * 0.618)
    while math.gcd(step, len(every)) != 1:
        step += 1
    return sorted(every[place * step % len(every)] for place in range(limit))
