"""`statecraft dlq`: runs the engine gave up on: list them, see what they have in common, let them go on, give them up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from statecraft.cli.config import actor
from statecraft.cli.driving import last_position, opened, reading, run_async, settle, working
from statecraft.cli.exits import Exit
from statecraft.cli.fields import Fields, build, read_fields
from statecraft.cli.letter import letter_lines, letter_rows, pattern_rows
from statecraft.cli.screen import count, table
from statecraft.cli.span import Span
from statecraft.cli.target import find_machine
from statecraft.cli.verb import LIMIT, SendingVerb, Session, Verb, VerbGroup, one_line
from statecraft.clock import SystemClock, instant
from statecraft.errors import ConfigError, IllegalEvent, NotFound, Refused, StatecraftError
from statecraft.letters import DeadFilter, Redriven

if TYPE_CHECKING:
    from statecraft.machine.definition import Definition
    from statecraft.machine.event import OperatorEvent
    from statecraft.runtime import Runtime

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.group(cls=VerbGroup)
@click.pass_context
def dlq(ctx: click.Context) -> Exit | None:
    """Dead letters: list them, find what they have in common, redrive or drop them."""
    if ctx.invoked_subcommand:
        return None
    return run_async(lambda: _list(ctx.obj, DeadFilter()))


def _filtered(command: Callable[..., Exit]) -> Callable[..., Exit]:
    """The options that choose dead letters."""
    for option in (
        click.option("--since", metavar="WHEN", help="Died since then: 90m, 6h, 2d ago, or an instant in ISO 8601."),
        click.option("--call", metavar="NAME", help="Only where this model, tool or machine failed."),
        click.option("--error", metavar="NAME", help="Only what died of this."),
        click.option("--state", metavar="NAME", help="Only what died in this state."),
    ):
        command = option(command)
    return command


_OF = click.option("--of", "machine", metavar="NAME", help="With --all: only runs of this machine.")
_MACHINE = click.option("--machine", metavar="NAME", help="Only runs of this machine.")


def _filter(only: dict[str, Any], limit: int = 100) -> DeadFilter:
    since = only.pop("since")
    return DeadFilter(**only, since=None if since is None else moment(since, instant(SystemClock().now())), limit=limit)


def moment(text: str, now: datetime) -> datetime:
    """An instant from `6h` (ago) or ISO 8601. Raises `ConfigError`."""
    try:
        if text[:-1].isdigit() and text[-1] in UNITS:
            return now - timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigError(f"{text!r} is no time: give 90m, 6h or 2d for ago, or an instant such as 2026-01-31T08:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dlq.command("list", cls=Verb)
@_MACHINE
@_filtered
@click.option("--limit", type=LIMIT, default=20, show_default=True, help="At most this many, the latest first.")
@click.pass_obj
def list_letters(session: Session, /, limit: int, **only: Any) -> Exit:
    """List dead letters, the latest first."""
    return run_async(lambda: _list(session, _filter(only, limit)))


async def _list(session: Session, which: DeadFilter) -> Exit:
    async with reading(session) as rt:
        found = await rt.dead_letters(which)
    if session.screen.as_json:
        session.screen.emit({"letters": found})
        return Exit.DONE
    for line in letter_rows(session.screen, found):
        session.screen.data(line)
    if not found:
        session.screen.say("no dead letters")
        return Exit.DONE
    if len(found) == which.limit:
        session.screen.say(f"the latest {which.limit} are shown; more with --limit")
    session.screen.say(f"look with: {session.command('dlq show RUN')}; what they share: {session.command('dlq patterns')}")
    return Exit.DONE


@dlq.command(cls=Verb)
@_MACHINE
@_filtered
@click.pass_obj
def patterns(session: Session, /, **only: Any) -> Exit:
    """What dead letters have in common: counted by machine, state, error and call, with the hours of the day."""

    async def main() -> Exit:
        async with reading(session) as rt:
            found = await rt.dead_patterns(_filter(only))
        if session.screen.as_json:
            session.screen.emit({"patterns": found})
            return Exit.DONE
        for line in pattern_rows(session.screen, found):
            session.screen.data(line)
        session.screen.say(f"preview with: {session.command('dlq redrive --all --error ERROR')}" if found else "no dead letters")
        return Exit.DONE

    return run_async(main)


@dlq.command("show", cls=Verb)
@click.argument("run")
@click.pass_obj
def show_letter(session: Session, run: str) -> Exit:
    """What is kept of the last death of RUN, and what it needs."""

    async def main() -> Exit:
        async with reading(session) as rt:
            letter = await rt.dead_letter((await rt.find(run)).id)
        if session.screen.as_json:
            session.screen.emit({"letter": letter})
            return Exit.DONE
        for line in letter_lines(letter):
            session.screen.data(line)
        if letter.open:
            session.screen.say(f"go on with: {session.command(f'dlq redrive {letter.run_id}')}")
            session.screen.say(f"give up with: {session.command(f'dlq drop {letter.run_id} --note WHY')}")
        return Exit.DONE

    return run_async(main)


@dlq.command(cls=SendingVerb)
@click.argument("runs", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that fit the filters; without --yes only a preview.")
@_OF
@_filtered
@click.option("--limit", type=LIMIT, default=100, show_default=True, help="With --all: at most this many.")
@click.option("--yes", is_flag=True, help="With --all: do it.")
@click.option("--event", metavar="NAME", help="An operator's event of the machine; --data, --input and --set fill it.")
@click.option("--data", metavar="JSON", help="The event's fields.")
@click.option("--deadline", type=Span(), metavar="T", help="A new deadline, so long from now, such as 2h.")
@click.option("--steps", type=LIMIT, metavar="N", help="N more steps from here.")
@click.option("--by", metavar="NAME", help="Who acts (default: STATECRAFT_ACTOR, then the OS user).")
@click.option("--note", metavar="TEXT", default="", help="Why; it is kept with the run.")
@click.option("--detach", is_flag=True, help="Only make them ready; do not run on here.")
@click.pass_obj
def redrive(session: Session, /, runs: tuple[str, ...], every: bool, yes: bool, limit: int, **how: Any) -> Exit:
    """Let dead RUNs go on where they died, or by an operator's event."""
    only = {name: how.pop(name) for name in ("machine", "state", "error", "call", "since")}
    fields = _fields(session, how.pop("data"))
    if every == bool(runs):
        raise ConfigError("say which: either RUNs, or --all with filters")
    if not every and (yes or any(value is not None for value in only.values())):
        raise ConfigError("filters and --yes go with --all")
    if every:
        return run_async(lambda: _redrive_all(session, _filter(only, limit), fields, how, yes=yes))
    if len(runs) == 1 and not how["detach"]:
        return run_async(lambda: _redrive_here(session, runs[0], fields, how))
    return run_async(lambda: _redrive_each(session, runs, fields, how))


def _fields(session: Session, data: str | None) -> Fields:
    if data is None:
        return read_fields(session.inputs)
    try:
        values = json.loads(data)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--data is not JSON ({error.msg})") from error
    if not isinstance(values, dict):
        raise ConfigError('--data is a JSON object such as {"note": "paid by hand"}')
    return Fields(values, {})


def _wish(how: dict[str, Any], definition: Definition, fields: Fields) -> dict[str, Any]:
    """The arguments of `Runtime.redrive`."""
    return {
        "by": actor(how["by"]),
        "note": how["note"],
        "event": _event(definition, how["event"], fields),
        "deadline": how["deadline"],
        "steps": how["steps"],
    }


def _event(definition: Definition, name: str | None, fields: Fields) -> OperatorEvent | None:
    from statecraft.machine.event import OperatorEvent

    if name is None:
        if fields.values:
            raise ConfigError("fields go with --event: a run that is tried again takes none")
        return None
    taken = {key: model for key, model in definition.events.items() if issubclass(model, OperatorEvent)}
    for key, model in taken.items():
        if name in (key, model.__name__):
            return build(model, fields, f"event {key}")
    raise IllegalEvent(f"{definition.name} has no operator's event {name!r}; it has {', '.join(taken) or 'none'}")


async def _redrive_here(session: Session, run: str, fields: Fields, how: dict[str, Any]) -> Exit:
    """Redrive one run and stay with it until it settles."""
    async with opened(session, run, "own") as found:
        after = await last_position(found.rt, found.run.id)
        wish = _wish(how, found.target.machine.definition, fields)
        record = await found.rt.redrive(found.run.id, **wish)
        session.screen.say(f"redriven by {wish['by']}")
        return await settle(session, found.rt, record.id, after)


async def _redrive_each(session: Session, runs: Sequence[str], fields: Fields, how: dict[str, Any]) -> Exit:
    """Make several runs ready, each in a write of its own."""
    results: list[Redriven] = []
    for run in runs:
        told = Redriven(run, "", "")
        try:
            async with opened(session, run, "none") as found:
                told = Redriven(found.run.id, found.run.machine, found.run.state)
                await found.rt.redrive(found.run.id, **_wish(how, found.target.machine.definition, fields))
        except StatecraftError as refusal:
            if len(runs) == 1 and not isinstance(refusal, Refused):
                raise
            # What was done to the others is told all the same.
            told = replace(told, refused=one_line(refusal))
        results.append(told)
    return _tell(session, results, done=True)


async def _redrive_all(session: Session, which: DeadFilter, fields: Fields, how: dict[str, Any], *, yes: bool) -> Exit:
    async with reading(session) as rt:
        found = await rt.dead_patterns(which)
    machines = sorted({each.machine for each in found})
    if len(machines) > 1:
        raise ConfigError(f"the dead letters are of several machines ({', '.join(machines)}); choose one with --of NAME")
    if not found:
        raise NotFound("no dead letters fit")
    target = find_machine(machines[0], session)
    async with working(session, target, "none") as rt:
        wish = _wish(how, target.machine.definition, fields)
        redrives = await rt.redrive_all(which, limit=which.limit, dry_run=not yes, **wish)
    if session.screen.as_json:
        session.screen.emit({"redrives": redrives})
        return _exit(redrives.runs)
    for line in pattern_rows(session.screen, redrives.patterns):
        session.screen.data(line)
    session.screen.data()
    exit_code = _tell(session, redrives.runs, done=yes)
    if redrives.matching > len(redrives.runs):
        session.screen.say(f"{redrives.matching} fit, the latest {len(redrives.runs)} were looked at; more with --limit")
    return exit_code


def _tell(session: Session, results: Sequence[Redriven], *, done: bool) -> Exit:
    if session.screen.as_json:
        session.screen.emit({"runs": results})
        return _exit(results)
    word = "redriven" if done else "would be redriven"
    rows = [(each.run_id, each.machine, each.state, word if each.ok else each.refused) for each in results]
    for line in table(rows, head=("RUN", "MACHINE", "STATE", "WHAT")):
        session.screen.data(line)
    well = sum(each.ok for each in results)
    session.screen.say(f"{count(well, 'run')} {word}; {len(results) - well} refused")
    if not done:
        session.screen.say("nothing was done; the same with --yes does it")
    elif well:
        session.screen.say("a worker takes them up")
    return _exit(results)


def _exit(results: Sequence[Redriven]) -> Exit:
    return Exit.DONE if all(each.ok for each in results) else Exit.FAILED


@dlq.command(cls=Verb)
@click.argument("run")
@click.option("--note", required=True, metavar="TEXT", help="Why; it is kept with the run.")
@click.option("--by", metavar="NAME", help="Who acts (default: STATECRAFT_ACTOR, then the OS user).")
@click.pass_obj
def drop(session: Session, run: str, note: str, by: str | None) -> Exit:
    """Give a dead RUN up for good: it ends as cancelled and stays readable."""

    async def main() -> Exit:
        async with reading(session) as rt:
            return await _drop(session, rt, run, actor(by), note)

    return run_async(main)


async def _drop(session: Session, rt: Runtime, run: str, by: str, note: str) -> Exit:
    record = await rt.drop((await rt.find(run)).id, by=by, note=note)
    if session.screen.as_json:
        session.screen.emit({"run": record})
    session.screen.say(f"dropped {record.id}: it is cancelled in {record.state}")
    return Exit.DONE
