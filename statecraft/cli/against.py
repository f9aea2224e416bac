"""`statecraft check TARGET --against URL`: could the runs in flight there go on under this definition?

Nothing is written. Runs of an older definition are migrated in memory, each with its own data, so that what the answer says
is what would happen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from statecraft.cli.check import finding_lines
from statecraft.cli.config import Database, as_url
from statecraft.cli.driving import run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import count, strong
from statecraft.cli.target import load_targets
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


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What would become of the runs of one machine."""

    definition: Definition
    place: str
    groups: list[Group]

    def of(self, fate: str) -> int:
        """How many runs have this fate."""
        return sum(group.count for group in self.groups if group.fate == fate)

    def described(self) -> dict[str, object]:
        """For programs."""
        known = {"machine": self.definition.name, "version": self.definition.version, "fingerprint": self.definition.fingerprint}
        counts = {"in_flight": sum(group.count for group in self.groups), "stranded": self.of("stranded")}
        return {**known, **counts, "groups": self.groups}


def check_against(session: Session, targets: Sequence[str], url: str) -> Exit:
    """Write what would become of the runs in flight of each machine. Exit code 1 if any could not go on. Raises `ConfigError`."""
    definitions = [target.machine.definition for text in targets for target in load_targets(text)]
    if not definitions:
        raise ConfigError("check --against URL looks at the runs of machines: name their TARGETs")
    database = Database(as_url(url), "--against")
    must_exist(database)

    async def main() -> Exit:
        async with _store(database) as store:
            found = [Upgrade(each, shown(database.url), await in_flight(store, each)) for each in definitions]
        return _tell(session, found)

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


def _tell(session: Session, upgrades: list[Upgrade]) -> Exit:
    stranded = any(each.of("stranded") for each in upgrades)
    if session.screen.as_json:
        told = [each.described() for each in upgrades]
        session.screen.emit({**(told[0] if len(told) == 1 else {}), "hosted": not stranded, "machines": told})
        return Exit.FAILED if stranded else Exit.DONE
    for upgrade in upgrades:
        for line in (*finding_lines(findings(upgrade.groups)), *_lines(upgrade)):
            session.screen.data(line)
    return Exit.FAILED if stranded else Exit.DONE


def _lines(upgrade: Upgrade) -> Iterator[str]:
    for group in upgrade.groups:
        if group.fate == "migrates":
            where = group.state if group.state == group.target else f"{group.state}, then {group.target}"
            yield f"{count(group.count, 'run')} of version {group.version} would migrate: in {where}"
    name, version = strong(upgrade.definition.name), upgrade.definition.version
    same, migrating, stranded = (upgrade.of(fate) for fate in ("same", "migrates", "stranded"))
    verdict = f"{same} of this definition, {migrating} would migrate, {stranded} could not go on"
    yield f"{name} version {version}: {count(same + migrating + stranded, 'run')} in flight at {upgrade.place}: {verdict}"
