"""The path that a run took, compared with what a test says of it.

    assert path_of(await rt.history(run.id)) == "intake -(query_parsed)-> gathering -> ... -> complete"

An arrow may name its event or not; `...` stands for any number of moves. A comparison that fails shows both paths side by side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from statecraft.errors import ConfigError
from statecraft.records import TransitionRecord

GAP = "..."
_ARROW = re.compile(r"\s+-(?:\((\S+?)\)-)?>\s+")


@dataclass(frozen=True, slots=True)
class Stop:
    """A state on a path, and the event that led there."""

    state: str
    """`...` in what is expected: any number of moves."""
    event: str = ""
    """Empty at the beginning, and in what is expected where any event will do."""
    guards: tuple[tuple[str, bool], ...] = ()
    """Guards that were asked on the way, with their answers."""

    def fits(self, other: Stop) -> bool:
        """Whether a stop of a run is what this one expects."""
        return self.state == other.state and self.event in ("", other.event)

    def __str__(self) -> str:
        return f"-({self.event})-> {self.state}" if self.event else self.state


@dataclass(frozen=True, slots=True, eq=False)
class TakenPath:
    """The states that a run was in, and the events that led from one to the next. Made by `path_of`.

    It is equal to a text that describes it: `a -> b`, `a -(event)-> b`, `a -> ... -> b`. Every such text names the whole path;
    `... -> b` ends in b, `a -> ...` begins with a. Not hashable, since many texts are equal to one path.

    Raises `ConfigError` when it is compared with a text that is no path.
    """

    stops: tuple[Stop, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """The states, in order."""
        return tuple(stop.state for stop in self.stops)

    @property
    def events(self) -> tuple[str, ...]:
        """The events that led from one state to the next, one fewer than the states."""
        return tuple(stop.event for stop in self.stops[1:])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TakenPath):
            return self.states == other.states and self.events == other.events
        return fits(expected(other), self.stops) if isinstance(other, str) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return " ".join((self.stops[0].state, *map(str, self.stops[1:]))) if self.stops else "no move"

    def __repr__(self) -> str:
        return f"<path {self}>"


def path_of(history: Sequence[TransitionRecord]) -> TakenPath:
    """The path of a run, from its history: `path_of(await rt.history(run.id))`."""
    return TakenPath(tuple(Stop(move.target, move.event if move.source else "", move.guards) for move in history))


def assert_path(history: Sequence[TransitionRecord] | TakenPath, text: str) -> None:
    """Fail unless the run took the path that `text` describes (see `TakenPath`), showing both side by side.

    The same as `assert path_of(history) == text` under the pytest plugin, but shows it everywhere.
    """
    taken = history if isinstance(history, TakenPath) else path_of(history)
    if taken != text:
        from statecraft.testing.alignment import difference

        raise AssertionError("\n".join(difference(expected(text), taken.stops)))


def expected(text: str) -> tuple[Stop, ...]:
    """The stops that a text describes. Raises `ConfigError` if it is no path."""
    parts = _ARROW.split(text.strip())
    stops = [Stop(parts[0]), *(Stop(state, event or "") for event, state in zip(parts[1::2], parts[2::2], strict=True))]
    wrong = [stop.state for stop in stops if not stop.state or any(letter.isspace() or letter in "()<>" for letter in stop.state)]
    if wrong:
        raise ConfigError(
            f"{text!r} is no path: write 'a -> b', 'a -(event)-> b' or 'a -> ... -> b' with spaces around each arrow"
        )
    for stop in stops:
        if stop.state == GAP and stop.event:
            raise ConfigError(f"{text!r} is no path: '...' is any number of moves, so no event leads to it; name a state there")
    return tuple(stops)


def fits(wanted: Sequence[Stop], stops: Sequence[Stop]) -> bool:
    """Whether the stops of a run are what is wanted. Each gap takes as few as it can, and more when that does not fit."""
    at, gap, gap_from = 0, -1, 0
    place = 0
    while place < len(stops):
        if at < len(wanted) and wanted[at].state == GAP:
            gap, gap_from, at = at, place, at + 1
        elif at < len(wanted) and wanted[at].fits(stops[place]):
            at, place = at + 1, place + 1
        elif gap >= 0:
            gap_from += 1
            at, place = gap + 1, gap_from
        else:
            return False
    return all(stop.state == GAP for stop in wanted[at:])
