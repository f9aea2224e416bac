"""Giving a run up until later, from inside a handler."""

from __future__ import annotations

from statecraft.records import Waiting


class Park(BaseException):
    """Leaves the handler: the run becomes a row with a due time and no memory, and the handler runs again then.

    Not an `Exception`, so that a handler's `except Exception` does not swallow it.
    """

    def __init__(self, due_at: int, why: Waiting, alert: str | None = None) -> None:
        super().__init__(f"parked until {due_at} ({why})")
        self.due_at = due_at
        """Microseconds since the epoch."""
        self.why = why
        self.alert = alert
        """Something people should hear of now."""


class NotYet(Exception):
    """An attempt that does not count, and when the next may be made: a breaker is open, or a limit has no room.

    Raised inside the retry, which waits or parks and does not count it as an attempt.
    """

    def __init__(self, due_at: int, why: Waiting, message: str, *, maybe_billed: bool = False) -> None:
        super().__init__(message)
        self.due_at = due_at
        """Microseconds since the epoch."""
        self.why = why
        self.maybe_billed = maybe_billed
        """Whether a breaker's probe was made with the call, failed, and may have been charged for all the same."""
