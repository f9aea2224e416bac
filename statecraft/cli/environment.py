"""Is this place fit to run machines? What `statecraft check` says without a TARGET."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

from statecraft import __version__
from statecraft.cli.driving import run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import table
from statecraft.cli.verb import Session, one_line
from statecraft.errors import StatecraftError
from statecraft.store import open_store, schema_of, shown


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about the environment."""

    name: str
    ok: bool
    says: str
    needed: bool = True
    """Whether nothing can run without it."""


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
