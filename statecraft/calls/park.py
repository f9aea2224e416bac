"""Giving a run up until later, from inside a handler."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from statecraft.records import Waiting


class Park(BaseException):
    """Leaves the handler: the run becomes a row with a due time and no memory, and the handler runs again then.

    Not an `Exception`, so that a handler's `except Exception` does not swallow it.
    """

    def __init__(
        self,
        due_at: int | None,
        why: Waiting,
        alert: str | None = None,
        *,
        about: str | None = None,
        children: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(f"parked until {'something happens' if due_at is None else due_at} ({why})")
        self.due_at = due_at
        """Microseconds since the epoch; None if it is not time that wakes it."""
        self.why = why
        self.alert = alert
        """Something people should hear of now."""
        self.about = about
        """The dependency that the alert is about."""
        self.children = children
        """Child runs it waits for."""

    @property
    def turn(self) -> float:
        """What parks are ordered by: the one that time wakes first comes first."""
        return inf if self.due_at is None else self.due_at


def combined(parks: Sequence[Park]) -> Park | None:
    """One park for all of them: the earliest counts, the end of any child wakes it, and people see what waits for them."""
    if not parks:
        return None
    earliest = min(parks, key=lambda park: park.turn)
    if len(parks) == 1:
        return earliest
    children = tuple(dict.fromkeys(child for park in parks for child in park.children))
    reasons = {park.why for park in parks}
    why = next((why for why in (Waiting.REVIEW, Waiting.CHILD) if why in reasons), earliest.why)
    alert, about = next(((park.alert, park.about) for park in parks if park.alert), (None, None))
    return Park(earliest.due_at, why, alert, about=about, children=children)


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
