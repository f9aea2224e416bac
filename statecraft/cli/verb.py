"""What all verbs share: the common options, the session they give, and how a verb ends."""

from __future__ import annotations

import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from statecraft.cli.config import Config, Database, find_config, find_database
from statecraft.cli.exits import Exit, exit_of_error
from statecraft.cli.screen import Screen, program
from statecraft.cli.span import Span
from statecraft.errors import ConfigError, DefinitionError, StatecraftError

LIMIT = click.IntRange(1, 2**31 - 1)
"""A number of things, as databases can hold it."""


class Number(click.FloatRange):
    """A number in a range. `nan` is in none: it compares with nothing, so a bar of it would let everything pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


@dataclass(frozen=True, slots=True)
class Drive:
    """How a verb that runs a machine does so."""

    machines: tuple[str, ...] = ()
    """`-m`: TARGETs to take a run's machine from."""
    model: str | None = None
    """`--model`: Claude with this model, whatever the machine's module says."""
    pace: float = 0.0
    """`--pace`: seconds to wait before each call of the model."""
    timeout: timedelta | None = None
    """`--timeout`: how long to wait here; the run goes on."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Fields as given, not read yet."""

    text: str | None = None
    """`--input`."""
    sets: tuple[str, ...] = ()
    """`--set`, in order."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a verb works with."""

    screen: Screen
    database: Database
    config: Config
    drive: Drive
    inputs: Inputs
    options: Mapping[str, Any]
    """The shared options as given, so that a group can pass them down."""

    def command(self, words: str) -> str:
        """A command for people to copy that finds the same database."""
        return f"{program()} {words}{self.database.flag}"


class Verb(click.Command):
    """A command with the shared options. Its function gets a `Session` (`click.pass_obj`) and answers an `Exit`."""

    drives = False
    """Whether it runs machines, and so has `-m`, `--model`, `--pace` and `--timeout`."""
    takes_input = False
    """Whether it takes fields, and so has `--input` and `--set`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += shared_options()
        if self.drives:
            self.params += drive_options()
        if self.takes_input:
            self.params += input_options()

    def invoke(self, ctx: click.Context) -> object:
        return conduct(ctx, lambda: super(Verb, self).invoke(ctx))


class DrivingVerb(Verb):
    """A verb that runs a machine in the foreground."""

    drives = True


class SendingVerb(DrivingVerb):
    """A verb that runs a machine and is given fields for it."""

    takes_input = True


class VerbGroup(click.Group):
    """A verb with verbs below it. Without one of them it acts itself; options given to it hold for those below."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "invoke_without_command": True})
        self.params += shared_options()

    def invoke(self, ctx: click.Context) -> object:
        return conduct(ctx, lambda: super(VerbGroup, self).invoke(ctx))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(WHOLE)) for name, command in self.commands.items()])


WHOLE = 400
"""Longest first sentence of a verb in a list of verbs: it is wrapped, never cut."""
SHARED = ("db", "as_json", "progress", "color", "debug")
DRIVE = ("machines", "model", "pace", "timeout")
INPUT = ("text", "sets")


def shared_options() -> list[click.Parameter]:
    """The options every verb has."""
    return [
        click.Option(["--db"], metavar="URL", help="Database: a URL or the path of a SQLite file."),
        click.Option(["--json", "as_json"], is_flag=True, default=None, help="One JSON object on stdout."),
        click.Option(["--progress/--no-progress"], default=None, help="Show moves as they happen (default: on a terminal)."),
        click.Option(["--color"], type=click.Choice(["always", "never", "auto"]), help="Default: auto; NO_COLOR is heeded."),
        click.Option(["--debug"], is_flag=True, default=None, help="Show the traceback of an error."),
    ]


def drive_options() -> list[click.Parameter]:
    """The options of verbs that run machines."""
    return [
        click.Option(["-m", "--machine", "machines"], multiple=True, metavar="TARGET", help="Take the run's machine from here."),
        click.Option(["--model"], metavar="ID", help="Use Claude with this model."),
        click.Option(["--pace"], type=Number(0, 86_400), metavar="S", help="Wait S seconds before each model call, to watch."),
        click.Option(["--timeout"], type=Span(), metavar="T", help="Wait at most so long, such as 90s; the run goes on."),
    ]


def input_options() -> list[click.Parameter]:
    """The options of verbs that take fields."""
    return [
        click.Option(["--input", "text"], metavar="JSON", help="Fields as a JSON object, @file, or - for stdin."),
        click.Option(["--set", "sets"], multiple=True, metavar="FIELD=VALUE", help="One field; the value is JSON, else text."),
    ]


def conduct(ctx: click.Context, act: Callable[[], object]) -> object:
    """Make the session, act, and leave with the exit code that the outcome or the error stands for."""
    given = {name: ctx.params.pop(name) for name in (*SHARED, *DRIVE, *INPUT) if name in ctx.params}
    screen = _screen(given)
    try:
        session = _session(given, ctx.parent)
        ctx.obj, screen = session, session.screen
        result = act()
    except StatecraftError as error:
        ctx.exit(report(screen, error))
    except KeyboardInterrupt:
        screen.say("interrupted")
        ctx.exit(Exit.INTERRUPTED)
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001  # the last door: whatever comes out is told in one line
        ctx.exit(crash(screen, error))
    if isinstance(result, Exit):
        ctx.exit(result)
    return result


def report(screen: Screen, error: StatecraftError) -> Exit:
    """One line about an error (a definition's findings have one each), and its exit code."""
    if screen.debug:
        screen.say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, DefinitionError):
        screen.say(f"error: machine {error.machine!r} is not sound ({len(error.findings)} findings)")
        for finding in error.findings:
            screen.say(f"  {finding}")
    else:
        screen.say(f"error: {one_line(error)}")
    return exit_of_error(error)


def crash(screen: Screen, error: Exception) -> Exit:
    """One line about an error nobody foresaw."""
    if screen.debug:
        screen.say("".join(traceback.format_exception(error)).rstrip())
        return Exit.FAILED
    screen.say(f"error: unexpected {type(error).__name__}: {one_line(error)} (add --debug for the traceback)")
    return Exit.FAILED


def one_line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _session(given: Mapping[str, Any], parent: click.Context | None) -> Session:
    above: Mapping[str, Any] = parent.obj.options if parent is not None and isinstance(parent.obj, Session) else {}
    options: dict[str, Any] = {name: above.get(name) if value is None else value for name, value in given.items()}
    config = find_config(Path.cwd())
    database = find_database(options["db"], config)
    inputs = Inputs(given.get("text"), tuple(given.get("sets") or ()))
    return Session(_screen(options), database, config, _drive(given), inputs, options)


def _screen(options: Mapping[str, Any]) -> Screen:
    progress = options.get("progress")
    return Screen(
        as_json=bool(options.get("as_json")),
        color=_color(options.get("color")),
        progress=sys.stderr.isatty() if progress is None else bool(progress),
        debug=bool(options.get("debug")),
    )


def _color(choice: object) -> bool | None:
    if choice in ("always", "never"):
        return choice == "always"
    return False if os.environ.get("NO_COLOR") else None


def _drive(given: Mapping[str, Any]) -> Drive:
    return Drive(
        machines=tuple(given.get("machines") or ()),
        model=given.get("model") or None,
        pace=given.get("pace") or 0.0,
        timeout=given.get("timeout"),
    )


def must_exist(database: Database) -> None:
    """Refuse to make a database, or tables in an empty one, just to look into it. Raises `ConfigError` or `StoreError`."""
    from statecraft.store import schema_of, shown

    path = database.file
    if path is not None and not path.exists():
        raise ConfigError(f"there is no database at {path} ({database.source}); give one with --db, or start a run first")
    if path is None and schema_of(database.url)[0] is None:
        raise ConfigError(
            f"{shown(database.url)} ({database.source}) has no tables of statecraft; name another database with --db, or run "
            "`statecraft migrate` or start a run first"
        )
