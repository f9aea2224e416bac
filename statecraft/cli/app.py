"""The list of verbs, and how the command line as a whole ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from statecraft import __version__
from statecraft.cli.act import cancel, resume, send
from statecraft.cli.alerts import alerts
from statecraft.cli.check import check
from statecraft.cli.demo import demo
from statecraft.cli.diff import diff
from statecraft.cli.dlq import dlq
from statecraft.cli.draw import diagram
from statecraft.cli.eval import evaluate
from statecraft.cli.exits import Exit
from statecraft.cli.explain import explain
from statecraft.cli.fork import fork
from statecraft.cli.look import runs, watch
from statecraft.cli.migrate import migrate
from statecraft.cli.replay import replay
from statecraft.cli.review import review
from statecraft.cli.schedule import schedule
from statecraft.cli.show import show
from statecraft.cli.start import start
from statecraft.cli.stats import stats
from statecraft.cli.verb import WHOLE
from statecraft.cli.verify import verify
from statecraft.cli.worker import worker


class App(click.Group):
    """The whole command. Usage errors are one line too, and a reader that hangs up is no error."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        try:
            code = super().main(
                args,
                prog_name or "statecraft",
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            code = Exit.USAGE
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "statecraft"
            click.echo(f"error: {' '.join(error.format_message().split())} (see {path} --help)", err=True)
            code = Exit.USAGE
        except click.ClickException as error:
            click.echo(f"error: {' '.join(error.format_message().split())}", err=True)
            code = Exit.USAGE
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            code = Exit.INTERRUPTED
        except BrokenPipeError:
            # Python would complain once more when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = Exit.FAILED
        sys.exit(int(code) if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(WHOLE)) for name in names])


SECTIONS = {
    "Run": ("demo", "start", "worker"),
    "Look": ("runs", "show", "explain", "diff", "watch", "stats", "alerts"),
    "Act": ("send", "review", "resume", "cancel", "dlq", "fork", "replay", "schedule"),
    "Make": ("check", "diagram", "eval"),
    "Keep": ("verify", "migrate"),
}


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="statecraft", message="%(prog)s %(version)s")
def app() -> None:
    """Agents as durable state machines: run them, watch them, decide for them, explain them.

    TARGET is `package.module:machine`, `path/to/file.py:machine` or the name of a shipped machine such as `research`.
    RUN is a run's id, any unique beginning of it, or `@last`.
    """


for _verb in (
    demo,
    start,
    worker,
    runs,
    show,
    explain,
    diff,
    watch,
    stats,
    alerts,
    send,
    review,
    resume,
    cancel,
    dlq,
    fork,
    replay,
    schedule,
    check,
    diagram,
    evaluate,
    verify,
    migrate,
):
    app.add_command(_verb)
