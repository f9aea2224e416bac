"""A report as JUnit XML, as CI systems read it."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from statecraft.evals.report import CaseReport, Report, case_lines

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write (section 2.2)."""


def to_junit(report: Report) -> str:
    """One `testsuite`; a `testcase` for each case, with a `failure` if it failed.

    The format is that of Ant's `JUnitResultFormatter`, as Jenkins, GitLab and others read it.
    """
    seconds = sum(trial.seconds for trial in report.trials)
    counts = f'tests="{len(report.cases)}" failures="{len(report.failing)}" errors="0" skipped="0" time="{seconds:.3f}"'
    cases = "\n".join(_case(report, case) for case in report.cases)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites {counts}>\n'
        f"<testsuite name={_attribute(report.suite)} {counts}>\n"
        f'<properties><property name="model" value={_attribute(report.model)}/>'
        f'<property name="machine" value={_attribute(f"{report.machine} {report.version}")}/></properties>\n'
        f"{cases}\n</testsuite>\n</testsuites>\n"
    )


def _case(report: Report, case: CaseReport) -> str:
    seconds = sum(trial.seconds for trial in case.trials)
    head = f'<testcase classname={_attribute(f"eval.{report.suite}")} name={_attribute(case.name)} time="{seconds:.3f}"'
    if case.passed:
        return f"{head}/>"
    first = next((problem for trial in case.failing for problem in trial.problems), "failed")
    text = escape(_plain("\n".join(case_lines(case))))
    return f"{head}>\n<failure message={_attribute(first)}>{text}</failure>\n</testcase>"


def _attribute(text: str) -> str:
    return quoteattr(_plain(text))


def _plain(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
