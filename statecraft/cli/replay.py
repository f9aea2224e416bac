"""`statecraft replay`: the handlers of one run, or of every recorded run, again against the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from statecraft.cli.config import actor
from statecraft.cli.dlq import moment
from statecraft.cli.driving import locate, opened, run_async, settle
from statecraft.cli.exits import Exit
from statecraft.cli.junit import JUnit, junit_file
from statecraft.cli.screen import count
from statecraft.cli.target import Target, find_machine, load_target, project_targets, settings_for
from statecraft.cli.verb import LIMIT, DrivingVerb, Session, must_exist
from statecraft.clock import SystemClock, instant
from statecraft.errors import ConfigError

if TYPE_CHECKING:
    from statecraft.divergence import Replay
    from statecraft.runtime import Runtime

TOLD_EVERY = 100
"""Runs between two lines of progress."""
MOST_LISTED = 1_000
"""Divergences that `--json` lists; all are counted, and all are in the file of `--junit`."""


@dataclass(frozen=True, slots=True)
class Many:
    """Which runs `--all` means, and how they are replayed."""

    since: datetime | None
    limit: int | None
    concurrency: int
    junit: Path | None


@dataclass(slots=True)
class Sums:
    """What came of many replays."""

    same: int = 0
    diverge: int = 0
    listed: list[Replay] = field(default_factory=list)
    """Those that diverge, up to `MOST_LISTED`."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many could not be replayed, by the reason."""

    @property
    def total(self) -> int:
        """All runs looked at."""
        return self.same + self.diverge + self.skipped.total()

    def __str__(self) -> str:
        apart = f", {self.skipped.total():,} not replayed" if self.skipped else ""
        return f"{self.same:,} same, {self.diverge:,} diverge{apart}"

    def add(self, found: Replay) -> None:
        """Count one more."""
        if found.skipped:
            self.skipped[found.skipped] += 1
        elif found.divergence is None:
            self.same += 1
        else:
            self.diverge += 1
            if len(self.listed) < MOST_LISTED:
                self.listed.append(found)


@click.command(cls=DrivingVerb)
@click.argument("run", required=False)
@click.option("--continue", "live", is_flag=True, help="Fork RUN at its first divergence, and let the fork go on live.")
@click.option("--all", "every", is_flag=True, help="Every recorded run of the machines named with -m, or of the project's.")
@click.option("--since", metavar="WHEN", help="With --all: created since then: 90m, 6h, 7d ago, or an instant in ISO 8601.")
@click.option("--limit", type=LIMIT, metavar="N", help="With --all: the newest N runs of each machine.")
@click.option("--concurrency", type=LIMIT, metavar="N", help="With --all: runs replayed at once (default 4).")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="With --all: also as JUnit XML.")
@click.pass_obj
def replay(
    session: Session,
    /,
    run: str | None,
    live: bool,
    every: bool,
    since: str | None,
    limit: int | None,
    concurrency: int | None,
    junit: Path | None,
) -> Exit:
    """Run the handlers of RUN again against its record; nothing leaves the process.

    Exit code 1 and the first differing call or move, if the code of today would do something else.
    """
    if every and (run is not None or live):
        raise ConfigError("replay takes a RUN or --all; --continue goes with a RUN")
    if every:
        at = None if since is None else moment(since, instant(SystemClock().now()))
        return run_async(lambda: _all(session, Many(at, limit, concurrency or 4, junit)))
    if run is None:
        raise ConfigError("replay needs a RUN (an id, its beginning, or @last), or --all")
    if (since, limit, concurrency, junit) != (None, None, None, None):
        raise ConfigError("--since, --limit, --concurrency and --junit go with --all")
    return run_async(lambda: _go_on(session, run) if live else _one(session, run))


@asynccontextmanager
async def apart(session: Session, target: Target) -> AsyncIterator[Runtime]:
    """A runtime to replay with: the settings of the machine's module, but no model, no channels, and nothing registered."""
    from statecraft.runtime import Runtime

    must_exist(session.database)
    settings = replace(settings_for(target), take="none", channels=())
    async with Runtime(session.database.url, settings=settings, migrate=session.database.migrate) as rt:
        yield rt


async def _one(session: Session, run: str) -> Exit:
    found = await locate(session, run)
    target = find_machine(found.machine, session)
    async with apart(session, target) as rt:
        result = await rt.replay(found.id, target.machine)
    _tell(session, result)
    return Exit.DONE if result.agrees else Exit.FAILED


async def _go_on(session: Session, run: str) -> Exit:
    async with opened(session, run, "own") as found:
        result = await found.rt.replay(found.run.id, fork=True, by=actor(None))
        if result.fork is None:
            _tell(session, result)
            return Exit.DONE
        for line in verdict(result):
            session.screen.say(line)
        session.screen.say(f"forked there; {result.fork} goes on")
        if not session.screen.as_json:
            session.screen.data(result.fork)
        return await settle(session, found.rt, result.fork)


def _tell(session: Session, result: Replay) -> None:
    if session.screen.as_json:
        session.screen.emit({"replay": result, "agrees": result.agrees})
        return
    for line in verdict(result):
        session.screen.data(line)


def verdict(result: Replay) -> list[str]:
    """What a replay found, in words."""
    if result.divergence is None:
        return [f"replay agrees: {count(result.steps, 'move')} and {count(result.calls, 'call')}, exactly as recorded"]
    return f"replay differs at {result.divergence}".splitlines()


async def _all(session: Session, many: Many) -> Exit:
    targets = [load_target(text) for text in session.drive.machines or project_targets(session, "replay --all")]
    sums = Sums()
    with nullcontext() if many.junit is None else junit_file(many.junit) as junit:
        for target in targets:
            async with apart(session, target) as rt:
                await _replay_all(session, rt, target, many, sums, junit)
    _report(session, sums)
    return Exit.FAILED if sums.diverge else Exit.DONE


async def _replay_all(session: Session, rt: Runtime, target: Target, many: Many, sums: Sums, junit: JUnit | None) -> None:
    results = rt.replay_all(target.machine, since=many.since, limit=many.limit, concurrency=many.concurrency)
    async for found in results:
        sums.add(found)
        if junit is not None:
            junit.add(found)
        if found.divergence is not None and not session.screen.as_json:
            for line in f"run {found.run_id} {found.divergence}".splitlines():
                session.screen.data(line)
        if session.screen.progress and sums.total % TOLD_EVERY == 0:
            session.screen.say(f"{target.machine.name}: {sums}")


def _report(session: Session, sums: Sums) -> None:
    if session.screen.as_json:
        skipped = [{"reason": reason, "runs": runs} for reason, runs in sums.skipped.most_common()]
        counts = {"same": sums.same, "diverge": sums.diverge, "not_replayed": sums.skipped.total()}
        session.screen.emit({**counts, "divergences": sums.listed, "reasons": skipped})
        return
    session.screen.data(str(sums))
    for reason, runs in sums.skipped.most_common():
        session.screen.data(f"  {count(runs, 'run')} not replayed: {reason}")
    if not sums.total:
        session.screen.say("no run of these machines is recorded here")
