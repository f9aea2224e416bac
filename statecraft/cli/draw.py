"""`statecraft diagram`: a machine, a run's way through it, where a fleet's runs are, or what a new version changes."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click

from statecraft.cli.driving import reading, run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import short_path
from statecraft.cli.target import SHIPPED, load_target
from statecraft.cli.verb import Number, Session, Verb
from statecraft.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from statecraft.diagram import Drawing, Format, Step
    from statecraft.runtime import Runtime

TEXTS = ("html", "dot", "mermaid")
PICTURES = ("svg", "png", "pdf")
SUFFIXES = {".mmd": "mermaid", ".gv": "dot", ".htm": "html", **{f".{form}": form for form in (*TEXTS, *PICTURES)}}
BYTES = ("png", "pdf")
PLAIN = ("", ".txt", ".md", ".mermaid")
"""Endings of a file that may hold the default format."""
T = TypeVar("T")
FINGERPRINT = re.compile(r"[0-9a-fA-F]{8,64}")


@click.command(cls=Verb)
@click.argument("target", required=False)
@click.option("--run", "run", metavar="RUN", help="Draw this run's way over its machine; needs no TARGET.")
@click.option("--fleet", is_flag=True, help="Draw where TARGET's runs are now, and which way they went.")
@click.option("--hours", type=Number(0, 1e6, min_open=True), help="With --fleet: count moves of so long (default: 24).")
@click.option("--diff", nargs=2, metavar="OLD NEW", help="Draw what differs: two TARGETs, or fingerprints in the database.")
@click.option("-f", "--format", "fmt", type=click.Choice([*PICTURES, *TEXTS]), help="Default: what FILE ends in, else mermaid.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Default: stdout.")
@click.pass_obj
def diagram(
    session: Session,
    target: str | None,
    run: str | None,
    fleet: bool,
    hours: float | None,
    diff: tuple[str, str] | None,
    fmt: str | None,
    output: Path | None,
) -> Exit:
    """Draw TARGET, a run's way through its machine, where the fleet is, or what a new version changes."""
    if sum(given is not None for given in (target, run, diff)) != 1:
        raise click.UsageError("give either TARGET or --run RUN or --diff OLD NEW")
    if (fleet and target is None) or (hours is not None and not fleet):
        raise click.UsageError("--fleet needs a TARGET" if fleet else "--hours belongs to --fleet")
    form = fmt or format_of(output)
    if output is None and form in PICTURES and sys.stdout.isatty():
        raise click.UsageError(f"a {form} is no text for a terminal: add -o FILE")
    if output is None and form in BYTES and session.screen.as_json:
        raise click.UsageError(f"a {form} is no text for JSON: add -o FILE")
    if run:
        drawn = _read(session, lambda rt: _of_run(rt, run, form))
    elif diff:
        drawn = draw(_of_change(session, *diff), form)
    elif fleet:
        drawn = draw(_of_fleet(session, cast(str, target), timedelta(hours=hours or 24)), form)
    else:
        drawn = draw(_plain(cast(str, target)), form)
    return _put(session, drawn, form, output)


def format_of(output: Path | None) -> str:
    """The format that a file's name asks for. Raises `UsageError` for an ending that means nothing here."""
    suffix = output.suffix.lower() if output else ""
    if suffix not in SUFFIXES and suffix not in PLAIN:
        raise click.UsageError(f"no format is written as {suffix}: name one with -f, or end FILE in {', '.join(SUFFIXES)}")
    return SUFFIXES.get(suffix, "mermaid")


def draw(drawing: Drawing, form: str, steps: tuple[Step, ...] = ()) -> bytes:
    """A drawing in one of the formats; `steps` are what an HTML page replays. Raises `ConfigError` if a renderer is missing."""
    from statecraft.diagram import render, to_dot, to_html, to_mermaid

    if form == "html":
        return to_html(drawing, steps).encode()
    if form == "mermaid":
        return to_mermaid(drawing).encode()
    dot = to_dot(drawing)
    return dot.encode() if form == "dot" else render(dot, cast("Format", form))


async def draw_run(rt: Runtime, run_id: str, form: str) -> bytes:
    """A run's way through its machine."""
    from statecraft.diagram import of_run, overlay, story

    run, history, calls, spec = await rt.get(run_id), await rt.history(run_id), await rt.calls(run_id), await rt.spec(run_id)
    drawing = of_run(spec, overlay(history, calls, run))
    return draw(drawing, form, story(spec, drawing, history, calls) if form == "html" else ())


# --- what is drawn ------------------------------------------------------------------------------------------------------


def _plain(target: str) -> Drawing:
    from statecraft.diagram import plain

    return plain(load_target(target).machine.definition.spec)


async def _of_run(rt: Runtime, text: str, form: str) -> bytes:
    return await draw_run(rt, (await rt.find(text)).id, form)


def _of_fleet(session: Session, target: str, window: timedelta) -> Drawing:
    from statecraft.diagram import of_fleet

    definition = load_target(target).machine.definition
    return of_fleet(definition, _read(session, lambda rt: rt.heat(definition.name, window)))


def _of_change(session: Session, old: str, new: str) -> Drawing:
    from statecraft.diagram import of_change

    return of_change(_spec(session, old), _spec(session, new))


def _spec(session: Session, text: str) -> str:
    """A definition's spec: from the database for a fingerprint, else of a TARGET."""
    if text in SHIPPED or not FINGERPRINT.fullmatch(text):
        return load_target(text).machine.definition.spec
    return _read(session, lambda rt: rt.stored_spec(text))


def _read(session: Session, ask: Callable[[Runtime], Awaitable[T]]) -> T:
    found: list[T] = []

    async def main() -> Exit:
        async with reading(session) as rt:
            found.append(await ask(rt))
        return Exit.DONE

    run_async(main)
    return found[0]


# --- where it goes ------------------------------------------------------------------------------------------------------


def _put(session: Session, drawn: bytes, form: str, output: Path | None) -> Exit:
    if output is None:
        if session.screen.as_json:
            session.screen.emit({"file": None, "format": form, "bytes": len(drawn), "text": drawn.decode()})
        else:
            sys.stdout.buffer.write(drawn)
        return Exit.DONE
    write_whole(output, drawn)
    if session.screen.as_json:
        session.screen.emit({"file": output, "format": form, "bytes": len(drawn)})
    session.screen.say(f"wrote {short_path(output)} ({form}, {len(drawn):,} bytes)")
    return Exit.DONE
