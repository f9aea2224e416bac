"""`statecraft check TARGET --against URL`: could the runs in flight there go on under this definition?

Nothing is written. Runs of an older definition are migrated in memory, each with its own data, so that what the answer says
is what would happen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from statecraft.cli.check import finding_lines
from statecraft.cli.config import Database, as_url
from statecraft.cli.driving import run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import count, strong
from statecraft.cli.target import load_target
from statecraft.cli.verb import Session, must_exist
from statecraft.clock import SystemClock
from statecraft.engine.migrating import hosts, prepare
from statecraft.engine.versions import difference
from statecraft.errors import ConfigError, Finding, NotFound, StatecraftError
from statecraft.machine.definition import Definition
from statecraft.records import RunFilter, RunRecord, Status
from statecraft.store import open_store, port, shown

EXAMPLES = 3
"""How many runs a group names at most."""
_EVERY = 10_000_000
_IN_FLIGHT = (Status.READY, Status.RUNNING, Status.WAITING, Status.DEAD)

Fate = Literal["same", "migrates", "stranded"]


@dataclass(slots=True)
class Group:
    """Runs that stand in one state of one definition, and have one fate."""

    state: str
    version: str
    fingerprint: str
    fate: Fate
    target: str = ""
    """The state they would go on in."""
    reason: str = ""
    """Why they cannot."""
    count: int = 0
    runs: list[str] = field(default_factory=list[str])
    """Examples."""


def check_against(session: Session, text: str | None, url: str) -> Exit:
    """Write what would become of the runs in flight. Exit code 1 if any could not go on. Raises `ConfigError`."""
    if text is None:
        raise ConfigError("check --against URL looks at the runs of one machine: name its TARGET")
    definition = load_target(text).machine.definition
    database = Database(as_url(url), "--against")
    must_exist(database)

    async def main() -> Exit:
        async with _store(database) as store:
            groups = await in_flight(store, definition)
        return _tell(session, definition, shown(database.url), groups)

    return run_async(main)


@asynccontextmanager
async def _store(database: Database) -> AsyncIterator[port.Store]:
    store = open_store(database.url, migrate=False)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def in_flight(store: port.Store, definition: Definition) -> list[Group]:
    """The runs of the machine that have not ended, dead ones included: those that could not go on first, the most first."""
    found: dict[tuple[str, ...], Group] = {}
    strangers: dict[str, str] = {}
    for status in _IN_FLIGHT:
        for run in await store.runs(RunFilter(status=status, machine=definition.name, limit=_EVERY)):
            fate, target, reason = await _fate(store, definition, run, strangers)
            key = (run.state, run.fingerprint, fate, target, reason)
            group = found.setdefault(key, Group(run.state, run.version, run.fingerprint, fate, target, reason))
            group.count += 1
            if len(group.runs) < EXAMPLES:
                group.runs.append(run.id)
    return sorted(found.values(), key=lambda group: (group.fate != "stranded", -group.count, group.state, group.version))


async def _fate(store: port.Store, definition: Definition, run: RunRecord, strangers: dict[str, str]) -> tuple[Fate, str, str]:
    """(fate, state it goes on in, why it cannot). `strangers` remembers definitions without a migration."""
    if run.fingerprint == definition.fingerprint:
        return "same", run.state, ""
    if not hosts(definition, run.fingerprint, run.version):
        if run.fingerprint not in strangers:
            differs = difference((await store.spec(run.fingerprint)).spec, definition.spec)
            strangers[run.fingerprint] = f"no migration begins with its definition, and it differs: {differs}"
        return "stranded", "", strangers[run.fingerprint]
    try:
        loaded = await store.load(bytes.fromhex(run.id))
        if loaded.run.status.closed or loaded.run.fingerprint == definition.fingerprint:
            return "same", loaded.run.state, ""  # It went on while we looked.
        move = await prepare(store, SystemClock(), definition, 0, loaded, held=False)
    except NotFound:
        raise
    except StatecraftError as error:
        return "stranded", "", _of_any(run, str(error))
    return "migrates", move.loaded.run.state, ""


def _of_any(run: RunRecord, reason: str) -> str:
    """A reason without the run it was said of, so that others can share it."""
    for said in (f"run {run.id} in {run.state} cannot go on: ", f"run {run.id} in {run.state} cannot go on "):
        reason = reason.removeprefix(said)
    return reason.replace(f"run {run.id}", "the run")


def findings(groups: list[Group]) -> list[Finding]:
    """One SC140 for each group of runs that could not go on."""
    return [
        Finding(
            "SC140",
            "error",
            group.state,
            f"{count(group.count, 'run')} of version {group.version} could not go on: {group.reason} "
            f"(such as {', '.join(group.runs)})",
            f"declare what becomes of {group.state} in Migration(since={group.fingerprint[:12]!r}, ...), or leave these runs to "
            f"workers with the code of version {group.version}",
        )
        for group in groups
        if group.fate == "stranded"
    ]


def _tell(session: Session, definition: Definition, place: str, groups: list[Group]) -> Exit:
    stranded = sum(group.count for group in groups if group.fate == "stranded")
    every = sum(group.count for group in groups)
    if session.screen.as_json:
        known = {"machine": definition.name, "version": definition.version, "fingerprint": definition.fingerprint}
        session.screen.emit({**known, "in_flight": every, "stranded": stranded, "groups": groups, "hosted": not stranded})
        return Exit.FAILED if stranded else Exit.DONE
    for line in finding_lines(findings(groups)):
        session.screen.data(line)
    for group in groups:
        if group.fate == "migrates":
            where = group.state if group.state == group.target else f"{group.state}, then {group.target}"
            session.screen.data(f"{count(group.count, 'run')} of version {group.version} would migrate: in {where}")
    same = sum(group.count for group in groups if group.fate == "same")
    verdict = f"{count(every, 'run')} in flight at {place}: {same} of this definition, {every - same - stranded} would migrate"
    session.screen.data(f"{strong(definition.name)} version {definition.version}: {verdict}, {stranded} could not go on")
    return Exit.FAILED if stranded else Exit.DONE
