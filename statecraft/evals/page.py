"""A report as one HTML page: no script, nothing fetched, everything escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from statecraft.evals.report import CaseReport, Report, Tried, summary
from statecraft.money import shown

Commands = Callable[[Tried], Sequence[str]]
"""Commands for a person to copy, for one trial."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1d2330; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .6rem; vertical-align: top; }
tr { border-top: 1px solid #dde1e8; }
.n { text-align: right; white-space: nowrap; } .bad { color: #a3232f; } .good { color: #1f6b3a; }
pre { background: #f4f5f8; padding: .6rem; overflow-x: auto; } summary { cursor: pointer; } .dim { color: #667085; }
"""


def to_html(report: Report, commands: Commands | None = None, notes: Sequence[str] = ()) -> str:
    """The whole report; failed cases are open. `commands` may be given for each trial, `notes` stand above the table."""
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(report.suite)}</title><style>{_STYLE}</style></head><body>\n"
    )
    facts = [f"machine {report.machine} {report.version}", f"model {report.model}", *_spent(report)]
    said = "".join(f"<li>{escape(note)}</li>" for note in notes)
    rows = "\n".join(_row(case, commands or _no_commands) for case in report.cases)
    return (
        f"{head}<h1>{escape(summary(report))}</h1>\n<p class=dim>{escape(' · '.join(facts))}</p>\n"
        f"{f'<ul>{said}</ul>' if said else ''}"
        "<table><tr><th></th><th>case</th><th class=n>passed</th><th class=n>95% interval</th><th class=n>tokens</th>"
        f"<th class=n>steps</th></tr>\n{rows}\n</table></body></html>\n"
    )


def _no_commands(tried: Tried) -> Sequence[str]:  # noqa: ARG001
    return ()


def _spent(report: Report) -> list[str]:
    cost, judged = report.sum("cost"), report.sum("judge_tokens")
    parts = [f"{report.sum('tokens'):,} tokens", "price unknown" if cost is None else shown(cost)]
    if judged:
        cost = report.sum("judge_cost")
        parts.append(f"judges: {judged:,} tokens, {'price unknown' if cost is None else shown(cost)}")
    return parts


def _row(case: CaseReport, commands: Commands) -> str:
    low, high = case.interval
    mark = "<span class=good>passed</span>" if case.passed else "<span class=bad>FAILED</span>"
    tags = f" <span class=dim>{escape(', '.join(case.tags))}</span>" if case.tags else ""
    trials = "".join(_trial(trial, commands) for trial in case.trials)
    named = f"<details{'' if case.passed else ' open'}><summary>{escape(case.name)}{tags}</summary>{trials}</details>"
    cells = (f"{case.good} of {len(case.trials)}", f"{low:.0%} to {high:.0%}", *_most(case))
    return f"<tr><td>{mark}</td><td>{named}</td>{''.join(f'<td class=n>{escape(cell)}</td>' for cell in cells)}</tr>"


def _most(case: CaseReport) -> tuple[str, str]:
    return f"{max(trial.tokens for trial in case.trials):,}", f"{max(trial.steps for trial in case.trials):,}"


def _trial(trial: Tried, commands: Commands) -> str:
    grades = "".join(
        f"<li><span class={'good' if grade.passed else 'bad'}>{escape(grade.grader)}</span> {escape(grade.detail)}</li>"
        for grade in trial.grades
    )
    to_copy = escape("\n".join(commands(trial)))
    place = f"run {trial.run_id}: {trial.status} in {trial.state}"
    return f"<p class=dim>{escape(place)}</p><ul>{grades}</ul>{f'<pre>{to_copy}</pre>' if to_copy else ''}"
