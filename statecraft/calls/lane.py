"""Which branch of a choice a call is made in.

When `run.map` takes the first results and stops the rest, a later execution of the handler runs the chosen items only.
Their calls must be recognised then, although the others no longer make theirs; so each item of such a map has a lane,
and the digest of a call made in one covers it. Outside of choices the lane is empty and digests do not know of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LANE: ContextVar[str] = ContextVar("statecraft_lane", default="")


def current() -> str:
    """The lane of the code that is running: a path such as `5f0a1b2c3d4e5f60:0.7/...`, empty outside of choices."""
    return _LANE.get()


@contextmanager
def within(lane: str) -> Iterator[None]:
    """Make calls in this lane."""
    token = _LANE.set(lane)
    try:
        yield
    finally:
        _LANE.reset(token)


def below(outer: str, join: bytes, occurrence: int, item: int) -> str:
    """The lane of an item, under the lane its map is in; `join` is the digest of the call that records the choice."""
    return f"{outer}{'/' if outer else ''}{join[:8].hex()}:{occurrence}.{item}"


def inside(lane: str, outer: str) -> bool:
    """Whether a lane is this one or under it."""
    return lane == outer or lane.startswith(f"{outer}/")
