"""`statecraft explain`: why a run went where it went, and why it stands where it stands."""

from __future__ import annotations

import shutil
import textwrap

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
        columns = shutil.get_terminal_size().columns if session.screen.to_terminal else 0
        for line in str(found).splitlines():
            session.screen.data("\n".join(map(_painted, _broken(line, columns))))
        return Exit.DONE

    return run_async(main)


def _broken(line: str, columns: int) -> list[str]:
    """A line that is wider than the terminal, broken under its text and not under its label; whole where there is no terminal."""
    if len(line) <= max(columns, 40) or not columns:
        return [line]
    hang = " " * (12 if line[:1] == " " else 0)
    return textwrap.wrap(
        line, max(columns, 40), subsequent_indent=hang, drop_whitespace=True, break_long_words=False, break_on_hyphens=False
    )


def _painted(line: str) -> str:
    """A heading stands out; the label in front of a line does not."""
    if line[:1] != " ":
        return strong(line)
    label = line[2:12]
    return f"  {dim(label)}{line[12:]}" if label[:1] != " " and label.endswith(" ") else line
