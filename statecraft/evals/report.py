"""What came of a suite: every trial with its grades, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from statecraft.evals.grade import Grade
from statecraft.evals.interval import wilson
from statecraft.money import BILLION
from statecraft.records import Json, Status


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial, graded."""

    repetition: int
    run_id: str
    status: Status
    state: str
    grades: tuple[Grade, ...]
    tokens: int
    cost: int | None
    """Billionths of a dollar; None if a price is not known."""
    calls: int
    steps: int
    seconds: float
    round: int
    """Which run of this case it is with this machine and model: raised each time it is run anew."""
    recalled: bool = False
    """The run was there already; nothing was paid for it now."""
    judges: tuple[str, ...] = ()
    """Runs of judges."""
    judge_tokens: int = 0
    judge_cost: int | None = 0

    @property
    def passed(self) -> bool:
        """Whether there are grades and all of them passed."""
        return bool(self.grades) and all(grade.passed for grade in self.grades)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a line for each grade that failed."""
        return tuple(f"{grade.grader}: {grade.detail or 'failed'}" for grade in self.grades if not grade.passed)


@dataclass(frozen=True, slots=True)
class CaseReport:
    """A case with its trials."""

    name: str
    digest: str
    """Of its input, decisions and expectations."""
    trials: tuple[Tried, ...]
    needs: float
    """Share of trials that must pass."""
    tags: tuple[str, ...] = ()
    where: str = ""

    @property
    def good(self) -> int:
        """Trials that passed."""
        return sum(trial.passed for trial in self.trials)

    @property
    def rate(self) -> float:
        """Share of trials that passed."""
        return self.good / len(self.trials)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the rate."""
        return wilson(self.good, len(self.trials))

    @property
    def passed(self) -> bool:
        """Whether enough trials passed."""
        return self.rate >= self.needs

    @property
    def failing(self) -> tuple[Tried, ...]:
        """Trials that failed."""
        return tuple(trial for trial in self.trials if not trial.passed)


@dataclass(frozen=True, slots=True)
class Report:
    """A suite's result. `assert report.passed, report` is a whole test."""

    suite: str
    machine: str
    version: str
    fingerprint: str
    model: str
    """As it is shown to people."""
    cases: tuple[CaseReport, ...]

    @property
    def trials(self) -> Iterator[Tried]:
        """Every trial, in order."""
        return (trial for case in self.cases for trial in case.trials)

    @property
    def total(self) -> int:
        """Trials."""
        return sum(len(case.trials) for case in self.cases)

    @property
    def good(self) -> int:
        """Trials that passed."""
        return sum(case.good for case in self.cases)

    @property
    def rate(self) -> float:
        """Share of trials that passed; 0 without trials."""
        return self.good / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the rate, as if trials of one case were as good as of several."""
        return wilson(self.good, self.total)

    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return bool(self.cases) and all(case.passed for case in self.cases)

    @property
    def failing(self) -> tuple[CaseReport, ...]:
        """Cases that failed."""
        return tuple(case for case in self.cases if not case.passed)

    def sum(self, of: str) -> int | None:
        """The sum of a number of all trials, such as `tokens` or `judge_cost`; None if it is not known for one of them."""
        numbers = [getattr(trial, of) for trial in self.trials]
        return None if None in numbers else sum(numbers)

    def __str__(self) -> str:
        return "\n".join([summary(self), *(line for case in self.failing for line in case_lines(case))])

    def to_json(self) -> dict[str, Json]:
        """As JSON values: all of it."""
        low, high = self.interval
        return {
            "suite": self.suite,
            "machine": {"name": self.machine, "version": self.version, "fingerprint": self.fingerprint},
            "model": self.model,
            "passed": self.passed,
            "trials": self.total,
            "rate": round(self.rate, 4),
            "interval": [round(low, 4), round(high, 4)],
            "tokens": self.sum("tokens"),
            "dollars": _dollars(self.sum("cost")),
            "judge_tokens": self.sum("judge_tokens"),
            "judge_dollars": _dollars(self.sum("judge_cost")),
            "cases": [_case_json(case) for case in self.cases],
        }


def summary(report: Report) -> str:
    """The result in one line."""
    low, high = report.interval
    cases = f"{len(report.cases) - len(report.failing)} of {len(report.cases)} cases passed"
    trials = f"{report.good} of {report.total} trials, " if report.total > len(report.cases) else ""
    return f"{report.suite}: {cases} ({trials}{report.rate:.0%}, 95% interval {low:.0%} to {high:.0%})"


def case_lines(case: CaseReport) -> list[str]:
    """A case as lines: how often it passed, and what was wrong with each trial that did not."""
    times = f" {case.good} of {len(case.trials)}" if len(case.trials) > 1 else ""
    lines = [f"{'passed' if case.passed else 'FAILED'}{times}  {case.name}{f'  ({case.where})' if case.where else ''}"]
    for trial in case.failing:
        lines += [f"  run {trial.run_id} is {trial.status} in {trial.state}", *(f"    {problem}" for problem in trial.problems)]
    return lines


def _dollars(billionths: int | None) -> float | None:
    return None if billionths is None else billionths / BILLION


def _case_json(case: CaseReport) -> Mapping[str, Json]:
    low, high = case.interval
    return {
        "name": case.name,
        "digest": case.digest,
        "tags": list(case.tags),
        "where": case.where,
        "passed": case.passed,
        "rate": round(case.rate, 4),
        "interval": [round(low, 4), round(high, 4)],
        "trials": [_trial_json(trial) for trial in case.trials],
    }


def _trial_json(trial: Tried) -> Mapping[str, Json]:
    return {
        "repetition": trial.repetition,
        "run": trial.run_id,
        "round": trial.round,
        "recalled": trial.recalled,
        "status": str(trial.status),
        "state": trial.state,
        "passed": trial.passed,
        "grades": _grades_json(trial.grades),
        "tokens": trial.tokens,
        "dollars": _dollars(trial.cost),
        "calls": trial.calls,
        "steps": trial.steps,
        "seconds": round(trial.seconds, 3),
        "judges": list(trial.judges),
        "judge_tokens": trial.judge_tokens,
        "judge_dollars": _dollars(trial.judge_cost),
    }


def _grades_json(grades: Sequence[Grade]) -> list[Json]:
    return [{"grader": g.grader, "passed": g.passed, "detail": g.detail, "score": g.score} for g in grades]
