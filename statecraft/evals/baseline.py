"""A baseline: how often each case passed once, in a file to keep with the code, and what got worse since."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from statecraft.errors import ConfigError
from statecraft.evals.interval import wilson
from statecraft.evals.report import CaseReport, Report
from statecraft.files import write_whole

VERSION = 1
"""Of the file's format."""

Kind = Literal["regression", "within chance", "better", "new", "changed", "gone"]


class Was(BaseModel):
    """How a case did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str
    passed: int = Field(ge=0)
    trials: int = Field(ge=1)

    @model_validator(mode="after")
    def _counts(self) -> Was:
        if self.passed > self.trials:
            raise ValueError(f"{self.passed} of {self.trials} trials cannot have passed")
        return self


class Baseline(BaseModel):
    """How every case of a suite did. It names no run and no time, so equal results are equal files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1
    suite: str
    model: str
    cases: dict[str, Was]

    def only(self, names: AbstractSet[str]) -> Baseline:
        """The part about some cases."""
        return self.model_copy(update={"cases": {name: was for name, was in self.cases.items() if name in names}})


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one case, or of all of them together."""

    kind: Kind
    case: str
    """Empty for all together."""
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.case or 'all cases'}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A report beside a baseline. Cases of which nothing changed are left out."""

    changes: tuple[Change, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What got worse beyond chance."""
        return tuple(change for change in self.changes if change.kind == "regression")


def baseline_of(report: Report) -> Baseline:
    """The baseline that a report makes."""
    cases = {case.name: Was(digest=case.digest, passed=case.good, trials=len(case.trials)) for case in report.cases}
    return Baseline(suite=report.suite, model=report.model, cases=cases)


def save_baseline(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report's baseline, a case a line, in the order of the suite. Raises `ConfigError` if that cannot be done."""
    made = baseline_of(report)
    lines = [f"  {json.dumps(name, ensure_ascii=False)}: {was.model_dump_json()}" for name, was in made.cases.items()]
    cases = ",\n".join(lines)
    head = f'"v": {VERSION},\n"suite": {json.dumps(made.suite)},\n"model": {json.dumps(made.model, ensure_ascii=False)}'
    write_whole(path, f'{{\n{head},\n"cases": {{\n{cases}\n}}\n}}\n'.encode())


def load_baseline(path: str | os.PathLike[str]) -> Baseline:
    """Read a baseline. Raises `ConfigError` that says what is wrong with the file."""
    try:
        return Baseline.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"the baseline {path} cannot be read: {error.strerror}; make it with --save-baseline {path}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path} is no baseline: {f'{place}: ' if place else ''}{first['msg']}") from error


def compare(report: Report, baseline: Baseline) -> Comparison:
    """What differs.

    A case got worse if its pass rate now is below the 95 % Wilson interval of its rate then: for one trial then, if it
    passed and now none does; for several, if it is lower than chance explains. If no case did, all that both have are compared
    together likewise, so that many cases that each got a little worse are seen. New and changed cases are told, and are no
    regressions.
    """
    changes = [_change(case, baseline.cases.get(case.name)) for case in report.cases]
    changes += [Change("gone", name, "the suite does not have it any more") for name in _gone(report, baseline.cases)]
    found = tuple(change for change in changes if change is not None)
    if not any(change.kind == "regression" for change in found) and (all_of := _together(report, baseline)) is not None:
        found += (all_of,)
    return Comparison(found)


def _change(case: CaseReport, was: Was | None) -> Change | None:
    now = f"{case.good} of {len(case.trials)}"
    if was is None:
        return Change("new", case.name, f"{now} passed")
    then = f"{was.passed} of {was.trials}"
    if was.digest != case.digest:
        return Change("changed", case.name, f"asks for something else now; {now} passed, {then} before")
    rate = was.passed / was.trials
    if case.rate < rate:
        worse = case.rate < wilson(was.passed, was.trials)[0]
        return Change("regression" if worse else "within chance", case.name, f"{now} passed, {then} before")
    return Change("better", case.name, f"{now} passed, {then} before") if case.rate > rate else None


def _together(report: Report, baseline: Baseline) -> Change | None:
    shared = [(case, baseline.cases[case.name]) for case in report.cases if case.name in baseline.cases]
    same = [(case, was) for case, was in shared if case.digest == was.digest]
    trials, good = sum(len(case.trials) for case, _ in same), sum(case.good for case, _ in same)
    before, total = sum(was.passed for _, was in same), sum(was.trials for _, was in same)
    if not trials or good / trials >= wilson(before, total)[0]:
        return None
    return Change("regression", "", f"{good / trials:.0%} of {trials} trials passed, {before / total:.0%} of {total} before")


def _gone(report: Report, cases: Mapping[str, Was]) -> list[str]:
    return [name for name in cases if name not in {case.name for case in report.cases}]
