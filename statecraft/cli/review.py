"""`statecraft review`: what waits for a person, and their decision."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import click

from statecraft.cli.act import deliver, refuse_closed
from statecraft.cli.config import actor
from statecraft.cli.driving import reading, run_async
from statecraft.cli.exits import Exit
from statecraft.cli.fields import Fields, read_fields
from statecraft.cli.screen import clip, dim, strong, table, wrap
from statecraft.cli.verb import SendingVerb, Session, Verb, VerbGroup
from statecraft.clock import SystemClock, instant
from statecraft.errors import ConfigError, IllegalEvent, NotWaiting
from statecraft.records import Json, ReviewRecord

NOTE_FIELDS = ("reason", "note", "feedback", "instructions", "comment")
"""Field names that `--reason` and `--note` fill, whichever the event has."""


@click.group(cls=VerbGroup)
@click.pass_context
def review(ctx: click.Context) -> Exit | None:
    """What waits for a person: list it, show it, decide it."""
    if ctx.invoked_subcommand:
        return None
    return run_async(lambda: _list(ctx.obj))


async def _list(session: Session) -> Exit:
    now = instant(SystemClock().now())
    async with reading(session) as rt:
        found = await rt.reviews(open_only=True)
    if session.screen.as_json:
        session.screen.emit({"reviews": found})
        return Exit.DONE
    when = session.screen.when
    rows = [
        (
            item.run_id,
            item.state,
            when(item.requested_at, now),
            when(item.expires_at, now),
            clip(item.question, 60),
            " | ".join(item.events),
        )
        for item in found
    ]
    for line in table(rows, head=("RUN", "STATE", "ASKED", "EXPIRES", "QUESTION", "DECISIONS")):
        session.screen.data(line)
    session.screen.say(f"look with: {session.command('review show RUN')}" if found else "nobody is asked anything")
    return Exit.DONE


@review.command("show", cls=Verb)
@click.argument("run")
@click.pass_obj
def show_review(session: Session, run: str) -> Exit:
    """What the person is asked about RUN, in full."""

    async def main() -> Exit:
        item = await open_review(session, run)
        if session.screen.as_json:
            session.screen.emit({"review": item})
            return Exit.DONE
        for line in question_lines(item):
            session.screen.data(line)
        for event in item.events:
            session.screen.say(f"decide with: {session.command(f'review decide {item.run_id} {event}')}")
        return Exit.DONE

    return run_async(main)


@review.command(cls=SendingVerb)
@click.argument("run")
@click.option("--note", metavar="TEXT", help="Why, or a remark; fills the event's note or reason.")
@click.option("--by", metavar="NAME", help="Who decides (default: STATECRAFT_ACTOR, then the OS user).")
@click.option("--detach", is_flag=True, help="Only record the decision; do not run on here.")
@click.pass_obj
def approve(session: Session, run: str, note: str | None, by: str | None, detach: bool) -> Exit:
    """Decide with the review's event that approves."""
    return _decide(session, run, "approve", by=by, note=note, detach=detach)


@review.command(cls=SendingVerb)
@click.argument("run")
@click.option("--reason", "note", metavar="TEXT", help="Why; fills the event's reason or note.")
@click.option("--by", metavar="NAME", help="Who decides (default: STATECRAFT_ACTOR, then the OS user).")
@click.option("--detach", is_flag=True, help="Only record the decision; do not run on here.")
@click.pass_obj
def reject(session: Session, run: str, note: str | None, by: str | None, detach: bool) -> Exit:
    """Decide with the review's event that rejects."""
    return _decide(session, run, "reject", by=by, note=note, detach=detach)


@review.command(cls=SendingVerb)
@click.argument("run")
@click.option("--note", metavar="TEXT", help="What to change, or a remark; fills the event's note or feedback.")
@click.option("--by", metavar="NAME", help="Who decides (default: STATECRAFT_ACTOR, then the OS user).")
@click.option("--detach", is_flag=True, help="Only record the decision; do not run on here.")
@click.pass_obj
def modify(session: Session, run: str, note: str | None, by: str | None, detach: bool) -> Exit:
    """Decide with the review's event that modifies; --set gives the changes."""
    return _decide(session, run, "modif", by=by, note=note, detach=detach)


@review.command(cls=SendingVerb)
@click.argument("run")
@click.argument("event")
@click.option("--by", metavar="NAME", help="Who decides (default: STATECRAFT_ACTOR, then the OS user).")
@click.option("--detach", is_flag=True, help="Only record the decision; do not run on here.")
@click.pass_obj
def decide(session: Session, run: str, event: str, by: str | None, detach: bool) -> Exit:
    """Decide with EVENT; --input and --set fill its fields."""
    fields = read_fields(session.inputs)

    async def main() -> Exit:
        item = await open_review(session, run)
        return await deliver(session, item.run_id, event, fields, by=actor(by), detach=detach)

    return run_async(main)


def _decide(session: Session, run: str, verb: str, *, by: str | None, note: str | None, detach: bool) -> Exit:
    given = read_fields(session.inputs)

    async def main() -> Exit:
        item = await open_review(session, run)
        event = event_like(item, verb)
        fields = with_note(given, note, await _fields_of(session, item, event))
        return await deliver(session, item.run_id, event, fields, by=actor(by), detach=detach)

    return run_async(main)


def event_like(item: ReviewRecord, verb: str) -> str:
    """The one event of a review whose name begins like the verb. Raises `IllegalEvent` listing the review's events."""
    found = [event for event in item.events if event.startswith(verb)]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} events begin with {verb!r}" if found else f"no event begins with {verb!r}"
    listed = ", ".join(item.events)
    raise IllegalEvent(f"{problem} in the review of {item.state}; `statecraft review decide` takes one of: {listed}")


def with_note(given: Fields, note: str | None, known: Mapping[str, Json]) -> Fields:
    """The fields with `--note` or `--reason` put where the event keeps such a text. Raises `ConfigError` if nowhere."""
    if note is None:
        return given
    for name in NOTE_FIELDS:
        if name in known and name not in given.values:
            return Fields({**given.values, name: note}, {**given.raw, name: note})
    raise ConfigError(f"the event has no field for a note; its fields are: {', '.join(known) or 'none'}")


async def open_review(session: Session, text: str) -> ReviewRecord:
    """The open review of RUN. Raises `RunClosed` or `NotWaiting` if nothing is asked."""
    async with reading(session) as rt:
        run = await rt.find(text)
        found = await rt.reviews(run.id, open_only=True)
    refuse_closed(run)
    if not found:
        raise NotWaiting(f"run {run.id} waits for no decision: it is {run.status} in {run.state}")
    return found[-1]


async def _fields_of(session: Session, item: ReviewRecord, event: str) -> Mapping[str, Json]:
    """The fields of an event, from the definition that the run was started with."""
    async with reading(session) as rt:
        spec = json.loads(await rt.spec(item.run_id))
    properties: Mapping[str, Json] = spec["events"].get(event, {}).get("properties", {})
    return properties


def question_lines(item: ReviewRecord, *, without: Collection[str] = ()) -> list[str]:
    """A review as people read it: the question, then what is shown with it, but for the fields left out."""
    lines = [strong(item.question)]
    shown = item.show if isinstance(item.show, dict) else {"": item.show} if item.show is not None else {}
    for name, value in shown.items():
        if name not in without:
            lines += ["", dim(str(name))] if name else [""]
            lines += [f"  {line}" for line in wrap(shown_lines(value))]
    return [*lines, "", f"{dim('decide')}  {' | '.join(item.events)}"]


def _item(item: Json) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{name}: {' '.join(str(value).split())}" for name, value in item.items())
    return " ".join(str(item).split())


def shown_lines(value: Json) -> list[str]:
    """Any JSON value as readable lines: texts as they are, lists item by item, the rest as indented JSON."""
    if isinstance(value, str):
        return value.splitlines() or [""]
    if isinstance(value, (int, float)):
        return [str(value)]
    if isinstance(value, list):
        return [f"- {_item(item)}" for item in value] or [dim("none")]
    return json.dumps(value, indent=2, ensure_ascii=False).splitlines()
