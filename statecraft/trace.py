"""What happened, said once, for logs: named events with ids, counts and hashes, never prompts or payloads.

Silent unless the application configures logging for `statecraft` (any standard `logging` set-up works; `structlog`
applications get structured fields). structlog is imported when the first event is really written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

LOGGER_NAME = "statecraft"
_stdlib = logging.getLogger(LOGGER_NAME)
_stdlib.addHandler(logging.NullHandler())

EVENTS = frozenset(
    {
        "run.started",
        "run.claimed",
        "run.parked",
        "run.ended",
        "run.dead",
        "run.lost",
        "run.cancelled",
        "run.redriven",
        "run.forked",
        "run.migrated",
        "run.stuck",
        "transition",
        "call",
        "call.retry",
        "alert",
        "alert.missed",
        "breaker",
        "gate.waiting",
        "gate.reminder",
        "schedule.put",
        "schedule.paused",
        "schedule.resumed",
        "schedule.dropped",
        "schedule.fired",
        "schedule.missed",
        "schedule.overlapped",
        "schedule.failed",
        "store.migrated",
        "store.outgrown",
        "store.refused",
        "store.failed",
        "store.reconnected",
        "store.resolved",
        "store.clock",
        "worker.started",
        "worker.draining",
        "worker.stopped",
    }
)
"""Every event name this library emits."""

_loggers: dict[str, BoundLogger] = {}


def _logger() -> BoundLogger:
    """A structlog logger over the standard one, with processors of its own: it neither reads nor changes the
    application's structlog configuration."""
    found = _loggers.get(LOGGER_NAME)
    if found is None:
        import structlog

        found = structlog.wrap_logger(
            _stdlib,
            processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
            context_class=dict,
        )
        _loggers[LOGGER_NAME] = found
    return found


def emit(event: str, fields: Mapping[str, object], *, level: int = logging.INFO) -> None:
    """Write one event of `EVENTS`. Costs one comparison when the logger is off.

    Keys must not be names of `logging.LogRecord` attributes (`name`, `msg`, `args`, `module`, ...).
    """
    if _stdlib.isEnabledFor(level):
        _logger().log(level, event, **fields)


def enabled(level: int = logging.INFO) -> bool:
    """Whether `emit` at this level writes anything; lets hot paths skip building the fields."""
    return _stdlib.isEnabledFor(level)
