"""The verb that shows how the fleet is: stats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from statecraft.cli.alarms import alarms, each_of, gap_of
from statecraft.cli.driving import run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import ago, clip, count, dim, strong, table
from statecraft.cli.span import Span
from statecraft.cli.target import load_target, settings_for
from statecraft.cli.verb import Session, Verb, must_exist
from statecraft.clock import SystemClock

if TYPE_CHECKING:
    from statecraft.engine.settings import Settings
    from statecraft.stats import Stats

_MOST_PLACES = 15
_MOST_STOPPED = 5


class Pause(Span):
    """A length of time that is not nothing: a screen that never rests shows no more."""

    name = "pause"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        pause = super().convert(value, param, ctx)
        if not pause:
            self.fail(f"{value!r} is no pause; write it like 5s or 2min", param, ctx)
        return pause


@click.command(cls=Verb)
@click.option("--prometheus", is_flag=True, help="Prometheus' text format instead, for a scraper.")
@click.option("--watch", type=Pause(), metavar="PAUSE", help="Show it again every PAUSE, such as 5s, until Ctrl-C.")
@click.option("-m", "--machine", "target", metavar="TARGET", help="Show tenants' budgets by the settings of this machine.")
@click.pass_obj
def stats(session: Session, /, prometheus: bool, watch: timedelta | None, target: str | None) -> Exit:
    """Show queues, workers, reviews, dead letters and what is late, in one look."""
    from statecraft.engine.settings import Settings
    from statecraft.runtime import Runtime

    database = session.database
    must_exist(database)
    settings: Settings = settings_for(load_target(target)) if target else Settings()

    async def main() -> Exit:
        async with Runtime(database.url, settings=replace(settings, take="none"), migrate=database.migrate) as rt:
            while True:
                _show(session, await rt.stats(), prometheus, again=watch is not None)
                if watch is None:
                    return Exit.DONE
                await SystemClock().sleep(watch.total_seconds())

    return run_async(main)


def _show(session: Session, found: Stats, prometheus: bool, *, again: bool) -> None:
    screen = session.screen
    if prometheus:
        screen.data(found.exposition().removesuffix("\n"))
    elif screen.as_json:
        screen.emit({"stats": found})
    else:
        if again and screen.to_terminal:
            click.clear()
        for line in lines_of(found):
            screen.data(line)


def lines_of(found: Stats) -> list[str]:
    """The figures as lines for people: what may need one first."""
    blocks = (alarms(found), _totals(found), _queues(found), _places(found), _workers(found), _limits(found))
    lines = [line for block in blocks if block for line in ("", *block)]
    return lines[1:]


def _totals(found: Stats) -> list[str]:
    runs = ", ".join(f"{number:,} {status}" for status, number in found.runs.items())
    rows = [("open runs", runs), ("parked", each_of(found.waiting_for.items()))]
    if found.reviews:
        rows.append(("reviews", f"{count(found.reviews, 'run')} with a person, the first for {gap_of(found.review_oldest)}"))
    pace = ", ".join(f"{each.moves:.1f} in {gap_of(each.window)}" for each in found.pace)
    rows += [
        ("moves/s", pace),
        ("ended/s", ", ".join(f"{each.ended:.1f} in {gap_of(each.window)}" for each in found.pace)),
        ("leases", f"{count(found.taken_over, 'run')} taken over, {count(found.refused, 'write')} refused so far"),
        ("schedules", f"{found.schedules}, next {_at(found.schedule_next, found.at)}" if found.schedules else ""),
        ("outbox", each_of((each.channel, each.deliveries) for each in found.outbox)),
    ]
    return table((strong(name), text) for name, text in rows if text)


def _queues(found: Stats) -> list[str]:
    rows = [
        (
            each.queue,
            f"{each.depth:,}",
            gap_of(each.oldest) if each.depth else "",
            f"{each.delayed:,}",
            _at(each.next_due, found.at),
        )
        for each in found.queues
    ]
    return table(rows, head=("QUEUE", "DUE", "OLDEST", "LATER", "NEXT"), right=frozenset({1, 3}))


def _places(found: Stats) -> list[str]:
    rows = [(each.machine, each.state, each.status, f"{each.runs:,}") for each in found.places[:_MOST_PLACES]]
    lines = table(rows, head=("MACHINE", "STATE", "STATUS", "RUNS"), right=frozenset({3}))
    lines += _left(len(found.places) - len(rows))
    if found.sampled:
        lines.append(dim("only a part of the open runs was looked at"))
    return lines


def _workers(found: Stats) -> list[str]:
    # Each deployment leaves its stopped workers for a day; who is alive or lost must not drown in them.
    stopped = [each for each in found.workers if each.state == "stopped"]
    shown = [each for each in found.workers if each.state != "stopped"] + stopped[:_MOST_STOPPED]
    rows = [
        (
            clip(each.owner, 40),
            each.state,
            _at(each.beat_at, found.at),
            f"{each.held}/{each.concurrency}",
            f"{each.moves:,}",
            f"{each.recovered:,}",
            f"{each.fenced:,}",
        )
        for each in shown
    ]
    head = ("WORKER", "STATE", "BEAT", "HOLDS", "MOVES", "TAKEN OVER", "REFUSED")
    return table(rows, head=head, right=frozenset({3, 4, 5, 6})) + _left(len(found.workers) - len(shown), "that stopped")


def _limits(found: Stats) -> list[str]:
    rows: Sequence[Sequence[str]] = [
        (each.tenant, gap_of(each.window), each.unit, f"{each.used:,}", f"{each.limit:,}", f"{each.ratio:.0%}")
        for each in found.budgets[:_MOST_PLACES]
    ]
    lines = table(rows, head=("TENANT", "WINDOW", "UNIT", "USED", "LIMIT", "SHARE"), right=frozenset({3, 4, 5}))
    return lines + _left(len(found.budgets) - len(rows))


def _left(many: int, which: str = "") -> list[str]:
    """What a table leaves out."""
    return [dim(f"and {many:,} more {which}".strip() + "; --json has all")] if many > 0 else []


def _at(at: datetime | None, now: datetime) -> str:
    if at is None:
        return ""
    gap = (at - now).total_seconds()
    return f"in {ago(gap)}" if gap >= 0 else f"{ago(-gap)} ago"
