"""Verbs that look at many runs or at a run while it goes: runs, watch."""

from __future__ import annotations

from typing import Any

import click

from statecraft.cli.driving import reading, run_async, standing
from statecraft.cli.exits import Exit, exit_of_run
from statecraft.cli.moves import line_of
from statecraft.cli.screen import clip, paint, seconds_of, table
from statecraft.cli.span import Span
from statecraft.cli.verb import LIMIT, Session, Verb
from statecraft.clock import SystemClock, instant
from statecraft.errors import WaitTimeout
from statecraft.records import FeedEntry, RunFilter, RunRecord, Status


@click.command(cls=Verb)
@click.option("--status", type=click.Choice([str(status) for status in Status]), help="Only runs of this status.")
@click.option("--state", metavar="NAME", help="Only runs that stand in this state.")
@click.option("--machine", metavar="NAME", help="Only runs of this machine.")
@click.option("--key", metavar="TEXT", help="Only the run with this start key.")
@click.option("--queue", metavar="NAME", help="Only runs of this queue.")
@click.option("--parent", metavar="RUN", help="Only the child runs of this run.")
@click.option("--limit", type=LIMIT, default=20, show_default=True, help="At most this many, newest first.")
@click.pass_obj
def runs(session: Session, /, limit: int, status: str | None, parent: str | None, **only: Any) -> Exit:
    """List runs, newest first."""

    async def main() -> Exit:
        async with reading(session) as rt:
            above = None if parent is None else (await rt.find(parent)).id
            which = RunFilter(Status(status) if status else None, limit=limit, parent=above, **only)
            found = await rt.runs(which)
        if session.screen.as_json:
            session.screen.emit({"runs": found})
            return Exit.DONE
        for line in _rows(session, found):
            session.screen.data(line)
        if not found:
            session.screen.say("no runs")
        elif len(found) == limit:
            session.screen.say(f"the newest {limit} are shown; more with --limit")
        return Exit.DONE

    return run_async(main)


def _rows(session: Session, found: list[RunRecord]) -> list[str]:
    now = instant(SystemClock().now())
    when = session.screen.when
    rows = [
        (
            run.id,
            run.machine,
            paint(run.status),
            run.state,
            str(run.seq),
            when(run.created_at, now),
            when(run.updated_at, now),
            _why(run),
        )
        for run in found
    ]
    head = ("RUN", "MACHINE", "STATUS", "STATE", "MOVES", "STARTED", "CHANGED", "WHY")
    return table(rows, head=head, right=frozenset({4}))


def _why(run: RunRecord) -> str:
    return clip(run.reason or (f"waits for {run.waiting_for}" if run.waiting_for else ""), 60)


@click.command(cls=Verb)
@click.argument("run")
@click.option("--timeout", type=Span(), metavar="T", help="Watch at most so long, such as 90s; the run goes on.")
@click.pass_obj
def watch(session: Session, run: str) -> Exit:
    """Follow RUN until it ends or waits for a person; the exit code is where it stands then."""
    timeout = session.drive.timeout
    seen: list[FeedEntry] = []

    async def main() -> Exit:
        async with reading(session) as rt:
            found = await rt.find(run)
            try:
                async with SystemClock().timeout(None if timeout is None else timeout.total_seconds()):
                    async for entry in rt.follow(found.id):
                        seen.append(entry)
                        line = line_of(entry)
                        if line and not session.screen.as_json:
                            session.screen.data(line)
            except TimeoutError as error:
                raise WaitTimeout(f"run {found.id} has not settled after {seconds_of(timeout)}; it goes on") from error
            found = await rt.get(found.id)
            if session.screen.as_json:
                session.screen.emit({"run": found, "entries": seen})
            for line in standing(session, found, found.reason or ""):
                session.screen.say(line)
            return exit_of_run(found, await rt.history(found.id))

    return run_async(main)
