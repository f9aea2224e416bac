"""`statecraft check`: is this machine sound, does it end, and what may it cost?"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from statecraft.cli.environment import check_environment
from statecraft.cli.exits import Exit, exit_of_error
from statecraft.cli.screen import count, dim, strong
from statecraft.cli.target import load_targets
from statecraft.cli.verb import Session, Verb, one_line
from statecraft.errors import DefinitionError, Finding, StatecraftError

if TYPE_CHECKING:
    from statecraft.machine.caps import Metric
    from statecraft.machine.declare import Machine
    from statecraft.machine.worst import WorstCase

WIDTH = 80
"""Columns of what is written for people."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is known about one machine."""

    machine: str
    findings: tuple[Finding, ...]
    sound: bool
    """No finding is an error."""
    version: str = ""
    shape: str = ""
    """How large it is, in words. Empty, like all below, if it is not sound."""
    properties: tuple[str, ...] = ()
    """Its properties, all of which hold."""
    ends: str = ""
    """Why and when every run ends."""
    worst: WorstCase | None = None
    """The most expensive run."""


@click.command(cls=Verb)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings too.")
@click.option("--against", metavar="URL", help="Could the runs in flight in this database go on under TARGET?")
@click.pass_obj
def check(session: Session, targets: tuple[str, ...], *, strict: bool, against: str | None) -> Exit:
    """Check the definition of each TARGET: every finding, with its fix. Without TARGET, check this environment.

    A TARGET without a machine's name stands for all machines in the file. Exit code 1 if something is wrong.
    """
    if against is not None:
        from statecraft.cli.against import check_against

        return check_against(session, targets, against)
    return check_machines(session, targets, strict=strict) if targets else check_environment(session)


def check_machines(session: Session, targets: Sequence[str], *, strict: bool = False) -> Exit:
    """Write what is known about each machine. What cannot be loaded is told, and the others are checked all the same."""
    reports: list[Report] = []
    worst = Exit.DONE
    for text in targets:
        try:
            found = [report_of(target.machine) for target in load_targets(text)]
        except DefinitionError as error:
            found = [Report(error.machine, error.findings, sound=False)]
        except StatecraftError as error:
            if len(targets) == 1:
                raise
            session.screen.say(f"error: {one_line(error)}")
            worst = max(worst, exit_of_error(error))
            continue
        for report in found:
            if report not in reports:
                if not session.screen.as_json:
                    write(session, report, first=not reports)
                reports.append(report)
    if session.screen.as_json:
        own = [reports[0]] if len(reports) == 1 else []
        session.screen.emit({**(_fields(own[0]) if own else {}), "sound": all(r.sound for r in reports), "machines": reports})
    failed = any(report.findings if strict else not report.sound for report in reports)
    return max(worst, Exit.FAILED) if failed else worst


def _fields(report: Report) -> dict[str, object]:
    return {name: getattr(report, name) for name in Report.__slots__}


def report_of(machine: Machine[Any]) -> Report:
    """What is known about a machine that was accepted."""
    definition, worst = machine.definition, machine.worst_case()
    return Report(
        machine.name,
        machine.check(),
        sound=True,
        version=machine.version,
        shape=f"{count(len(definition.states), 'state')}, {count(len(definition.rows), 'row')}",
        properties=tuple(str(claim) for claim in machine.properties),
        ends=ends_of(machine, worst),
        worst=worst,
    )


def ends_of(machine: Machine[Any], worst: WorstCase) -> str:
    """Why and when every run of a sound machine ends."""
    definition = machine.definition
    most = definition.max_steps
    if not any(reached.bound == "max_steps" for reached in worst.reaches):
        return f"every run ends, with move {worst.steps.value or 0:.0f} at the latest (max_steps={most})"
    why = " (SC120)" if any(finding.code == "SC120" for finding in machine.findings) else ""
    here = [state.name for state in definition.states.values() if state.kind != "final"]
    dead = [name for name in here if "steps_exhausted" not in definition.enabled(name)]
    where = f"; in {', '.join(dead)} no row takes that, and the run is dead" if dead else ""
    return f"the table alone lets a run go on{why}: max_steps={most} stops it{where}"


def worst_lines(worst: WorstCase) -> list[str]:
    """The most expensive run, in few lines: what bounds it, what nothing bounds, the run itself, the limits it meets."""
    from statecraft.machine.caps import METRICS
    from statecraft.machine.worst_text import amount, path

    known: list[Metric] = [metric for metric in METRICS if worst.of(metric).value is not None]
    lines = ["at most " + ", ".join(amount(metric, worst.of(metric).value or 0) for metric in known)]
    if rough := [metric for metric in known if not worst.of(metric).exact]:
        lines.append(f"perhaps less, since there is too much to try: {', '.join(rough)}")
    if unknown := [metric for metric in METRICS if metric not in known]:
        cures = [*(["per_visit= or budget="] if unknown != ["wall"] else []), *(["timeout="] if "wall" in unknown else [])]
        lines.append(f"nothing bounds {', '.join(unknown)}: declare {', '.join(cures)}")
    priced: list[Metric] = [metric for metric in known if metric != "wall" and worst.of(metric).witness]
    shown = priced[-1] if priced else None  # they are in order, the dearest last
    if shown is not None:
        lines.append(f"most {shown}: {path(worst.of(shown).witness)}")
    for each in worst.reaches:
        whose = {"budget": "the budget", "state budget": f"the budget of {each.state}"}.get(each.bound, each.bound)
        rows = ", ".join(dict.fromkeys(f"{event} -> {target}" for _, event, target in each.rows))
        limit = f"{each.limit:g}" if each.metric == "steps" else amount(each.metric, each.limit)
        lines.append(f"{whose} of {limit} may be met: {rows or 'no row takes it, the run is dead'}")
    return lines


def write(session: Session, report: Report, *, first: bool) -> None:
    """A machine for people: what is wrong, then what is certain. One screen if nothing is wrong."""
    lines = [] if first else [""]
    errors = sum(finding.level == "error" for finding in report.findings)
    verdict = click.style("sound", fg="green") if report.sound else click.style("not sound", fg="red")
    shape = f"; {report.shape}" if report.shape else ""
    lines += finding_lines(report.findings)
    counts = f"{count(errors, 'error')}, {count(len(report.findings) - errors, 'warning')}"
    lines.append(f"{strong(report.machine)} is {verdict}: {counts}{shape}")
    lines += _titled("ends", [report.ends] if report.ends else [])
    lines += _titled("holds", report.properties)
    lines += _titled("worst", worst_lines(report.worst) if report.worst else [])
    for line in lines:
        session.screen.data(line)


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    broken = [part for line in lines for part in _broken(line, WIDTH - 9)]
    return [f"  {dim(title.ljust(6)) if not number else ' ' * 6} {line}" for number, line in enumerate(broken)]


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Findings as lines: code and place, what is wrong, what to change."""
    lines: list[str] = []
    for finding in findings:
        level = click.style(finding.level, fg="red" if finding.level == "error" else "yellow")
        lines.append(f"{finding.code} {level} {strong(finding.where)}")
        lines += [f"      {line}" for line in _broken(finding.message, WIDTH - 6)]
        fix, *more = _broken(finding.fix, WIDTH - 11)
        lines += [f"      {dim('fix:')} {fix}", *(f"           {line}" for line in more)]
    return lines


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [text]
