"""Exit codes: the last word of every verb, so that scripts need not read text."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from statecraft.errors import (
    ConfigError,
    DefinitionError,
    NotFound,
    Refused,
    SchemaTooNew,
    StatecraftError,
    StoreUnavailable,
    WaitTimeout,
)
from statecraft.records import RunRecord, Status, TransitionRecord, Waiting


class Exit(IntEnum):
    """What the exit code of a verb means."""

    DONE = 0
    """Done, or nothing found wrong."""
    FAILED = 1
    """The work failed: run failed or dead, findings, a divergence."""
    USAGE = 2
    """A usage or configuration error, or a request that the run refuses. Nothing was written."""
    NOT_FOUND = 3
    """No such run, machine, review or schedule."""
    WAITING = 4
    """Stopped at a person: the run waits for a decision."""
    REJECTED = 5
    """A person rejected or cancelled the run."""
    TIMEOUT = 6
    """`--timeout` passed; the run goes on."""
    INTERRUPTED = 130
    """Interrupted here (Ctrl-C); the run goes on later."""


def exit_of_error(error: StatecraftError) -> Exit:
    """The exit code of an error that ended a verb."""
    match error:
        case NotFound():
            return Exit.NOT_FOUND
        case WaitTimeout():
            return Exit.TIMEOUT
        case ConfigError() | DefinitionError() | Refused() | StoreUnavailable() | SchemaTooNew():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def exit_of_run(run: RunRecord, history: Sequence[TransitionRecord]) -> Exit:
    """The exit code of where a run stands: its outcome if it ended, `WAITING` if a person must decide.

    A run that a person's event sent straight into a failed final state was rejected, not broken.
    """
    match run.status:
        case Status.DONE:
            return Exit.DONE
        case Status.CANCELLED:
            return Exit.REJECTED
        case Status.FAILED:
            return Exit.REJECTED if history and history[-1].actor else Exit.FAILED
        case Status.DEAD:
            return Exit.FAILED
        case Status.WAITING if run.waiting_for is Waiting.REVIEW:
            return Exit.WAITING
        case _:
            return Exit.DONE
