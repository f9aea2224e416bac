"""`statecraft fork`: a new run that shares the history of another up to a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from statecraft.cli.config import actor
from statecraft.cli.driving import Opened, conclude, last_position, opened, run_async, settle
from statecraft.cli.exits import Exit
from statecraft.cli.fields import Fields, build, read_fields
from statecraft.cli.verb import SendingVerb, Session
from statecraft.errors import ConfigError

if TYPE_CHECKING:
    from statecraft.machine.data import Data


@click.command(cls=SendingVerb)
@click.argument("run")
@click.option("--at", type=click.IntRange(0), metavar="STEP", help="Share the history up to this step.")
@click.option("--rewind", metavar="STATE", help="The same, at the step that entered STATE the last time.")
@click.option("--key", metavar="TEXT", help="Idempotency key: the same key gives the same fork.")
@click.option("--by", metavar="NAME", help="Who acts (default: STATECRAFT_ACTOR, then the OS user).")
@click.option("--note", metavar="TEXT", default="", help="Why; it is kept with the fork.")
@click.option("--detach", is_flag=True, help="Only record the fork; do not run on here.")
@click.pass_obj
def fork(session: Session, /, run: str, at: int | None, rewind: str | None, detach: bool, **given: Any) -> Exit:
    """Fork RUN at a step; print the fork's id on stdout.

    The fork begins the visit after that step anew and runs on here. --input and --set change its data. RUN stays as it is.
    """
    if (at is None) == (rewind is None):
        raise ConfigError("say where: either --at STEP or --rewind STATE")
    fields = read_fields(session.inputs)
    given["by"] = actor(given["by"])

    async def main() -> Exit:
        async with opened(session, run, "none" if detach else "own") as found:
            step = await found.rt.last_visit(found.run.id, rewind) if rewind is not None else at or 0
            data = await _data(found, step, fields) if fields.values else None
            made = await found.rt.fork(found.run.id, at=step, data=data, detach=detach, **given)
            if not session.screen.as_json:
                session.screen.data(made.id)
            session.screen.say(f"forked from {found.run.id} at step {step}")
            if detach:
                await conclude(session, found.rt, made)
                session.screen.say(f"look with: {session.command(f'show {made.id}')}")
                return Exit.DONE
            code = await settle(session, found.rt, made.id, await last_position(found.rt, made.id))
            session.screen.say(f"compare with: {session.command(f'diff {found.run.id} {made.id}')}")
            return code

    return run_async(main)


async def _data(found: Opened, step: int, fields: Fields) -> Data:
    """The data after the step with the fields given in place. Raises `InvalidPayload`."""
    past = await found.rt.at(found.run.id, step)
    before = past.raw if past.data is not None else {}
    kind = found.target.machine.definition.data_type
    return build(kind, Fields({**before, **fields.values}, fields.raw), "the changed data")
