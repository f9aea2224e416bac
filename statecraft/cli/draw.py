"""`statecraft diagram`: a machine as a picture, or a run's way through it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from statecraft.cli.driving import reading, run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import short_path
from statecraft.cli.target import load_target
from statecraft.cli.verb import Session, Verb
from statecraft.errors import ConfigError

if TYPE_CHECKING:
    from statecraft.diagram import Format, Overlay
    from statecraft.runtime import Runtime

TEXTS = ("dot", "mermaid")
PICTURES = ("svg", "png", "pdf")
SUFFIXES = {".mmd": "mermaid", ".gv": "dot", ".dot": "dot", ".svg": "svg", ".png": "png", ".pdf": "pdf"}


@click.command(cls=Verb)
@click.argument("target", required=False)
@click.option("--run", "run", metavar="RUN", help="Draw this run's way over its machine; needs no TARGET.")
@click.option("-f", "--format", "fmt", type=click.Choice([*PICTURES, *TEXTS]), help="Default: what FILE ends in, else mermaid.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Default: stdout.")
@click.pass_obj
def diagram(session: Session, target: str | None, run: str | None, fmt: str | None, output: Path | None) -> Exit:
    """Draw TARGET, or RUN's way through its machine (path, visits, tokens, where it is)."""
    if (target is None) == (run is None):
        raise click.UsageError("give either TARGET or --run RUN")
    form = fmt or SUFFIXES.get(output.suffix.lower() if output else "", "mermaid")
    if output is None and form in PICTURES and sys.stdout.isatty():
        raise click.UsageError(f"a {form} is no text for a terminal: add -o FILE")
    drawn = _of_run(session, run, form) if run else draw(load_target(cast(str, target)).machine.definition.spec, None, form)
    if output is None:
        sys.stdout.buffer.write(drawn)
        return Exit.DONE
    write_whole(output, drawn)
    if session.screen.as_json:
        session.screen.emit({"file": output, "format": form, "bytes": len(drawn)})
    session.screen.say(f"wrote {short_path(output)} ({form}, {len(drawn):,} bytes)")
    return Exit.DONE


def draw(spec: str, over: Overlay | None, form: str) -> bytes:
    """A machine, and perhaps a run on it, in one of the formats. Raises `ConfigError` if no renderer is here."""
    from statecraft.diagram import render, to_dot, to_mermaid

    if form == "mermaid":
        return to_mermaid(spec, over).encode()
    dot = to_dot(spec, over)
    return dot.encode() if form == "dot" else render(dot, cast("Format", form))


async def draw_run(rt: Runtime, run_id: str, form: str) -> bytes:
    """A run's way through its machine."""
    from statecraft.diagram import overlay

    over = overlay(await rt.history(run_id), await rt.calls(run_id), await rt.get(run_id))
    return draw(await rt.spec(run_id), over, form)


def _of_run(session: Session, text: str, form: str) -> bytes:
    drawn: list[bytes] = []

    async def main() -> Exit:
        async with reading(session) as rt:
            drawn.append(await draw_run(rt, (await rt.find(text)).id, form))
        return Exit.DONE

    run_async(main)
    return drawn[0]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: into a neighbour that then takes its name. Raises `ConfigError`."""
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigError(f"cannot write into {path.parent} ({error.strerror}); choose another place with -o") from error
    try:
        with os.fdopen(number, "wb") as out:
            out.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise ConfigError(f"cannot write {path} ({error.strerror}); choose another place with -o") from error
