"""`statecraft review`: what waits for a person, and their decision."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

from statecraft.cli.act import deliver, refuse_closed, send_or_decide
from statecraft.cli.config import actor
from statecraft.cli.driving import reading, run_async
from statecraft.cli.exits import Exit
from statecraft.cli.fields import Fields, json_or_text, read_fields
from statecraft.cli.question import choices, headline, question_lines
from statecraft.cli.screen import clip, table
from statecraft.cli.verb import SendingVerb, Session, Verb, VerbGroup
from statecraft.cli.verdict import decide_call, decision_for, question_of
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
            item.id,
            item.state,
            when(item.requested_at, now),
            when(item.expires_at, now),
            clip(headline(item), 60),
            " | ".join(choices(item)),
        )
        for item in found
    ]
    for line in table(rows, head=("RUN", "REVIEW", "STATE", "ASKED", "EXPIRES", "QUESTION", "DECISIONS")):
        session.screen.data(line)
    session.screen.say(f"look with: {session.command('review show RUN')}" if found else "nobody is asked anything")
    return Exit.DONE


@review.command("list", cls=Verb)
@click.pass_obj
def list_reviews(session: Session) -> Exit:
    """List what waits for a person, all runs together."""
    return run_async(lambda: _list(session))


@review.command("show", cls=Verb)
@click.argument("run")
@click.option("--review", metavar="ID", help="Which question, if the run asks several.")
@click.pass_obj
def show_review(session: Session, run: str, review: str | None) -> Exit:
    """What the person is asked about RUN, in full."""

    async def main() -> Exit:
        item = await question_of(session, run, review) or await open_review(session, run)
        if session.screen.as_json:
            session.screen.emit({"review": item})
            return Exit.DONE
        for line in question_lines(item):
            session.screen.data(line)
        which = f" --review {item.id}" if item.kind != "state" else ""
        for choice in choices(item):
            verb = f"review decide {item.run_id} {choice}" if item.kind == "state" else f"review {choice} {item.run_id}{which}"
            session.screen.say(f"decide with: {session.command(verb)}")
        return Exit.DONE

    return run_async(main)


def _deciding(command: Callable[..., Exit]) -> Callable[..., Exit]:
    """The options of every decision."""
    for option in (
        click.option("--detach", is_flag=True, help="Only record the decision; do not run on here."),
        click.option("--by", metavar="NAME", help="Who decides (default: STATECRAFT_ACTOR, then the OS user)."),
        click.option("--review", metavar="ID", help="Which question about a call, if the run asks several."),
    ):
        command = option(command)
    return command


@review.command(cls=SendingVerb)
@click.argument("run")
@click.option("--note", metavar="TEXT", help="Why, or a remark; fills the event's note or reason.")
@_deciding
@click.pass_obj
def approve(session: Session, /, run: str, note: str | None, **how: Any) -> Exit:
    """Let the call be made, or decide with the review's event that approves."""
    return _decide(session, run, "approve", note, how)


@review.command(cls=SendingVerb)
@click.argument("run")
@click.option("--reason", "note", metavar="TEXT", help="Why; fills the event's reason or note.")
@_deciding
@click.pass_obj
def reject(session: Session, /, run: str, note: str | None, **how: Any) -> Exit:
    """Refuse the call, or decide with the review's event that rejects."""
    return _decide(session, run, "reject", note, how)


@review.command(cls=SendingVerb)
@click.argument("run")
@click.option("--note", metavar="TEXT", help="What to change, or a remark; fills the event's note or feedback.")
@click.option("--approve", "approved", is_flag=True, help="Approve the changed call too: nobody is asked again.")
@_deciding
@click.pass_obj
def modify(session: Session, /, run: str, note: str | None, approved: bool, **how: Any) -> Exit:
    """Have the call made with other arguments, or decide with the review's event that modifies; --set gives the changes."""
    return _decide(session, run, "modif", note, how, word="modify_and_approve" if approved else "modify")


@review.command(cls=SendingVerb)
@click.argument("run")
@click.option("--result", metavar="JSON", help="What the call gave: JSON, else text.")
@click.option("--note", metavar="TEXT", help="How that is known.")
@_deciding
@click.pass_obj
def happened(session: Session, /, run: str, result: str | None, note: str | None, **how: Any) -> Exit:
    """Say that a call in doubt took effect, and what it gave. It is not made again."""
    given = Fields({}, {}) if result is None else Fields({"result": json_or_text(result)}, {"result": result})
    return _decide(session, run, "happened", note, how, given=given)


@review.command("did-not-happen", cls=SendingVerb)
@click.argument("run")
@click.option("--note", metavar="TEXT", help="How that is known.")
@_deciding
@click.pass_obj
def did_not_happen(session: Session, /, run: str, note: str | None, **how: Any) -> Exit:
    """Say that a call in doubt took no effect. It is made again."""
    return _decide(session, run, "did-not-happen", note, how)


@review.command("give-up", cls=SendingVerb)
@click.argument("run")
@click.option("--reason", "note", metavar="TEXT", help="Why nobody can tell.")
@_deciding
@click.pass_obj
def give_up(session: Session, /, run: str, note: str | None, **how: Any) -> Exit:
    """Leave a call in doubt: it failed, and is not made again."""
    return _decide(session, run, "give-up", note, how)


@review.command(cls=SendingVerb)
@click.argument("run")
@click.argument("event")
@_deciding
@click.pass_obj
def decide(session: Session, /, run: str, event: str, **how: Any) -> Exit:
    """Decide with EVENT; --input and --set fill its fields."""
    fields = read_fields(session.inputs)
    return run_async(lambda: send_or_decide(session, run, event, fields, review=how["review"], **_who(how)))


def _decide(
    session: Session,
    run: str,
    verb: str,
    note: str | None,
    how: Mapping[str, Any],
    *,
    word: str = "",
    given: Fields | None = None,
) -> Exit:
    fields = read_fields(session.inputs) if given is None else given

    async def main() -> Exit:
        call = await question_of(session, run, how["review"])
        if call is not None:
            return await decide_call(session, call, decision_for(call, word or verb, fields, note), **_who(how))
        item = await open_review(session, run)
        event = event_like(item, verb)
        if word == "modify_and_approve":
            raise ConfigError("--approve is for the arguments of a call; this review takes an event: leave it out")
        filled = with_note(fields, note, await _fields_of(session, item, event))
        return await deliver(session, item.run_id, event, filled, **_who(how))

    return run_async(main)


def _who(how: Mapping[str, Any]) -> dict[str, Any]:
    return {"by": actor(how["by"]), "detach": how["detach"]}


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
