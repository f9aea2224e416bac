"""`transitions` as a pure function: (state, event, data) to a move or a refusal. The only importer of that package.

Its machine holds the table and nothing else. Each decision drives a small throw-away cursor through it, so nothing is
registered, bound or shared, and a decision that is never committed needs no undoing. Callbacks, queues, timers,
nesting and the async machine of that package keep state in memory or swallow errors, and are not used.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from transitions import EventData, Machine, State, Transition
from transitions.core import Condition

from statecraft.machine.data import Data
from statecraft.machine.definition import Move, Refusal
from statecraft.machine.event import Event, OperatorEvent, SystemEvent, event_name
from statecraft.machine.table import DeclaredRow, Table, guard_name, reachable_rows

_log: Final = logging.getLogger("transitions")
if _log.level == logging.NOTSET:
    _log.setLevel(logging.WARNING)  # it reports every callback at INFO


class _GuardRaised(Exception):
    def __init__(self, guard: str, error: Exception) -> None:
        self.guard = guard
        self.error = error


class _Cursor:
    """The model that one decision moves."""

    __slots__ = ("data", "event", "state", "trace")

    def __init__(self, state: str, event: Event, data: Data) -> None:
        self.state = state
        self.event = event
        self.data = data
        self.trace: list[tuple[str, bool]] = []


class _Guard(Condition):
    """Asks a guard and notes the answer. Answers count by truth (the original compares them with `== True`)."""

    def __init__(self, func: Any, target: bool = True) -> None:
        super().__init__(func, target)
        self.guard: Callable[..., object] = func
        self.name = guard_name(func)

    def check(self, event_data: EventData) -> bool:
        cursor: Any = event_data.model
        try:
            answer = self.guard(cursor.event, cursor.data)
            if answer is not True and answer is not False and inspect.isawaitable(answer):
                _drop(answer)
                raise TypeError("it answered with something to await, not with True or False")
            holds = bool(answer)
        except Exception as error:
            raise _GuardRaised(self.name, error) from error
        cursor.trace.append((self.name, holds))
        return holds


def _drop(answer: object) -> None:
    """Close a coroutine that nobody will await, which would be reported once more."""
    if inspect.iscoroutine(answer):
        answer.close()


class _Edge(Transition):
    condition_cls = _Guard

    def execute(self, event_data: EventData) -> bool:
        """As the original, without the callbacks around it: none are ever declared, and every move pays for looking."""
        if not self._eval_conditions(event_data):
            return False
        cursor: Any = event_data.model
        cursor.state = self.dest
        return True


class _Machine(Machine):
    transition_cls = _Edge

    def callbacks(self, funcs: Iterable[Any], event_data: EventData) -> None:
        """None are ever declared, and looking for them takes half the time of a decision."""


class Kernel:
    """Decides for one machine. Built once when the machine closes; stateless, so it may be shared by threads."""

    def __init__(self, name: str, states: Sequence[str], finals: Iterable[str], table: Table) -> None:
        self._finals = frozenset(finals)
        self._enabled: dict[str, tuple[str, ...]] = _names_by_state(states, table)
        self._expected = _names_by_state(
            states, {key: () for key in table if not issubclass(key[1], SystemEvent | OperatorEvent)}
        )
        self._machine = _Machine(
            model=None,
            states=[State(state, final=state in self._finals) for state in states],
            transitions=[_edge(state, event, row) for (state, event), rows in table.items() for row in reachable_rows(rows)],
            initial=states[0],
            auto_transitions=False,
            send_event=True,
            queued=False,
            name=name,
        )
        self._table = {(state, event): event_name(event) for state, event in table}

    @property
    def enabled(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the events that have a row, by state."""
        return self._enabled

    def decide(self, state: str, event: Event, data: Data) -> Move | Refusal:
        """Where the event leads from the state. Asks the guards; changes nothing."""
        name = self._table.get((state, type(event)))
        if name is None:
            return Refusal(state, event_name(type(event)), self._why_not(state, type(event)))
        cursor = _Cursor(state, event, data)
        try:
            moved = self._machine.events[name].trigger(cursor)
        except _GuardRaised as raised:
            reason = f"guard {raised.guard} raised {type(raised.error).__name__}: {raised.error}"
            return Refusal(state, name, reason, tuple(cursor.trace))
        if not moved:
            asked = ", ".join(guard for guard, _ in cursor.trace)
            return Refusal(state, name, f"every guard of {state}.{name} refused ({asked})", tuple(cursor.trace))
        return Move(state, name, cursor.state, tuple(cursor.trace))

    def _why_not(self, state: str, event: type[Event]) -> str:
        if state in self._finals:
            return f"{state} is final; no event leaves it"
        if state not in self._enabled:
            return f"the machine has no state {state!r}"
        return f"{state} has no row for {event_name(event)}; it takes {', '.join(self._expected[state])}"


def _edge(state: str, event: type[Event], row: DeclaredRow) -> dict[str, Any]:
    return {"trigger": event_name(event), "source": state, "dest": row.target, "conditions": row.guard}


def _names_by_state(states: Sequence[str], table: Table) -> dict[str, tuple[str, ...]]:
    return {name: tuple(event_name(event) for state, event in table if state == name) for name in states}
