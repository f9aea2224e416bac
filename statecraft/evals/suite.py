"""A suite: a machine, cases, graders. Everything about it is checked before its first run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from statecraft.engine.settings import Settings
from statecraft.errors import ConfigError
from statecraft.evals.case import Case, Prepared, prepared
from statecraft.evals.grade import Grader, check_graders
from statecraft.evals.judge import Judge
from statecraft.evals.reading import read_cases
from statecraft.evals.report import Report, Tried
from statecraft.llm.port import LLM
from statecraft.machine.declare import Machine
from statecraft.runtime import Runtime

Told = Callable[[int, int, str, Tried], None]
"""Hears of each graded trial: how many are done, of how many, the case's name, and the trial."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases for one machine, and how they are graded.

    Raises `ConfigError` that names the case (with its file and line) or the grader for whatever does not fit: an input that
    does not validate, a decision that the review state does not take, an expectation that no grader reads, two cases of one
    name or of one input.
    """

    machine: Machine[Any]
    cases: Sequence[Case] | str | os.PathLike[str]
    """Cases, or a file of them: see `read_cases`."""
    graders: Sequence[Grader]
    name: str = ""
    """By default the machine's."""
    repeat: int = 1
    """How often each case is run."""
    needs: float = 1.0
    """Share of a case's trials that must pass for the case to pass, above 0 and up to 1."""
    concurrency: int = 8
    """Trials that run at once."""
    timeout: timedelta = timedelta(minutes=10)
    """A trial that has not settled by then fails; its run goes on."""
    prepared: tuple[Prepared, ...] = field(init=False, repr=False, compare=False)
    """The cases, checked against the machine."""

    def __post_init__(self) -> None:
        definition = self.machine.definition
        object.__setattr__(self, "name", self.name or definition.name)
        cases = tuple(read_cases(self.cases) if isinstance(self.cases, str | os.PathLike) else self.cases)
        object.__setattr__(self, "cases", cases)
        object.__setattr__(self, "graders", tuple(self.graders))
        if self.repeat < 1 or self.concurrency < 1 or self.timeout <= timedelta(0):
            raise ConfigError(f"suite {self.name!r}: repeat and concurrency are at least 1, and timeout is more than 0")
        if not 0 < self.needs <= 1:
            raise ConfigError(f"suite {self.name!r}: needs is a share above 0 and up to 1, not {self.needs!r}")
        known = check_graders(tuple(self.graders))
        found = tuple(prepared(case, definition) for case in cases)
        _check_cases(self.name, found, known)
        object.__setattr__(self, "prepared", found)

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The graders that ask a model."""
        return tuple(grader for grader in self.graders if isinstance(grader, Judge))

    @property
    def machines(self) -> tuple[Machine[Any], ...]:
        """What its runtime runs: the machine, and those of its judges."""
        return (self.machine, *(judge.machine for judge in self.judges))

    def only(self, *, names: Sequence[str] = (), tags: Sequence[str] = ()) -> Suite:
        """The suite with the cases of these names, and of these with one of the tags. Raises `ConfigError` if none is left."""
        if unknown := sorted(set(names) - {each.name for each in self.prepared}):
            raise ConfigError(f"suite {self.name!r} has no case {unknown[0]!r}")
        left = [
            each.case
            for each in self.prepared
            if (not names or each.name in names) and (not tags or set(tags) & set(each.case.tags))
        ]
        if not left:
            known = ", ".join(sorted({tag for each in self.prepared for tag in each.case.tags})) or "none"
            raise ConfigError(f"suite {self.name!r} has no case with the tag {' or '.join(tags)}; it has {known}")
        return replace(self, cases=left)

    async def run(self, rt: Runtime, *, since: datetime | None = None, mark: str = "", told: Told | None = None) -> Report:
        """Run every case `repeat` times in a runtime, grade the trials and report.

        A trial that the database has already is not run again: not if it was started by the same definition with the same
        model, and if a replay shows that the code of today would do the same. So an interrupted suite goes on where it was.
        `since` counts only runs started from then on; `mark` is added to what tells the model apart. Raises what stops a
        run that is not its own doing, such as `StoreFull` or a missing key; what is done is kept.
        """
        from statecraft.evals.running import Running

        return await Running(self, rt, since, mark, told).report()


def evaluate(
    suite: Suite,
    *,
    llm: LLM | Mapping[str, LLM] | None = None,
    url: str = "sqlite://",
    settings: Settings | None = None,
    since: datetime | None = None,
) -> Report:
    """Run a suite and block until it is done: for scripts and tests, not inside a running event loop.

    By default nothing is kept: the database is in memory. `settings` hold but for `take`: it takes no runs but its own.
    """

    async def go() -> Report:
        own = replace(settings or Settings(), take="own")
        async with Runtime(url, machines=suite.machines, llm=llm, settings=own) as rt:
            return await suite.run(rt, since=since)

    return asyncio.run(go())


def _check_cases(suite: str, cases: Sequence[Prepared], graders: Mapping[str, Grader]) -> None:
    """Raises `ConfigError` for what no trial could show."""
    if not cases:
        raise ConfigError(f"suite {suite!r} has no cases")
    read = {key for grader in graders.values() for key in grader.expects}
    names: dict[str, Prepared] = {}
    inputs: dict[str, Prepared] = {}
    for each in cases:
        place = each.case.where or f"case {each.name!r}"
        unread = [key for key in each.case.expect if key not in read]
        if unread:
            known = ", ".join(sorted(read)) or "nothing"
            raise ConfigError(f"{place}: no grader of suite {suite!r} reads expect.{unread[0]} (they read {known})")
        if each.name in names:
            raise ConfigError(f"{place}: another case is called {each.name!r} too; give one of them a name of its own")
        if each.digest in inputs:
            other = inputs[each.digest].name
            raise ConfigError(f"{place}: it has the same input as {other!r}; make one case of them, or raise repeat")
        names[each.name] = inputs[each.digest] = each
