"""`statecraft schedule`: what starts runs by the calendar."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from statecraft.cli.driving import reading, run_async, working
from statecraft.cli.exits import Exit
from statecraft.cli.fields import build, read_fields
from statecraft.cli.screen import iso, table
from statecraft.cli.target import load_target
from statecraft.cli.verb import Session, Verb, VerbGroup
from statecraft.clock import SystemClock, instant
from statecraft.errors import ConfigError
from statecraft.records import ScheduleRecord

if TYPE_CHECKING:
    from statecraft.schedules.rule import Rule

_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


class InputVerb(Verb):
    """A verb that is given fields, and runs no machine."""

    takes_input = True


@click.group(cls=VerbGroup)
@click.pass_context
def schedule(ctx: click.Context) -> Exit | None:
    """What starts runs by the calendar: list it, add to it, pause it."""
    if ctx.invoked_subcommand:
        return None
    return _list(ctx.obj)


@schedule.command("list", cls=Verb)
@click.pass_obj
def list_schedules(session: Session) -> Exit:
    """All schedules, with their next instants."""
    return _list(session)


def _list(session: Session) -> Exit:
    async def main() -> Exit:
        async with reading(session) as rt:
            found = await rt.schedules()
        if session.screen.as_json:
            session.screen.emit({"schedules": found})
            return Exit.DONE
        now, when = instant(SystemClock().now()), session.screen.when
        rows = [
            (each.name, each.machine, _rule(each), _next(each, now, session), when(each.last_at, now), each.queue)
            for each in found
        ]
        for line in table(rows, head=("NAME", "MACHINE", "RULE", "NEXT", "LAST", "QUEUE")):
            session.screen.data(line)
        if not found:
            session.screen.say("no schedules")
        return Exit.DONE

    return run_async(main)


def _rule(found: ScheduleRecord) -> str:
    from statecraft.schedules.rule import described

    return described(found.rule)


def _next(found: ScheduleRecord, now: datetime, session: Session) -> str:
    if found.next_at is None:
        return "paused"
    late = " (nobody fires it)" if now - found.next_at > timedelta(minutes=1) else ""
    return session.screen.when(found.next_at, now) + late


@schedule.command("show", cls=Verb)
@click.argument("name")
@click.pass_obj
def show_schedule(session: Session, name: str) -> Exit:
    """One schedule in full: its rule, what its runs are started with, how far it is."""

    async def main() -> Exit:
        async with reading(session) as rt:
            _told(session, await rt.get_schedule(name))
        return Exit.DONE

    return run_async(main)


def _told(session: Session, found: ScheduleRecord) -> None:
    if session.screen.as_json:
        session.screen.emit({"schedule": found})
        return
    now, when = instant(SystemClock().now()), session.screen.when
    facts = {
        "name": found.name,
        "machine": found.machine,
        "rule": _rule(found),
        "next": _next(found, now, session),
        "last": when(found.last_at, now),
        "missed": found.missed,
        "overlap": found.overlap,
        "queue": found.queue,
        "priority": str(found.priority),
        "tenant": found.tenant or "",
        "input": json.dumps(found.input, ensure_ascii=False),
        "changed": when(found.updated_at, now),
    }
    for line in table([(name, value) for name, value in facts.items() if value]):
        session.screen.data(line)


@schedule.command("add", cls=InputVerb)
@click.argument("name")
@click.argument("target")
@click.option("--cron", metavar="TEXT", help="Five fields: minute, hour, day of month, month, day of week.")
@click.option("--zone", metavar="ZONE", help="IANA time zone of --cron (default: UTC).")
@click.option("--every", metavar="TIME", help="An interval such as 90s, 15m, 1h, 2d or 1h30m.")
@click.option("--anchor", metavar="TIME", help="ISO 8601 instant from which --every counts (default: 1970, UTC).")
@click.option("--queue", metavar="NAME", default="default", show_default=True, help="Where its runs wait for a worker.")
@click.option("--priority", type=int, default=0, show_default=True, help="Of its runs; higher goes first.")
@click.option("--tenant", metavar="NAME", help="On whose behalf its runs are started.")
@click.option(
    "--missed", type=click.Choice(["latest", "all", "skip"]), default="latest", show_default=True, help="What to make up for."
)
@click.option(
    "--overlap", type=click.Choice(["allow", "skip"]), default="allow", show_default=True, help="While its last run is open."
)
@click.pass_obj
def add_schedule(session: Session, /, name: str, target: str, **how: Any) -> Exit:
    """Start a run of TARGET with these fields at each instant of a rule; replaces the schedule of that name."""
    found = load_target(target)
    data = build(found.machine.definition.data_type, read_fields(session.inputs), "the input")
    rule = _rule_of(how.pop("cron"), how.pop("zone"), how.pop("every"), how.pop("anchor"))

    async def main() -> Exit:
        async with working(session, found, "none") as rt:
            put = await rt.schedule(name, found.machine, data, rule, **how)
        _told(session, put)
        session.screen.say(f"{put.outcome}: schedule {name}; workers that have {put.machine} fire it")
        return Exit.DONE

    return run_async(main)


def _rule_of(cron: str | None, zone: str | None, every: str | None, anchor: str | None) -> Rule:
    from statecraft.schedules.rule import Cron, Every

    if (cron is None) == (every is None):
        raise ConfigError("a schedule has one rule: give --cron or --every")
    if cron is not None:
        if anchor is not None:
            raise ConfigError("--anchor goes with --every; --cron takes --zone")
        return Cron(cron, zone or "UTC")
    if zone is not None:
        raise ConfigError("--zone goes with --cron; --every takes --anchor")
    interval = _interval(every or "")
    if anchor is None:
        return Every(interval)
    try:
        return Every(interval, datetime.fromisoformat(anchor))
    except ValueError:
        raise ConfigError(f"--anchor {anchor!r} is not an ISO 8601 instant such as 2026-01-01T09:00:00Z") from None


def _interval(text: str) -> timedelta:
    """`1h30m` and its like. Raises `ConfigError`."""
    if not re.fullmatch(r"(\d{1,9}(s|min|m|h|d))+", text):
        raise ConfigError(f"--every {text!r} is not an interval such as 90s, 15m, 1h, 2d or 1h30m")
    parts = re.findall(r"(\d+)(s|min|m|h|d)", text)
    try:
        return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta(0))
    except OverflowError:
        raise ConfigError(f"--every {text!r} is too long") from None


@schedule.command("pause", cls=Verb)
@click.argument("name")
@click.pass_obj
def pause_schedule(session: Session, name: str) -> Exit:
    """Let it fire no more until it is resumed."""
    return _change(session, name, "pause_schedule")


@schedule.command("resume", cls=Verb)
@click.argument("name")
@click.pass_obj
def resume_schedule(session: Session, name: str) -> Exit:
    """Let it fire again, from the next instant on."""
    return _change(session, name, "resume_schedule")


def _change(session: Session, name: str, verb: str) -> Exit:
    async def main() -> Exit:
        async with reading(session) as rt:
            _told(session, await getattr(rt, verb)(name))
        return Exit.DONE

    return run_async(main)


@schedule.command("remove", cls=Verb)
@click.argument("name")
@click.pass_obj
def remove_schedule(session: Session, name: str) -> Exit:
    """Take it away; its runs stay and go on."""

    async def main() -> Exit:
        async with reading(session) as rt:
            found = await rt.get_schedule(name)
            await rt.unschedule(name)
        if session.screen.as_json:
            session.screen.emit({"removed": found})
        session.screen.say(f"removed: schedule {name}")
        return Exit.DONE

    return run_async(main)


@schedule.command("next", cls=Verb)
@click.argument("name")
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
@click.pass_obj
def next_instants(session: Session, name: str, count: int) -> Exit:
    """The next instants of its rule, whether it is paused or not."""

    async def main() -> Exit:
        from statecraft.schedules.rule import from_json

        async with reading(session) as rt:
            found = await rt.get_schedule(name)
        rule, at, instants = from_json(found.rule), instant(SystemClock().now()), list[datetime]()
        while len(instants) < count:
            at = rule.next_after(at)
            instants.append(at)
        if session.screen.as_json:
            session.screen.emit({"next": instants})
            return Exit.DONE
        for each in instants:
            session.screen.data(iso(each))
        return Exit.DONE

    return run_async(main)
