"""Which rows of a machine's table were taken, and which of its states entered, by the runs of a test session.

A row counts once, as it was written: one of `anywhere` is taken when any state took it, and rows of system events and of
operators count like all others. What no row declares (the start of a run, a fork, a migration) enters a state only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statecraft.machine.definition import Definition

Row = tuple[str, str, str, str]
"""Source (empty for anywhere), event, target, guard (empty for none)."""
Guards = Sequence[tuple[str, bool]]


@dataclass(slots=True)
class Cover:
    """What the runs of one machine did."""

    name: str
    fingerprint: str
    rows: tuple[Row, ...]
    states: tuple[str, ...]
    taken: set[int] = field(default_factory=set[int])
    """Rows that led a run on, by their place in the table."""
    entered: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, definition: Definition) -> Cover:
        """A machine that nothing has run yet."""
        rows = tuple((row.source, row.event, row.target, row.guard) for row in definition.rows)
        return cls(definition.name, definition.fingerprint, rows, tuple(definition.states))

    @property
    def share(self) -> float:
        """The percentage of rows that were taken."""
        return 100 * len(self.taken) / max(1, len(self.rows))

    @property
    def never(self) -> list[str]:
        """The rows that were never taken, and the states that were never entered by any row."""
        missing = [shown(row) for place, row in enumerate(self.rows) if place not in self.taken]
        led_to = {row[2] for row in self.rows}
        return missing + [state for state in self.states if state not in self.entered and state not in led_to]

    def line(self) -> str:
        """`research: 15/17 rows, 9/9 states; never taken: gathering.no_sources -> insufficient_data`."""
        text = f"{self.name}: {len(self.taken)}/{len(self.rows)} rows, {len(self.entered)}/{len(self.states)} states"
        return text + (f"; never taken: {', '.join(self.never)}" if self.never else "")

    def to_plain(self) -> dict[str, Any]:
        """As values that one process can send another."""
        rows, taken = [list(row) for row in self.rows], sorted(self.taken)
        facts = {"name": self.name, "fingerprint": self.fingerprint, "states": list(self.states)}
        return {**facts, "rows": rows, "taken": taken, "entered": sorted(self.entered)}

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> Cover:
        """`to_plain` backwards."""
        rows = tuple((source, event, target, guard) for source, event, target, guard in said["rows"])
        return cls(said["name"], said["fingerprint"], rows, tuple(said["states"]), set(said["taken"]), set(said["entered"]))

    def add(self, other: Cover) -> None:
        """Count what the same machine did elsewhere."""
        self.taken |= other.taken
        self.entered |= other.entered


class Tally:
    """The covers of all machines whose runs were heard of."""

    def __init__(self) -> None:
        self.covers: dict[str, Cover] = {}
        """By fingerprint."""
        self._known: dict[tuple[str, str, str, str], int | None] = {}
        """Rows that were looked up already, by (fingerprint, source, event, guards)."""

    def heard(self, definition: Definition, source: str, event: str, target: str, guards: str) -> None:
        """A run of this machine made a move; `guards` is the JSON of the guards that were asked."""
        cover = self.covers.get(definition.fingerprint)
        if cover is None:
            cover = self.covers[definition.fingerprint] = Cover.of(definition)
        cover.entered.add(target)
        key = (definition.fingerprint, source, event, guards)
        if key not in self._known:
            asked = [(name, answer) for name, answer in json.loads(guards)]
            self._known[key] = row_taken(definition, source, event, asked)
        place = self._known[key]
        if place is not None and definition.rows[place].target == target:
            cover.taken.add(place)

    def add(self, covers: Iterable[Cover]) -> None:
        """Count what was heard elsewhere."""
        for cover in covers:
            self.covers.setdefault(cover.fingerprint, cover).add(cover)


def row_taken(definition: Definition, source: str, event: str, guards: Guards) -> int | None:
    """The place in the table of the row that led on from a state; None if no row did.

    The order is that of `Definition.decide`: own rows before those of anywhere, the most specific class first, then as declared.
    """
    cls = definition.events.get(event)
    if cls is None or not source:
        return None
    names = [name for each in cls.__mro__ if (name := getattr(each, "__event_name__", None)) is not None]
    tried = [
        place
        for begin in (source, "")
        for name in names
        for place, row in enumerate(definition.rows)
        if row.source == begin and row.event == name
    ]
    answers = iter(guards)
    for place in tried:
        if not definition.rows[place].guard:
            return place
        if next(answers, ("", False))[1]:
            return place
    return None


def shown(row: Row) -> str:
    """A row as people write it: `gathering.sources_found[enough_sources] -> analyzing`."""
    source, event, target, guard = row
    return f"{source or 'anywhere'}.{event}{f'[{guard}]' if guard else ''} -> {target}"
