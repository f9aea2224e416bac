"""`statecraft check`: is this machine sound, and is this place fit to run it?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

from statecraft import __version__
from statecraft.cli.driving import run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import dim, strong, table
from statecraft.cli.target import load_target
from statecraft.cli.verb import Session, Verb, one_line
from statecraft.errors import DefinitionError, Finding, StatecraftError
from statecraft.store import open_store, schema_of, shown


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about the environment."""

    name: str
    ok: bool
    says: str
    needed: bool = True
    """Whether nothing can run without it."""


@click.command(cls=Verb)
@click.argument("target", required=False)
@click.option("--against", metavar="URL", help="Could the runs in flight in this database go on under TARGET?")
@click.pass_obj
def check(session: Session, target: str | None, against: str | None) -> Exit:
    """Check TARGET's definition: every finding, with its fix. Without TARGET, check this environment.

    Exit code 1 if something is wrong.
    """
    if against is not None:
        from statecraft.cli.against import check_against

        return check_against(session, target, against)
    return check_machine(session, target) if target else check_environment(session)


def check_machine(session: Session, text: str) -> Exit:
    """Write a machine's findings; warnings alone are no failure."""
    try:
        target = load_target(text)
        name, findings, shape = target.machine.name, tuple(target.machine.findings), shape_of(target.machine.definition)
    except DefinitionError as error:
        name, findings, shape = error.machine, error.findings, ""
    errors = sum(finding.level == "error" for finding in findings)
    if session.screen.as_json:
        session.screen.emit({"machine": name, "findings": findings, "sound": not errors})
        return Exit.FAILED if errors else Exit.DONE
    for line in finding_lines(findings):
        session.screen.data(line)
    warnings = len(findings) - errors
    verdict = click.style("not sound", fg="red") if errors else click.style("sound", fg="green")
    session.screen.data(f"{strong(name)} is {verdict}: {errors} errors, {warnings} warnings{f'; {shape}' if shape else ''}")
    return Exit.FAILED if errors else Exit.DONE


def shape_of(definition: object) -> str:
    """How large a closed machine is, in words."""
    states, rows = getattr(definition, "states", {}), getattr(definition, "rows", ())
    return f"{len(states)} states, {len(rows)} rows"


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Findings as lines: code and place, what is wrong, what to change."""
    lines: list[str] = []
    for finding in findings:
        level = click.style(finding.level, fg="red" if finding.level == "error" else "yellow")
        lines += [f"{finding.code} {level} {strong(finding.where)}: {finding.message}", f"      {dim('fix:')} {finding.fix}"]
    return lines


def check_environment(session: Session) -> Exit:
    """Write what is here and what is missing; only what nothing can run without is a failure."""
    facts = [*_versions(session), _database(session), _renderer(), _key()]
    failed = any(fact.needed and not fact.ok for fact in facts)
    if session.screen.as_json:
        session.screen.emit({"checks": facts, "fit": not failed})
    else:
        for line in table((_mark(fact), fact.name, fact.says) for fact in facts):
            session.screen.data(line)
    return Exit.FAILED if failed else Exit.DONE


def _mark(fact: Fact) -> str:
    if fact.ok:
        return click.style("ok", fg="green")
    return click.style("FAIL", fg="red") if fact.needed else click.style("--", fg="yellow")


def _versions(session: Session) -> list[Fact]:
    config = session.config.path
    return [
        Fact("statecraft", True, __version__),
        Fact(
            "python",
            sys.version_info >= (3, 11),
            f"{platform.python_version()} ({platform.python_implementation()}) at {sys.executable}",
        ),
        Fact(
            "settings",
            True,
            str(config) if config else "no statecraft.toml, no [tool.statecraft] in a pyproject.toml",
            needed=False,
        ),
    ]


def _database(session: Session) -> Fact:
    where = f"{shown(session.database.url)} (from {session.database.source})"
    path = session.database.file
    if path is not None and not path.exists():
        folder = path.parent if path.parent.name else Path.cwd()
        able = folder.is_dir() and os.access(folder, os.W_OK)
        return Fact(
            "database",
            able,
            f"{where}: not there yet; " + ("the first start makes it" if able else f"{folder} cannot be written"),
        )

    async def main() -> Exit:
        store = open_store(session.database.url, migrate=False)
        await store.open()
        await store.close()
        return Exit.DONE

    try:
        if path is None and schema_of(session.database.url)[0] is None:
            return Fact(
                "database", True, f"{where}: reachable, without tables; `statecraft migrate` or the first start makes them"
            )
        run_async(main)
    except StatecraftError as error:
        return Fact("database", False, f"{where}: {one_line(error)}")
    return Fact("database", True, f"{where}: reachable, its schema is the one of this version")


def _renderer() -> Fact:
    if dot := shutil.which("dot"):
        return Fact("graphviz", True, dot, needed=False)
    if find_spec("pygraphviz"):
        return Fact("graphviz", True, "in the pygraphviz wheel", needed=False)
    return Fact(
        "graphviz",
        False,
        "no dot program, no pygraphviz: pictures only as text (pip install 'statecraft-agents[render]')",
        needed=False,
    )


def _key() -> Fact:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        if os.environ.get(name):
            return Fact("api key", True, f"{name} is set", needed=False)
    return Fact("api key", False, "ANTHROPIC_API_KEY is not set: Claude cannot be asked", needed=False)
