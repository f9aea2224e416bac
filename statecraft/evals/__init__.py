"""Suites of cases: a machine run many times, each run graded, and the grades compared with a baseline."""

from __future__ import annotations

from statecraft.evals.baseline import Baseline, Change, Comparison, compare, load_baseline, save_baseline
from statecraft.evals.case import Case
from statecraft.evals.conduct import Called, CalledInOrder, Ends, Visited, Within
from statecraft.evals.grade import FROM_CASE, Contains, Exact, Fits, Grade, Grader, Holds, Matches
from statecraft.evals.interval import wilson
from statecraft.evals.judge import Judge
from statecraft.evals.junit import to_junit
from statecraft.evals.page import to_html
from statecraft.evals.reading import read_cases
from statecraft.evals.report import CaseReport, Report, Tried
from statecraft.evals.suite import Suite, evaluate
from statecraft.evals.trial import Trial, Verdict

__all__ = [
    "FROM_CASE",
    "Baseline",
    "Called",
    "CalledInOrder",
    "Case",
    "CaseReport",
    "Change",
    "Comparison",
    "Contains",
    "Ends",
    "Exact",
    "Fits",
    "Grade",
    "Grader",
    "Holds",
    "Judge",
    "Matches",
    "Report",
    "Suite",
    "Trial",
    "Tried",
    "Verdict",
    "Visited",
    "Within",
    "compare",
    "evaluate",
    "load_baseline",
    "read_cases",
    "save_baseline",
    "to_html",
    "to_junit",
    "wilson",
]
