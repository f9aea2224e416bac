"""SQLite takes one writer at a time. When that is not enough, it is said: writes wait long for those of other processes."""

from __future__ import annotations

import logging
from collections import deque

from statecraft import trace

LONG = 1.0
"""Seconds of waiting that count."""
TIMES = 3
"""So many long waits within `WINDOW` are more than bad luck."""
WINDOW = 600.0
"""Seconds."""
QUIET = 3600.0
"""Seconds until it is said again."""

ADVICE = (
    "SQLite takes one writer at a time: give the workers a PostgreSQL database (STATECRAFT_URL); docs/migrations.md tells how"
)


class Waits:
    """The long waits of one store's writer. Says once an hour that they are too many."""

    def __init__(self, where: object) -> None:
        self._where = where
        self._long: deque[tuple[float, float]] = deque(maxlen=TIMES)
        """(when, how long), in seconds."""
        self._said: float | None = None

    def count(self, now: float, waited: float) -> None:
        """A transaction began, or failed to, after waiting so many seconds for others; `now` is monotonic."""
        if waited <= LONG:
            return
        self._long.append((now, waited))
        first = self._long[0][0]
        if len(self._long) < TIMES or now - first > WINDOW or (self._said is not None and now - self._said < QUIET):
            return
        self._said = now
        longest = max(waited for _, waited in self._long)
        seen = f"{TIMES} writes to {self._where} waited more than {LONG:g} s for other writers within {WINDOW / 60:g} minutes"
        fields = {"seen": seen, "longest_s": round(longest, 3), "advice": ADVICE}
        trace.emit("store.outgrown", fields, level=logging.WARNING)
