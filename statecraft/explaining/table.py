"""Which row of the table was taken, and why each other row of the state was not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from statecraft.engine.history import REWRITTEN
from statecraft.explaining.facts import ExplainedRow, Verdict
from statecraft.explaining.past import SYSTEM, Stored
from statecraft.machine.event import Event, OperatorEvent, event_name
from statecraft.records import TransitionRecord

Row = Mapping[str, Any]


def rows_of(stored: Stored, state: str, move: TransitionRecord | None) -> tuple[ExplainedRow, ...]:
    """The rows of a state, its own first, each with what became of it in the move that left the state (None: none has)."""
    every = [row for source in (state, "") for row in stored.spec["rows"] if row["source"] == source]
    if stored.state(state).get("kind") == "final":
        return ()
    if move is None:
        return tuple(_row(row, "open", "nothing was decided yet") for row in every)
    if move.event in REWRITTEN:
        return tuple(_row(row, "other", f"no row is asked about {move.event}") for row in every)
    found = dict(_tried(stored, move, every))
    return tuple(_row(row, *found.get(index, ("other", f"it is for {row['event']}"))) for index, row in enumerate(every))


def _row(row: Row, verdict: Verdict, why: str) -> ExplainedRow:
    return ExplainedRow(row["source"], row["event"], row["target"], row.get("guard") or "", row.get("by") or "", verdict, why)


def _tried(stored: Stored, move: TransitionRecord, every: Sequence[Row]) -> Iterator[tuple[int, tuple[Verdict, str]]]:
    """Walk the rows for the event as the machine did, with the recorded answers of the guards."""
    answers = list(move.guards)
    taken: Row | None = None
    for index in in_order(stored, move, every):
        row = every[index]
        if taken is not None:
            yield index, _after(taken, row)
        elif not row.get("guard"):
            taken = row
            yield index, ("taken", "it has no guard" if move.guards else "it is the row for this event")
        elif answers and answers[0][0] == row["guard"]:
            name, holds = answers.pop(0)
            taken = row if holds else None
            yield index, ("taken", f"guard {name} said yes") if holds else ("refused", f"guard {name} said no")


def in_order(stored: Stored, move: TransitionRecord, every: Sequence[Row]) -> list[int]:
    """Indexes of the rows that take the event, in the order in which they are tried: the state's own before those of
    anywhere, in each the most specific class of the event first, and for one class as declared."""
    wider = classes(stored, move.event)
    places = [(row["source"] == "", wider.index(row["event"]), index) for index, row in enumerate(every) if row["event"] in wider]
    found = [index for _, _, index in sorted(places)]
    if found:
        return found
    # A definition stored before it kept which classes are wider: the edge tells at least where the row led.
    return [index for index, row in enumerate(every) if row["target"] == move.target][:1]


def classes(stored: Stored, event: str) -> list[str]:
    """Names of the event and of the wider classes that a row may name, most specific first."""
    if event in SYSTEM:
        return [event_name(cls) for cls in SYSTEM[event].__mro__ if issubclass(cls, Event)]
    operators = [event_name(OperatorEvent)] if _is_operators(stored, event) else []
    return list(dict.fromkeys((event, *stored.spec.get("wider", {}).get(event, ()), *operators, event_name(Event))))


def _is_operators(stored: Stored, event: str) -> bool:
    return any(row["event"] == event and row.get("by") == "operator" for row in stored.spec["rows"])


def _after(taken: Row, row: Row) -> tuple[Verdict, str]:
    if taken["source"] and not row["source"]:
        return "wider", "the state's own row comes before those of anywhere"
    if taken["event"] != row["event"]:
        return "wider", f"the row for {taken['event']} is more specific than the one for {row['event']}"
    return "later", "an earlier row was taken"
