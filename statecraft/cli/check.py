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
    from statecraft.machine.declare import Machine

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
    worst: tuple[str, ...] = ()
    """The most expensive run, in lines."""


@click.command(cls=Verb)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings too.")
@click.pass_obj
def check(session: Session, targets: tuple[str, ...], *, strict: bool) -> Exit:
    """Check the definition of each TARGET: every finding, with its fix. Without TARGET, check this environment.

    A TARGET without a machine's name stands for all machines in the file. Exit code 1 if something is wrong.
    """
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
    definition = machine.definition
    return Report(
        machine.name,
        machine.check(),
        sound=True,
        version=machine.version,
        shape=f"{count(len(definition.states), 'state')}, {count(len(definition.rows), 'row')}",
        properties=tuple(str(claim) for claim in machine.properties),
        ends=ends_of(machine),
        worst=worst_of(machine),
    )


def ends_of(machine: Machine[Any]) -> str:
    """Why and when every run of a sound machine ends."""
    most = machine.definition.max_steps
    if any(finding.code == "SC120" for finding in machine.check()):
        return f"only max_steps={most} ends every run: a cycle has no bound (SC120)"
    moves, proven = _longest(machine)
    if not proven:
        return f"every run, in a final state or, stopped by max_steps={most}, as a dead letter"
    return f"every run ends, with move {moves} at the latest (max_steps={most})"


def _longest(machine: Machine[Any]) -> tuple[int, bool]:
    """The moves of the longest run, and whether every run is known to reach a final state."""
    from statecraft.machine.properties import eventually
    from statecraft.machine.state import Final

    states = machine.definition.states
    first, *more = [Final[Any](state.name, machine) for state in states.values() if state.kind == "final"]
    low, high = 1, machine.definition.max_steps + len(states)  # the engine grants no more
    if machine.counterexample(eventually(first, *more, within=high)) is not None:
        return high, False
    while low < high:
        middle = (low + high) // 2
        if machine.counterexample(eventually(first, *more, within=middle)) is None:
            high = middle
        else:
            low = middle + 1
    return high, True


def worst_of(machine: Machine[Any]) -> tuple[str, ...]:  # noqa: ARG001
    """The most expensive run of a machine, in lines for people; none if nothing can tell."""
    return ()


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
    lines += _titled("worst", report.worst)
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
