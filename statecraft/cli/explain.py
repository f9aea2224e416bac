"""`statecraft explain`: why a run went where it went, and why it stands where it stands."""

from __future__ import annotations

import click

from statecraft.cli.driving import reading, run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import dim, strong
from statecraft.cli.verb import Session, Verb


@click.command(cls=Verb)
@click.argument("run")
@click.option("--step", type=click.IntRange(0), metavar="N", help="One step alone.")
@click.pass_obj
def explain(session: Session, run: str, step: int | None) -> Exit:
    """Why RUN went where it went: who decided each move, and why no other row was taken.

    For a run that waits or is dead also: why it is not moving, and what would move it.
    """

    async def main() -> Exit:
        async with reading(session) as rt:
            found = await rt.explain((await rt.find(run)).id, step)
        if session.screen.as_json:
            session.screen.emit({"explanation": found})
            return Exit.DONE
        for line in str(found).splitlines():
            session.screen.data(_painted(line))
        return Exit.DONE

    return run_async(main)


def _painted(line: str) -> str:
    """A heading stands out; the label in front of a line does not."""
    if line[:1] != " ":
        return strong(line)
    label = line[2:12]
    return f"  {dim(label)}{line[12:]}" if label[:1] != " " and label.endswith(" ") else line
