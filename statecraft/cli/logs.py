"""The library's events as lines on stderr, for programs that run unattended."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from statecraft.trace import LOGGER_NAME

QUIET = frozenset({"transition", "call"})
"""Events of which there are too many for a log of runs."""
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


class Lines(logging.Formatter):
    """`time event name=value ...`, or one JSON object a line."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts = {name: value for name, value in vars(record).items() if name not in _OWN}
        if self._as_json:
            told = {"at": at, "level": record.levelname.lower(), "event": record.getMessage(), **facts}
            return json.dumps(told, default=str, ensure_ascii=False)
        words = (f"{name}={_word(value)}" for name, value in facts.items())
        return " ".join([at, record.getMessage(), *words])


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c.isspace() or c == '"' for c in text) else text


@contextmanager
def log_lines(as_json: bool) -> Iterator[None]:
    """Write events of level INFO and above to stderr for the block, but for those of `QUIET`."""
    logger, handler = logging.getLogger(LOGGER_NAME), logging.StreamHandler()
    handler.setFormatter(Lines(as_json))
    handler.addFilter(lambda record: record.getMessage() not in QUIET or record.levelno > logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
