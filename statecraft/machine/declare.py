"""`Machine`: where states are declared, and closed into a `Definition` by the one call that states the table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Generic, Never, Protocol, overload

from statecraft.errors import ConfigError, DefinitionError, Finding
from statecraft.machine.alphabet import Unreadable, calling_scope, is_subclass, read_events
from statecraft.machine.budget import Budget
from statecraft.machine.calling import asks_model
from statecraft.machine.caps import PerVisit, checked
from statecraft.machine.check import check
from statecraft.machine.context import AnyTool, Run
from statecraft.machine.covering import Path, PathKind, paths
from statecraft.machine.data import D, Data, merge_plan
from statecraft.machine.definition import START_EVENT, Definition, Handler, RowSpec, StateSpec
from statecraft.machine.event import REWRITES, SYSTEM_EVENTS, E, Event, event_name
from statecraft.machine.fingerprint import canonical, fingerprint, specification
from statecraft.machine.kernel import Kernel
from statecraft.machine.migration import Migration, check_migrations, not_itself
from statecraft.machine.properties import Property, only_properties
from statecraft.machine.proving import Counterexample, counterexample
from statecraft.machine.shortfall import check_budgets
from statecraft.machine.state import Anywhere, Ask, Final, On, Review, Row, State, Target
from statecraft.machine.table import ANYWHERE, Declaration, DeclaredRow, DeclaredState, Table, expand, reachable_rows
from statecraft.machine.worst import WorstCase, worst_case


class _TakesHandler(Protocol[D]):
    """Decorates the handler of a state."""

    @overload
    def __call__(self, fn: Callable[[Run[D]], Coroutine[Any, Any, E]], /) -> State[D, E]: ...
    @overload
    def __call__(self, fn: Callable[[Run[D]], E], /) -> State[D, E]: ...


class _TakesReview(Protocol[D]):
    """Decorates the handler of a review."""

    @overload
    def __call__(self, fn: Callable[[Run[D]], Coroutine[Any, Any, Ask[E]]], /) -> Review[D, E]: ...
    @overload
    def __call__(self, fn: Callable[[Run[D]], Ask[E]], /) -> Review[D, E]: ...


class Machine(Generic[D]):
    """A machine under construction: declare states, then close it with `transitions(...)`.

    `version` is for people; what decides whether a run may go on is the fingerprint. `max_steps` bounds the transitions
    of a run, `deadline` the time from its start, `budget` what it may spend. `migrations`, oldest first, say how runs of older
    definitions go on under this one.
    """

    def __init__(
        self,
        name: str,
        *,
        data: type[D],
        version: str = "1",
        max_steps: int = 100,
        deadline: timedelta | None = None,
        budget: Budget | None = None,
        migrations: Sequence[Migration] = (),
    ) -> None:
        given: object = name
        if not isinstance(given, str) or not name or any(letter.isspace() for letter in name):
            raise ConfigError(f"a machine's name has at least one letter and no spaces, not {name!r}")
        if not is_subclass(data, Data):
            raise ConfigError(f"the data of machine {name} must be a subclass of Data, not {data!r}")
        if not isinstance(version, str):
            raise ConfigError(f"the version of machine {name} is text, such as version='2', not {version!r}")
        self.name = name
        self.version = version
        self.data_type = data
        self.anywhere: Anywhere[D] = Anywhere(self)
        """Source of rows that hold in every state that is not final."""
        self._bounds = (max_steps, deadline, budget)
        self._migrations = _only_migrations(migrations)
        self._states: list[DeclaredState] = []
        self._functions: dict[str, Callable[..., Any]] = {}
        self._definition: Definition | None = None
        self._findings: tuple[Finding, ...] = ()
        self._stated: tuple[Sequence[Row[D]], tuple[Property[D], ...]] = ((), ())

    def __repr__(self) -> str:
        return f"<machine {self.name} {self.version}>"

    # --- states -------------------------------------------------------------------------------------------------------

    def state(
        self,
        *bare: Never,
        start: bool = False,
        max_visits: int | None = None,
        timeout: timedelta | None = None,
        tools: Sequence[AnyTool] = (),
        children: Sequence[Machine[Any]] = (),
        budget: Budget | None = None,
        per_visit: PerVisit = None,
    ) -> _TakesHandler[D]:
        """Declare a state by its handler: its name is the function's, its events are the return annotation.

        `max_visits` bounds how often a run enters it, `timeout` how long one visit takes, `tools` is all its handler and
        its model may call, `children` all machines that it may run as child runs, `budget` what all its visits in one run
        may spend, `per_visit` what each of them may (0: it makes no calls). A plain `def` handler runs in a thread.
        """
        self._refuse_bare("state", bare)
        if isinstance(budget, Budget) and budget.wall is not None:
            raise ConfigError("a state's budget has no wall: bound each visit with timeout=, or the run with Machine(budget=...)")
        kept = _only_tools(tools)
        nested = _only_machines(children)
        declared = DeclaredState(
            "",
            "work",
            start=start,
            max_visits=max_visits,
            timeout=timeout,
            tools=kept,
            children=nested,
            budget=budget,
            per_visit=checked(per_visit),
        )

        def take(fn: Callable[[Run[D]], Any], /) -> State[D, Any]:
            return State(self._declare(declared, fn), self, fn)

        return take

    def review(self, *bare: Never, timeout: timedelta | None = None) -> _TakesReview[D]:
        """Declare a state in which a person decides. Its handler answers `Ask[A | B]`; the decision is one of those
        events. `timeout` is how long the person may take; then the event is `ReviewExpired`."""
        self._refuse_bare("review", bare)
        declared = DeclaredState("", "review", timeout=timeout)

        def take(fn: Callable[[Run[D]], Any], /) -> Review[D, Any]:
            return Review(self._declare(declared, fn), self, fn)

        return take

    def final(self, name: str, *, ok: bool = False) -> Final[D]:
        """Declare a state in which runs end: as done if `ok`, else as failed."""
        self._refuse_if_closed()
        self._states.append(DeclaredState(name, "final", ok=ok))
        return Final(name, self)

    def _declare(self, declared: DeclaredState, fn: Callable[..., Any]) -> str:
        self._refuse_if_closed()
        name = str(getattr(fn, "__name__", type(fn).__name__))
        state = replace(declared, name=name, doc=inspect.getdoc(fn) or "", asks=asks_model(fn))
        self._states.append(self._with_events(state, fn, calling_scope(fn)))
        self._functions[name] = fn
        return name

    def _with_events(self, state: DeclaredState, fn: Callable[..., Any], scope: Mapping[str, Any]) -> DeclaredState:
        try:
            events = read_events(fn, review=state.kind == "review", scope=scope)
        except Unreadable as reason:
            return replace(state, unread=str(reason))
        return replace(state, events=events, unread="")

    def _refuse_bare(self, kind: str, given: tuple[object, ...]) -> None:
        if given:
            raise ConfigError(f"write @{self.name}.{kind}(...) with parentheses and named settings, not @{self.name}.{kind}")

    def _refuse_if_closed(self) -> None:
        if self._definition is not None:
            raise ConfigError(f"machine {self.name} is closed: declare states before machine.transitions(...), and call it once")

    # --- the table ----------------------------------------------------------------------------------------------------

    def transitions(self, *rows: Row[D], properties: Sequence[Property[D]] = ()) -> None:
        """State the whole table and close the machine. `properties` (`never`, `always`, `eventually`) are stated of
        all its runs, and proven here.

        Raises `DefinitionError` with every error found; the machine then stays open. Warnings are kept in `findings`.
        """
        self._refuse_if_closed()
        self._stated = rows, only_properties(properties)
        declaration, findings = self._examined()
        errors = [finding for finding in findings if finding.level == "error"]
        if errors:
            raise DefinitionError(self.name, errors)
        definition = replace(_close(declaration, self._functions), migrations=self._migrations)
        if vain := not_itself(self._migrations, definition.fingerprint):
            raise DefinitionError(self.name, vain)
        self._findings = tuple(findings)
        self._definition = definition

    def check(self) -> tuple[Finding, ...]:
        """Everything that is wrong or doubtful about the machine as it stands, errors first. Never raises. Beyond `findings`
        it looks at the worst case, which takes too long for every import.

        Works on a closed machine, and on an open one: then with the table that `transitions(...)` refused, or none.
        """
        if self._definition is None:
            return tuple(self._examined()[1])
        return (*self._findings, *check_budgets(self._definition, self.worst_case()))

    def counterexample(self, claim: Property[D], /) -> Counterexample | None:
        """A possible run that breaks the property, with as few moves as there can be; None if it holds.

        For properties that are no part of the declaration: `assert machine.counterexample(never(sent, before=Approved)) is None`.
        Raises `ConfigError` for a machine that is not closed, and for a property of another one.
        """
        self.definition  # noqa: B018  # an open machine is told with its own error
        [given] = only_properties([claim])
        if foreign := _foreign(self, given):
            raise ConfigError(f"{given} names {foreign}, which is no state of {self.name}")
        declaration, _ = self._read()
        return counterexample(declaration, expand(declaration), given)

    def _examined(self) -> tuple[Declaration, list[Finding]]:
        """What is declared so far, with all findings."""
        declaration, found = self._read()
        every = [*found, *check(declaration), *check_migrations(self._migrations, declaration)]
        return declaration, sorted(every, key=lambda finding: finding.level)

    def _read(self) -> tuple[Declaration, list[Finding]]:
        """What is declared so far by names, with what cannot be said by names."""
        for i, state in enumerate(self._states):
            if state.unread:  # an event declared after the handler that names it
                fn = self._functions[state.name]
                self._states[i] = self._with_events(state, fn, calling_scope(fn))
        rows, claims = self._stated
        found: list[Finding] = []
        declared = [row for row in (_declared(self, row, found) for row in rows) if row is not None]
        for claim in claims:
            if foreign := _foreign(self, claim):
                message = f"{claim} names {foreign}, which is no state of {self.name}"
                found.append(Finding("SC101", "error", self.name, message, f"name states of {self.name} itself"))
        own = tuple(claim for claim in claims if not _foreign(self, claim))
        return replace(self._declaration(declared), properties=own), found

    def _declaration(self, rows: Sequence[DeclaredRow]) -> Declaration:
        max_steps, deadline, budget = self._bounds
        states = tuple(self._states)
        return Declaration(self.name, self.version, self.data_type, states, tuple(rows), max_steps, deadline, budget)

    @property
    def definition(self) -> Definition:
        """The closed form. Raises `ConfigError` before `transitions(...)` has accepted the table."""
        if self._definition is None:
            raise ConfigError(f"machine {self.name} is not closed: call {self.name}.transitions(...) with its rows")
        return self._definition

    def worst_case(self) -> WorstCase:
        """The most steps, calls, tokens, money and time that any run of the closed machine may use, each with a run that does.

        Raises `ConfigError` before `transitions(...)`.
        """
        return worst_case(self.definition)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The warnings of a closed machine."""
        return self._findings

    @property
    def properties(self) -> tuple[Property[D], ...]:
        """What was stated with the table. Those of a closed machine hold."""
        return self._stated[1]

    def paths(self, kind: PathKind = "transitions") -> list[Path]:
        """Paths from the start that together enter all `states`, take all `transitions` (rows) or all `pairs` of rows that can
        follow each other; `simple`: each way to an end that enters no state twice. For `pytest.mark.parametrize(..., ids=str)`
        and `statecraft.testing.drive`. Rows of operators, and rows that no run within its bounds can take, are in none.

        Raises `ConfigError` for another kind, or before the machine is closed.
        """
        self.definition  # noqa: B018  # an open machine is told with its own error
        return paths(self._read()[0], kind)


# --- from what was written to what is meant ---------------------------------------------------------------------------


def _only_tools(tools: Sequence[AnyTool]) -> tuple[AnyTool, ...]:
    if not isinstance(tools, Sequence):
        raise ConfigError(f"tools takes a list, such as tools=[search], not {tools!r}")
    for tool in tools:
        if not isinstance(getattr(tool, "name", None), str):
            raise ConfigError(f"{getattr(tool, '__name__', tool)!r} in tools is no tool: decorate the function with @tool")
    return tuple(tools)


def _only_machines(children: Sequence[Machine[Any]]) -> tuple[Machine[Any], ...]:
    given: object = children
    if not isinstance(given, Sequence) or not all(isinstance(each, Machine) for each in given):
        raise ConfigError(f"children takes a list of machines, such as children=[research], not {children!r}")
    return tuple(children)


def _only_migrations(migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    given: object = migrations
    if not isinstance(given, Sequence) or not all(isinstance(each, Migration) for each in given):
        raise ConfigError(f"migrations takes a list, such as migrations=[Migration(since='1')], not {migrations!r}")
    return tuple(migrations)


def _declared(machine: Machine[Any], row: object, found: list[Finding]) -> DeclaredRow | None:
    """A row by names, or None with a finding if it is none. The type checker refuses all of this; not everybody asks it."""
    if not isinstance(row, Row):
        what = f"{_half(row)} has no target" if isinstance(row, On) else f"{row!r} is not a row"
        found.append(Finding("SC114", "error", machine.name, what, "write source.on(event) >> target"))
        return None
    place = f"{row.source.name or 'anywhere'}.{getattr(row.event, '__event_name__', row.event)}"
    if not is_subclass(row.event, Event):
        found.append(Finding("SC114", "error", place, f"{row.event!r} is not an event class", "subclass statecraft.Event"))
        return None
    if row.source.machine is not machine:
        message = f"the row begins with {row.source.name or 'anywhere'}, which is no state of {machine.name}"
        found.append(Finding("SC101", "error", place, message, f"begin it with a state of {machine.name}"))
        return None
    target: object = row.target
    if isinstance(target, Target) and target.machine is machine:
        return DeclaredRow(row.source.name, row.event, target.name, row.guard)
    what = f"{target.name}, a state of another machine" if isinstance(target, Target) else f"{target!r}, which is not a state"
    found.append(Finding("SC101", "error", place, f"the row leads to {what}", f"lead to a state of {machine.name} itself"))
    return DeclaredRow(row.source.name, row.event, "", row.guard)


def _foreign(machine: Machine[Any], claim: Property[Any]) -> str:
    """The states of a property that belong to another machine, by name; empty if none does."""
    return ", ".join(state.name for state in claim.named if state.machine is not machine)


def _half(row: On[Any]) -> str:
    return f"{row.source.name or 'anywhere'}.on({getattr(row.event, '__name__', row.event)})"


def _close(declaration: Declaration, functions: Mapping[str, Callable[..., Any]]) -> Definition:
    """The definition of a declaration without errors."""
    table = expand(declaration)
    edges = _edges(declaration, table)
    spec = specification(declaration)
    events = dict.fromkeys((*declaration.own_events, *SYSTEM_EVENTS, *REWRITES))
    states = {state.name: _state_spec(state) for state in declaration.states}
    return Definition(
        name=declaration.name,
        version=declaration.version,
        fingerprint=fingerprint(spec, edges),
        spec=canonical(spec),
        data_type=declaration.data,
        events=MappingProxyType({event_name(event): event for event in events}),
        states=MappingProxyType(states),
        rows=tuple(RowSpec(row.source, event_name(row.event), row.target, row.guard_name) for row in declaration.rows),
        start=edges[0][2],
        max_steps=declaration.max_steps,
        deadline=declaration.deadline,
        budget=declaration.budget,
        handlers=MappingProxyType(
            {state.name: _handler(functions[state.name], state) for state in declaration.states if not state.final}
        ),
        plans=MappingProxyType({event_name(event): merge_plan(declaration.data, event) for event in events}),
        edges=edges,
        kernel=Kernel(declaration.name, list(states), [state.name for state in declaration.states if state.final], table),
    )


def _edges(declaration: Declaration, table: Table) -> tuple[tuple[str, str, str], ...]:
    start = next(state.name for state in declaration.states if state.start)
    moves = ((name, event_name(event), row.target) for (name, event), rows in table.items() for row in reachable_rows(rows))
    return tuple(dict.fromkeys([(ANYWHERE, START_EVENT, start), *moves]))


def _state_spec(state: DeclaredState) -> StateSpec:
    return StateSpec(
        name=state.name,
        kind=state.kind,
        ok=state.ok,
        max_visits=state.max_visits,
        timeout=state.timeout,
        events=tuple(event_name(event) for event in state.events),
        tools=tuple(tool.name for tool in state.tools),
        doc=state.doc,
        budget=state.budget,
        per_visit=state.per_visit,
    )


def _handler(fn: Callable[..., Any], state: DeclaredState) -> Handler:
    is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
    return Handler(fn, is_async, state.tools, state.children)
