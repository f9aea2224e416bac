"""How runs of an older definition go on under this one: which state becomes which, and what becomes of the data.

Migrations are listed oldest first. Each leads from the definitions it names to what the next one begins with, the last one
to the definition that declares them; a run takes all of them from its own on.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from statecraft.errors import ConfigError, Finding
from statecraft.machine.data import Data
from statecraft.machine.event import event_name
from statecraft.machine.table import Declaration

Choose = Callable[[dict[str, Any]], str]
"""A pure function of the data as JSON, which answers a state's name; its annotation names all that it may answer."""
Upgrade = Callable[[dict[str, Any]], Mapping[str, Any] | Data]
"""A pure function from the data as JSON to the data as JSON, or to an instance of the new type."""

SHORTEST = 8
"""Digits of a fingerprint that are enough to name it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step from an older definition of a machine towards this one. What it does not name stays as it is.

    Raises `ConfigError` if it names no definition it begins with.
    """

    since: str | Sequence[str]
    """The definitions it begins with: the text of a version, a fingerprint, or the first digits of one (8 at least). A
    version means every definition that was ever stored with it; where both fit, the fingerprint counts."""
    states: Mapping[str, str | Choose] = field(default_factory=dict[str, str | Choose])
    """From an old state to the new one, or to a function that chooses it by the old data: `-> Literal["a", "b"]`."""
    data: Upgrade | None = None
    """From the old data (a dict of its JSON, a copy of its own) to the new one; None leaves it as it is."""
    events: Mapping[str, str] = field(default_factory=dict[str, str])
    """From old names of events to new ones, for the questions of reviews that are open."""

    def __post_init__(self) -> None:
        given: tuple[object, ...] = self.origins
        if not given or not all(isinstance(each, str) and each for each in given):
            raise ConfigError(f"Migration(since=...) names what it begins with: a version or a fingerprint, not {self.since!r}")

    @property
    def origins(self) -> tuple[str, ...]:
        """What it begins with, as a tuple."""
        return (self.since,) if isinstance(self.since, str) else tuple(self.since)

    def __str__(self) -> str:
        return f"the migration since {' or '.join(each[:12] for each in self.origins)}"

    def lead(self, state: str, data: Mapping[str, Any]) -> str:
        """The state that an old state becomes. Raises what the function raises that chooses it."""
        to = self.states.get(state, state)
        return to if isinstance(to, str) else to(copy.deepcopy(dict(data)))

    def targets(self, state: str) -> tuple[str, ...]:
        """All states that an old state may become."""
        to = self.states.get(state, state)
        return (to,) if isinstance(to, str) else choices(to)


def choices(choose: Choose) -> tuple[str, ...]:
    """The states that a function may choose, by its return annotation; none if it does not say."""
    try:
        hint = get_type_hints(choose).get("return")
    except (NameError, TypeError, AttributeError):
        return ()
    named = get_args(hint) if get_origin(hint) is Literal else ()
    return tuple(each for each in named if isinstance(each, str))


def route(migrations: Sequence[Migration], fingerprint: str, version: str) -> Sequence[Migration] | None:
    """The migrations that a run of that definition takes, in order; None if none begins with it."""
    of_fingerprint = (n for n, each in enumerate(migrations) if any(names(text, fingerprint) for text in each.origins))
    of_version = (n for n, each in enumerate(migrations) if version in each.origins)
    first = next(of_fingerprint, next(of_version, None))
    return None if first is None else migrations[first:]


def names(text: str, fingerprint: str) -> bool:
    """Whether a text is the beginning of a fingerprint, and long enough to mean it."""
    return len(text) >= SHORTEST and fingerprint.startswith(text)


def ends(migrations: Sequence[Migration], state: str) -> tuple[str, ...]:
    """All states that an old state may have become when it has taken all of these."""
    found = {state: None}
    for each in migrations:
        found = {target: None for name in found for target in each.targets(name)}
    return tuple(found)


def edges(migrations: Sequence[Migration], states: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Every (old state, new state) of a migration into one of these states."""
    sources = dict.fromkeys((*(name for each in migrations for name in each.states), *states))
    found = {
        (source, target): None
        for n in range(len(migrations))
        for source in sources
        for target in ends(migrations[n:], source)
        if target in states
    }
    return tuple(found)


# --- what can be wrong -------------------------------------------------------------------------------------------------


def check_migrations(migrations: Sequence[Migration], declaration: Declaration) -> list[Finding]:
    """Everything that can be wrong with them before any run is seen (SC141 to SC146)."""
    found: list[Finding] = [*_origins(migrations)]
    for n, each in enumerate(migrations):
        found += _functions(each)
        found += _states(migrations[n:], declaration)
        found += _events(migrations[n:], declaration)
    return found


def not_itself(migrations: Sequence[Migration], fingerprint: str) -> list[Finding]:
    """SC147: one that begins with the definition that declares it."""
    return [
        Finding("SC147", "error", f"since {text}", "this is the definition itself", "name the definition that runs come from")
        for each in migrations
        for text in each.origins
        if names(text, fingerprint)
    ]


def _error(code: str, migration: Migration, message: str, fix: str) -> Finding:
    return Finding(code, "error", f"since {' or '.join(migration.origins)}", message, fix)


def _origins(migrations: Sequence[Migration]) -> Iterator[Finding]:
    seen: list[str] = []
    for each in migrations:
        for text in each.origins:
            if any(text == other or names(text, other) or names(other, text) for other in seen):
                fix = "leave one migration for each definition; a run takes all from its own on"
                yield _error("SC143", each, f"two migrations begin with {text}", fix)
            seen.append(text)


def _functions(migration: Migration) -> Iterator[Finding]:
    choosers = [(f"of state {name}", to) for name, to in migration.states.items() if not isinstance(to, str)]
    given: list[tuple[str, Callable[..., Any]]] = [*choosers, *([("of the data", migration.data)] if migration.data else [])]
    for what, function in given:
        if not _is_plain(function):
            fix = "write a plain def that takes the old data as a dict, and gives its answer back"
            yield _error("SC145", migration, f"the function {what} is not a plain function of one argument", fix)
    for what, choose in choosers:
        if not choices(choose):
            fix = 'name them in its annotation: def choose(data: dict[str, Any]) -> Literal["a", "b"]'
            yield _error("SC144", migration, f"the function {what} does not say which states it chooses from", fix)


def _is_plain(function: object) -> bool:
    if not callable(function):
        return False
    for each in (function, getattr(function, "__call__", function)):  # noqa: B004
        if inspect.iscoroutinefunction(each) or inspect.isgeneratorfunction(each):
            return False
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        return False
    except ValueError:  # Written in C, without a signature.
        return True
    return True


def _states(taken: Sequence[Migration], declaration: Declaration) -> Iterator[Finding]:
    first, states = taken[0], {state.name: state for state in declaration.states}
    for old in first.states:
        for target in ends(taken, old):
            if target not in states:
                fix = f"lead it to a state of {declaration.name}"
                yield _error("SC141", first, f"{old} becomes {target}, which is no state of {declaration.name}", fix)
            elif states[target].final:
                fix = "lead it to a state from which a row leads there: a migration ends no run"
                yield _error("SC142", first, f"{old} becomes {target}, which is final", fix)


def _events(taken: Sequence[Migration], declaration: Declaration) -> Iterator[Finding]:
    first = taken[0]
    known = {event_name(event) for state in declaration.states if state.kind == "review" for event in state.events}
    for old, new in first.events.items():
        name = new
        for each in taken[1:]:
            name = each.events.get(name, name)
        if name not in known:
            fix = "name an event that a review's handler asks for, as the journal calls it"
            yield _error("SC146", first, f"{old} becomes {name}, which no review of {declaration.name} takes", fix)
