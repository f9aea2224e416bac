"""Verbs that act on a run: send, resume, cancel."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import click

from statecraft.cli.config import actor
from statecraft.cli.driving import Opened, conclude, last_position, opened, reading, run_async, settle
from statecraft.cli.exits import Exit
from statecraft.cli.fields import Fields, build, read_fields
from statecraft.cli.verb import DrivingVerb, SendingVerb, Session, Verb
from statecraft.cli.verdict import decide_call, decision_for, question_of
from statecraft.errors import IllegalEvent, RunClosed
from statecraft.records import RunRecord

if TYPE_CHECKING:
    from statecraft.cli.driving import Take
    from statecraft.machine.event import Event


@click.command(cls=SendingVerb)
@click.argument("run")
@click.argument("event")
@click.option("--by", metavar="NAME", help="Who acts (default: STATECRAFT_ACTOR, then the OS user).")
@click.option("--review", metavar="ID", help="Which question about a call, if the run asks several.")
@click.option("--detach", is_flag=True, help="Only record the event; do not run on here.")
@click.pass_obj
def send(session: Session, run: str, event: str, by: str | None, review: str | None, detach: bool) -> Exit:
    """Send EVENT to RUN, which waits for one, or a decision about a call; then run on here.

    --input and --set fill the event's fields.
    """
    fields = read_fields(session.inputs)
    return run_async(lambda: send_or_decide(session, run, event, fields, review=review, by=actor(by), detach=detach))


async def send_or_decide(
    session: Session, run: str, event: str, fields: Fields, *, review: str | None, by: str, detach: bool
) -> Exit:
    """Answer what the run asks: a question about a call with a decision, anything else with an event."""
    call = await question_of(session, run, review)
    if call is not None:
        return await decide_call(session, call, decision_for(call, event, fields), by=by, detach=detach)
    return await deliver(session, run, event, fields, by=by, detach=detach)


async def deliver(session: Session, run: str, event: str, fields: Fields, *, by: str, detach: bool) -> Exit:
    """Send one event and, unless detached, stay until the run settles again."""
    take: Take = "none" if detach else "own"
    async with opened(session, run, take) as found:
        message = event_for(found, event, fields)
        after = await last_position(found.rt, found.run.id)
        record = await found.rt.send(found.run.id, message, by=by)
        session.screen.say(f"recorded {event_name(message)} by {by}")
        if detach:
            await conclude(session, found.rt, record)
            return Exit.DONE
        return await settle(session, found.rt, record.id, after)


def event_for(found: Opened, name: str, fields: Fields) -> Event:
    """The event called `name` (or whose class is), with the fields given.

    Raises `RunClosed`, `IllegalEvent` listing what the state takes, or `InvalidPayload`.
    """
    refuse_closed(found.run)
    definition = found.target.machine.definition
    if found.rt.knows(found.run):
        where, names = f"state {found.run.state}", definition.enabled(found.run.state)
    else:  # Which review a migration leads it to, if any, is looked at when the event is sent.
        reviews = [state.events for state in definition.states.values() if state.kind == "review"]
        where, names = f"{definition.name} version {definition.version}", tuple(dict.fromkeys(chain.from_iterable(reviews)))
    taken = {key: definition.events[key] for key in names}
    for key, model in taken.items():
        if name in (key, model.__name__):
            return build(model, fields, f"event {key}")
    listed = ", ".join(taken) or "none"
    raise IllegalEvent(f"{where} takes no event {name!r}; it takes {listed}")


def refuse_closed(run: RunRecord) -> None:
    """Say that a run has ended before anything else is complained about. Raises `RunClosed`."""
    if run.status.closed:
        raise RunClosed(f"run {run.id} has ended ({run.status} in {run.state}); it takes nothing any more")


def event_name(event: Event) -> str:
    """An event's name in the machine."""
    from statecraft.machine.event import event_name as name_of

    return name_of(type(event))


@click.command(cls=DrivingVerb)
@click.argument("run")
@click.option("--force", is_flag=True, help="Take it over although its holder seems alive.")
@click.pass_obj
def resume(session: Session, run: str, force: bool) -> Exit:
    """Go on with RUN from its last durable point.

    A run whose owner is dead is taken over at once: finished calls answer from the journal, none runs twice.
    """

    async def main() -> Exit:
        async with opened(session, run, "own") as found:
            after = await last_position(found.rt, found.run.id)
            record = await found.rt.resume(found.run.id, force=force)
            return await settle(session, found.rt, record.id, after)

    return run_async(main)


@click.command(cls=Verb)
@click.argument("run")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the run.")
@click.option("--by", metavar="NAME", help="Who acts (default: STATECRAFT_ACTOR, then the OS user).")
@click.pass_obj
def cancel(session: Session, run: str, reason: str, by: str | None) -> Exit:
    """End RUN by request. Its holder's next write is refused."""

    async def main() -> Exit:
        async with reading(session) as rt:
            record = await rt.cancel((await rt.find(run)).id, by=actor(by), reason=reason)
            if session.screen.as_json:
                session.screen.emit({"run": record})
            session.screen.say(f"cancelled {record.id} in {record.state}")
            return Exit.DONE

    return run_async(main)
