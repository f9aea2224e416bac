"""Paths that together take every state, every row, or every pair of rows: what a test drives a machine along. Pure.

A path keeps to the machine's bounds: it enters no state more often than `max_visits` without leaving by the row for
`VisitsExhausted`, makes at most `max_steps` steps, and meets what the engine says once in a run at most once. So the row for
an exhausted bound stands at the end of as many rounds as the bound allows. What guards think of the data is not asked: a
path names the answers they must give, and whoever drives it finds payloads that make them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from statecraft.errors import ConfigError
from statecraft.machine.event import (
    BudgetExhausted,
    BudgetWarning,
    CallFailed,
    DeadlinePassed,
    Event,
    HandlerFailed,
    InvalidOutput,
    LoopDetected,
    ReviewExpired,
    StateTimeout,
    StepsExhausted,
    VisitsExhausted,
    event_name,
)
from statecraft.machine.table import Declaration, DeclaredState, expand, is_operators, is_possible, reachable_rows

PathKind = Literal["states", "transitions", "pairs", "simple"]
"""What the paths cover together; `simple`: every path to a final state that enters no state twice."""

EASIEST: Final = (
    HandlerFailed,
    CallFailed,
    InvalidOutput,
    LoopDetected,
    BudgetExhausted,
    StateTimeout,
    ReviewExpired,
    DeadlinePassed,
    BudgetWarning,
    VisitsExhausted,
    StepsExhausted,
)
"""System events, the one that takes the least to provoke first. Of those that one row takes in a state, the first is used."""

MOST_PATHS: Final = 10_000
"""So many simple paths are listed at most: a large machine has more than anybody can drive."""
_MOST_SPOTS: Final = 20_000
"""Spots that one search looks at before it gives up."""
_ONCE_PER_RUN: Final = (BudgetWarning, DeadlinePassed, StepsExhausted)


@dataclass(frozen=True, slots=True)
class Leg:
    """One row of the table, taken in one state by one event."""

    source: str
    event: type[Event]
    target: str
    guards: tuple[tuple[str, bool], ...]
    """The guards that are asked and must answer so, as the journal tells them."""
    row: int
    """The row's place in `Definition.rows`."""
    own: bool
    """Whether it is an event of the state's handler or person; else the engine raises it."""

    def __str__(self) -> str:
        guard = next((name for name, held in self.guards if held), "")
        return event_name(self.event) + (f"[{guard}]" if guard else "")


@dataclass(frozen=True, slots=True)
class Path:
    """A way through a machine from its start state: `parsed>sources_found[enough]>written`."""

    machine: str
    """The machine's name."""
    start: str
    """The state it begins in."""
    legs: tuple[Leg, ...]

    def __str__(self) -> str:
        return ">".join(map(str, self.legs))

    @property
    def states(self) -> tuple[str, ...]:
        """The states it enters, in order, the start state included."""
        return (self.start, *(leg.target for leg in self.legs))


def legs(declaration: Declaration) -> list[Leg]:
    """Every row in every state, as far as a test can bring it about: with each event of the state's own, and with the
    easiest one of the engine's. What only operators send is left out."""
    places = {id(row): place for place, row in enumerate(declaration.rows)}
    states = {state.name: state for state in declaration.states}
    found: dict[Hashable, Leg] = {}
    for (name, event), rows in sorted(expand(declaration).items(), key=_ease):
        own = event in states[name].events
        if not is_possible(declaration, states[name], event) or not (own or _provokable(declaration, event)):
            continue
        refused: tuple[tuple[str, bool], ...] = ()
        for row in reachable_rows(rows):
            asked = refused if row.guard is None else (*refused, (row.guard_name, True))
            place = places[id(row)]
            leg = Leg(name, event, row.target, asked, place, own)
            found.setdefault((name, event, place) if own else (name, place), leg)
            refused = (*refused, (row.guard_name, False))
    order = list(states)
    return sorted(found.values(), key=lambda leg: (order.index(leg.source), not leg.own))


def _ease(entry: tuple[tuple[str, type[Event]], object]) -> int:
    event = entry[0][1]
    return EASIEST.index(event) if event in EASIEST else -1


def _provokable(declaration: Declaration, event: type[Event]) -> bool:
    return not is_operators(event) and (event is not BudgetWarning or declaration.budget is not None)


# --- where a walk stands ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Spot:
    """All that decides which legs can be taken next."""

    state: str
    visits: tuple[int, ...]
    """Entries so far of each state that has a bound."""
    steps: int
    spent: frozenset[type[Event]] = frozenset()
    """What happened that happens once in a run."""
    last: Leg | None = None


class _Walks:
    """Walks over the legs of one machine."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.legs = legs(declaration)
        self._bounded = [state.name for state in declaration.states if state.max_visits is not None]
        self._bounds = [state.max_visits or 0 for state in declaration.states if state.max_visits is not None]
        self._states: dict[str, DeclaredState] = {state.name: state for state in declaration.states}
        self._onward: dict[str, list[Leg]] = {}
        for leg in self.legs:
            self._onward.setdefault(leg.source, []).append(leg)
        start = next(state.name for state in declaration.states if state.start)
        self.start = self._entered(_Spot("", (0,) * len(self._bounded), -1), start)

    def ends(self, leg: Leg) -> bool:
        """Whether it leads to a final state."""
        return self._states[leg.target].final

    def after(self, spot: _Spot, leg: Leg) -> _Spot:
        """Where the walk stands once the leg is taken."""
        spent = spot.spent | {leg.event} if leg.event in _ONCE_PER_RUN else spot.spent
        return replace(self._entered(spot, leg.target), spent=spent, last=leg)

    def _entered(self, spot: _Spot, state: str) -> _Spot:
        visits = tuple(count + (name == state) for name, count in zip(self._bounded, spot.visits, strict=True))
        return _Spot(state, visits, spot.steps + 1, spot.spent)

    def onward(self, spot: _Spot) -> Iterator[Leg]:
        """The legs that the engine's bounds leave open, in the order in which the engine looks at them."""
        forced: type[Event] | None = None
        if spot.steps >= self.declaration.max_steps and StepsExhausted not in spot.spent:
            forced = StepsExhausted
        elif spot.state in self._bounded:
            place = self._bounded.index(spot.state)
            forced = VisitsExhausted if spot.visits[place] > self._bounds[place] else None
        for leg in self._onward.get(spot.state, ()):
            if forced is None:
                if leg.event not in (VisitsExhausted, StepsExhausted) and not self._too_late(spot, leg):
                    yield leg
            elif leg.event is forced:
                yield leg

    @staticmethod
    def _too_late(spot: _Spot, leg: Leg) -> bool:
        """Whether it cannot happen (any more). Of a budget, nothing is used in the first visit."""
        return leg.event in spot.spent or (leg.event is BudgetWarning and (spot.last is None or not spot.last.own))

    def search(
        self, spot: _Spot, wanted: Callable[[_Spot, Leg], bool], *, own: bool = False, pairs: bool = False
    ) -> list[Leg] | None:
        """The shortest way from the spot whose last leg is wanted; None if there is none, or none was found. `own`: only by
        events of handlers and people. `pairs`: what is wanted depends on the leg before."""
        seen: set[Hashable] = set()
        todo: deque[tuple[_Spot, list[Leg]]] = deque([(spot, [])])
        long = any(leg.event is StepsExhausted for leg in self.legs) and not own
        while todo and len(seen) < _MOST_SPOTS:
            here, trail = todo.popleft()
            for leg in self.onward(here):
                if own and not leg.own:
                    continue
                if wanted(here, leg):
                    return [*trail, leg]
                there = self.after(here, leg)
                known = (there.state, there.visits, there.spent, leg if pairs else None, there.steps if long else 0)
                if known not in seen:
                    seen.add(known)
                    todo.append((there, [*trail, leg]))
        return None


# --- the kinds of paths -----------------------------------------------------------------------------------------------


def paths(declaration: Declaration, kind: PathKind = "transitions") -> list[Path]:
    """Paths of the machine that together cover what `kind` says. Raises `ConfigError` for another kind.

    Greedy: each walk goes to the nearest leg that is still to be covered, by events of handlers and people as long as they
    lead there, and ends in a final state. A row that no walk within the machine's bounds can take is in no path.
    """
    walks = _Walks(declaration)
    match kind:
        case "states":
            found = _to_states(walks)
        case "transitions":
            found = _cover(walks, [_row(leg) for leg in walks.legs], lambda _, leg: _row(leg))
        case "pairs":
            both = [(_same(a), _same(b)) for a in walks.legs for b in walks.legs if a.target == b.source]
            found = _cover(walks, both, lambda last, leg: (_same(last), _same(leg)) if last else None, pairs=True)
        case "simple":
            found = _simple(walks)
        case _:
            raise ConfigError(f"paths come in the kinds {', '.join(get_args(PathKind))}, not {kind!r}")
    return [Path(declaration.name, walks.start.state, tuple(way)) for way in found]


def _row(leg: Leg) -> Hashable:
    return (leg.row, leg.event if leg.own else None)


def _same(leg: Leg) -> Hashable:
    return (leg.source, leg.event, leg.row)


def _to_states(walks: _Walks) -> list[list[Leg]]:
    found: list[list[Leg]] = []
    for state in walks.declaration.states:
        if state.name == walks.start.state:
            continue

        def there(_: _Spot, leg: Leg, name: str = state.name) -> bool:
            return leg.target == name

        way = walks.search(walks.start, there, own=True) or walks.search(walks.start, there)
        if way is not None:
            found.append(way)
    return [way for way in found if not any(other[: len(way)] == way and other != way for other in found)]


def _cover(
    walks: _Walks, goals: Sequence[Hashable], goal: Callable[[Leg | None, Leg], Hashable], *, pairs: bool = False
) -> list[list[Leg]]:
    left, found = set(goals), list[list[Leg]]()

    def wanted(spot: _Spot, leg: Leg) -> bool:
        return goal(spot.last, leg) in left

    while left:
        spot, way = walks.start, list[Leg]()
        while hop := walks.search(spot, wanted, own=True, pairs=pairs) or walks.search(spot, wanted, pairs=pairs):
            for leg in hop:
                left.discard(goal(spot.last, leg))
                spot = walks.after(spot, leg)
            way += hop
        if not way:
            break  # The rest cannot be taken within the machine's bounds.
        found.append([*way, *_home(walks, spot)])
        for leg in found[-1][len(way) :]:
            left.discard(goal(spot.last, leg))
            spot = walks.after(spot, leg)
    return found


def _home(walks: _Walks, spot: _Spot) -> list[Leg]:
    """The shortest way on to a final state; empty if the walk stands in one, or has none."""

    def home(_: _Spot, leg: Leg) -> bool:
        return walks.ends(leg)

    return walks.search(spot, home, own=True) or walks.search(spot, home) or []


def _simple(walks: _Walks) -> list[list[Leg]]:
    found: list[list[Leg]] = []
    stack: list[tuple[_Spot, list[Leg], frozenset[str]]] = [(walks.start, [], frozenset({walks.start.state}))]
    while stack and len(found) < MOST_PATHS:
        spot, way, seen = stack.pop()
        if way and walks.ends(way[-1]):
            found.append(way)
            continue
        onward = [leg for leg in walks.onward(spot) if leg.target not in seen]
        stack += [(walks.after(spot, leg), [*way, leg], seen | {leg.target}) for leg in reversed(onward)]
    return found
