"""`statecraft start`: a new run, in the foreground until it ends or waits for a person."""

from __future__ import annotations

from typing import Any

import click

from statecraft.cli.driving import conclude, run_async, settle, working
from statecraft.cli.exits import Exit
from statecraft.cli.fields import build, read_fields
from statecraft.cli.span import Span, When
from statecraft.cli.target import load_target
from statecraft.cli.verb import SendingVerb, Session


@click.command(cls=SendingVerb)
@click.argument("target")
@click.option("--key", metavar="TEXT", help="Idempotency key: the same key gives the same run.")
@click.option("--tenant", metavar="NAME", help="On whose behalf it runs, and so whose budgets it draws on.")
@click.option("--detach", is_flag=True, help="Only record the run; `statecraft worker` or `statecraft resume` runs it.")
@click.option("--queue", metavar="NAME", default="default", show_default=True, help="Where it waits for a worker.")
@click.option("--priority", type=int, metavar="N", default=0, show_default=True, help="Higher goes first within its queue.")
@click.option("--at", type=When(), metavar="INSTANT", help="Begin then (ISO 8601; UTC without an offset).")
@click.option("--in", "delay", type=Span(), metavar="T", help="Begin after this time: 90s, 2h, 3d.")
@click.pass_obj
def start(session: Session, /, target: str, detach: bool, **given: Any) -> Exit:
    """Start a run of TARGET; print its id on stdout.

    It runs here until it ends or waits for a person; its moves appear on stderr. The exit code is the outcome.
    """
    found = load_target(target)
    data = build(found.machine.definition.data_type, read_fields(session.inputs), "the input")

    async def main() -> Exit:
        async with working(session, found, "none" if detach else "own") as rt:
            run = await rt.start(found.machine, data, detach=detach, **given)
            if not session.screen.as_json:
                session.screen.data(run.id)
            if detach:
                await conclude(session, rt, run)
                return Exit.DONE
            return await settle(session, rt, run.id)

    return run_async(main)
