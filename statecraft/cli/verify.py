"""`statecraft verify`: is the stored history of these runs what was written?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from statecraft.cli.driving import reading, run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import count
from statecraft.cli.target import find_machine
from statecraft.cli.verb import DrivingVerb, Session, must_exist
from statecraft.errors import ConfigError, NotFound
from statecraft.records import RunRecord

if TYPE_CHECKING:
    from statecraft.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known of one run's history."""

    run: str
    machine: str
    state: str
    problems: Sequence[str]
    recomputed: bool
    """Whether states, data and guards were worked out again by the machine; else only hashes and rows were."""


@click.command(cls=DrivingVerb)
@click.argument("runs", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every run of the database.")
@click.pass_obj
def verify(session: Session, runs: tuple[str, ...], every: bool) -> Exit:
    """Check the stored history of RUNs, byte by byte; exit code 1 and the first bad row if it does not hold.

    Needs no code. With the machine at hand, states, data and guards are worked out again too.
    """
    if every == bool(runs):
        raise ConfigError("say which: either RUNs or --all")

    async def main() -> Exit:
        async with reading(session) as rt:
            ids = await rt.run_ids() if every else [(await rt.run_ids(run))[0] for run in runs]
            heads = [await _head(rt, run_id) for run_id in ids]
        async with with_machines(session, {head.machine for head in heads if head is not None}) as rt:
            found = [await _verified(rt, run_id, head) for run_id, head in zip(ids, heads, strict=True)]
        return _tell(session, found)

    return run_async(main)


@asynccontextmanager
async def with_machines(session: Session, names: set[str]) -> AsyncIterator[Runtime]:
    """A runtime that only looks, with those of the machines that are at hand."""
    from statecraft.engine.settings import Settings
    from statecraft.runtime import Runtime

    must_exist(session.database)
    machines = []
    for name in sorted(names):
        try:
            machines.append(find_machine(name, session).machine)
        except ConfigError as missing:
            session.screen.say(f"without its code: {missing}")
    database = session.database
    async with Runtime(database.url, machines=machines, settings=Settings(take="none"), migrate=database.migrate) as rt:
        yield rt


async def _head(rt: Runtime, run_id: str) -> RunRecord | None:
    """What is told of a run besides its history; None if it is too damaged to be read."""
    with suppress(NotFound, ValueError):
        return await rt.get(run_id)
    return None


async def _verified(rt: Runtime, run_id: str, head: RunRecord | None) -> Verified:
    if head is None:
        return Verified(run_id, "", "", await rt.verify(run_id) or ["head: cannot be read"], False)
    return Verified(run_id, head.machine, head.state, await rt.verify(run_id), rt.knows(head))


def _tell(session: Session, found: Sequence[Verified]) -> Exit:
    bad = [each for each in found if each.problems]
    if session.screen.as_json:
        session.screen.emit({"runs": found})
        return Exit.FAILED if bad else Exit.DONE
    for each in bad:
        session.screen.data(f"{each.run} {click.style('does not hold', fg='red')}")
        for problem in each.problems:
            session.screen.data(f"  {problem}")
    if len(found) == 1 and not bad:
        session.screen.data(f"{found[0].run} holds")
    whole = sum(each.recomputed for each in found)
    session.screen.say(
        f"{count(len(found) - len(bad), 'run')} {'hold' if len(found) - len(bad) != 1 else 'holds'}, {len(bad)} not; "
        f"states, data and guards of {whole} were worked out again"
    )
    return Exit.FAILED if bad else Exit.DONE
