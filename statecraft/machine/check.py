"""Everything that can be wrong with a machine, found before it runs. Pure: a declaration in, findings out.

SC100  not exactly one start state            SC113  review that may expire without a row for it
SC101  row with an unknown or foreign state   SC114  half a row
SC102  unreachable state                      SC115  state name used twice, or not a name
SC103  trap: no way to any final state        SC116  two events with one name
SC104  no way left to succeed (warning)       SC117  payload that can never merge
SC105  final state with exits                 SC118  handler whose events cannot be read
SC106  state without exits                    SC119  guard that is not a plain function
SC107  review without a timeout               SC120  cycle without a bound (warning; with no handler in it: error)
SC108  row that is never reached              SC121  bound that never binds (warning)
SC109  guarded rows without a default         SC122  bounded state without a row for the bound
SC110  the same guard twice                   SC123  calls without any cap (warning)
SC111  event without a row                    SC124  bound that is not positive
SC112  row for an impossible event            SC125  guard without a name (warning)
SC126  type that cannot be written as JSON    SC130  property that does not hold
SC127  two tools with one name                SC131  budget below the worst case (warning)
SC140  runs in flight that a definition cannot host (`statecraft check --against`)
SC141  migration to an unknown state          SC145  migration with a function that is not plain
SC142  migration to a final state             SC146  migration of an event to one that no review takes
SC143  two migrations with one origin         SC147  migration from the definition itself
SC144  choice of a state that names no states
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

from pydantic.errors import PydanticUserError

from statecraft.errors import Finding
from statecraft.machine.budget import Budget
from statecraft.machine.calling import check_caps
from statecraft.machine.data import Data, clashes, misplaced_appends, unreadable_fields
from statecraft.machine.definition import START_EVENT
from statecraft.machine.event import REWRITES, SYSTEM_EVENTS, Event, ReviewExpired, SystemEvent, VisitsExhausted, event_name
from statecraft.machine.paths import check_paths
from statecraft.machine.proving import check_properties
from statecraft.machine.table import (
    ANYWHERE,
    Declaration,
    DeclaredRow,
    DeclaredState,
    Table,
    expand,
    is_operators,
    is_possible,
    reachable_rows,
)

_DURATION = "give a duration such as statecraft.minutes(5), or None"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def check(declaration: Declaration) -> list[Finding]:
    """All findings, errors first. Paths are only judged when every state is known and every row leads to one.

    What a row's two ends are (SC101, SC114) is judged by whoever collects the rows, since names alone do not tell.
    """
    found = [*_names(declaration), *_bounds(declaration), *_types(declaration), *_guards(declaration)]
    table = expand(declaration)
    found += _rows(declaration, table)
    for state in declaration.states:
        found += _exits(declaration, table, state)
    found += check_caps(declaration)
    codes = {finding.code for finding in found}
    if not codes & {"SC100", "SC115", "SC116", "SC118"} and all(row.target for row in declaration.rows):
        found += check_paths(declaration, table)
        if "SC124" not in codes:
            found += check_properties(declaration, table)
    return sorted(found, key=lambda finding: finding.level)


def _error(code: str, where: str, message: str, fix: str) -> Finding:
    return Finding(code, "error", where, message, fix)


def _warning(code: str, where: str, message: str, fix: str) -> Finding:
    return Finding(code, "warning", where, message, fix)


# --- names, bounds, types ---------------------------------------------------------------------------------------------


def _names(declaration: Declaration) -> Iterator[Finding]:
    starts = [state.name for state in declaration.states if state.start]
    if len(starts) != 1:
        what = f"{len(starts)} start states ({', '.join(starts)})" if starts else "no start state"
        yield _error("SC100", declaration.name, f"the machine has {what}", "pass start=True to exactly one @machine.state")
    for name, times in Counter(state.name for state in declaration.states).items():
        if times > 1:
            yield _error("SC115", name, f"{times} states are called {name}", "give each state its own name")
        if not _NAME.match(name):
            yield _error("SC115", name, f"{name!r} is not a name", "use letters, digits and underscores")
    for state in declaration.states:
        if state.unread:
            shape = "Ask[A | B]" if state.kind == "review" else "A | B"
            fix = f"annotate it with the events it answers with: -> {shape}, classes that are known where it is declared"
            yield _error("SC118", state.name, f"the events of {state.name} cannot be read: {state.unread}", fix)
        for tool, times in Counter(tool.name for tool in state.tools).items():
            if times > 1:
                yield _error(
                    "SC127", state.name, f"{times} tools of {state.name} are called {tool}", "give each tool its own name"
                )
    yield from _event_names(declaration)


def _event_names(declaration: Declaration) -> Iterator[Finding]:
    classes: dict[str, list[type[Event]]] = {}
    for event in dict.fromkeys((*SYSTEM_EVENTS, *REWRITES, *declaration.own_events)):
        classes.setdefault(event_name(event), []).append(event)
    for name, same in classes.items():
        if len(same) > 1:
            places = " and ".join(f"{event.__module__}.{event.__qualname__}" for event in same)
            yield _error("SC116", name, f"{places} are both the event {name}", "rename one of the classes")
    if START_EVENT in classes:
        yield _error("SC116", START_EVENT, f"the event {START_EVENT} is what begins every run", "rename the class")


def _bounds(declaration: Declaration) -> Iterator[Finding]:
    zero = timedelta(0)
    duration = "give a duration above zero, or None"
    if not _is_whole(declaration.max_steps):
        yield _error("SC124", declaration.name, f"max_steps is {declaration.max_steps!r}", "give a whole number of steps")
    elif declaration.max_steps < 1:
        yield _error("SC124", declaration.name, f"max_steps is {declaration.max_steps}", "allow at least one step")
    if declaration.budget is not None and not isinstance(declaration.budget, Budget):
        yield _error("SC124", declaration.name, f"the budget is {declaration.budget!r}", "write budget=Budget(tokens=...)")
    if declaration.deadline is not None and not isinstance(declaration.deadline, timedelta):
        yield _error("SC124", declaration.name, f"the deadline is {declaration.deadline!r}", _DURATION)
    elif declaration.deadline is not None and declaration.deadline <= zero:
        yield _error("SC124", declaration.name, f"the deadline is {declaration.deadline}", duration)
    for state in declaration.states:
        if state.budget is not None and not isinstance(state.budget, Budget):
            message = f"the budget of {state.name} is {state.budget!r}"
            yield _error("SC124", state.name, message, "write budget=Budget(...)")
        if state.max_visits is not None and not (_is_whole(state.max_visits) and state.max_visits >= 1):
            message = f"max_visits of {state.name} is {state.max_visits!r}"
            yield _error("SC124", state.name, message, "allow at least one visit, or None")
        if state.timeout is not None and not isinstance(state.timeout, timedelta):
            yield _error("SC124", state.name, f"the timeout of {state.name} is {state.timeout!r}", _DURATION)
        elif state.timeout is not None and state.timeout <= zero:
            yield _error("SC124", state.name, f"the timeout of {state.name} is {state.timeout}", duration)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _types(declaration: Declaration) -> Iterator[Finding]:
    data = declaration.data
    for field in misplaced_appends(data):
        where = f"{data.__name__}.{field}"
        yield _error("SC117", where, "Append must be outermost, around a list or a tuple", f"write {field}: Append[list[...]]")
    models: list[type[Data | Event]] = [data, *declaration.own_events]
    for model in models:
        yield from _schema(model)
        for field, why in unreadable_fields(model):
            fix = "write and read it under one name, or leave it out"
            yield _error("SC126", f"{model.__name__}.{field}", f"it cannot be read back from the database: {why}", fix)
    for event in declaration.own_events:
        for field, why in clashes(data, event):
            where = f"{event.__name__}.{field}"
            fix = f"give {field} one type in both, or rename the field of {event.__name__} to keep it out of the data"
            yield _error("SC117", where, f"it merges into {data.__name__}.{field}, but {why}", fix)


def _schema(model: type[Data | Event]) -> Iterator[Finding]:
    try:
        model.model_json_schema()
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        yield _error("SC126", model.__name__, f"it cannot be written as JSON ({reason})", "use JSON values and pydantic models")


# --- rows -------------------------------------------------------------------------------------------------------------


def _guards(declaration: Declaration) -> Iterator[Finding]:
    seen: dict[tuple[str, type[Event]], list[DeclaredRow]] = {}
    for row in declaration.rows:
        if row.guard is None:
            continue
        call = row.guard if inspect.isroutine(row.guard) else getattr(row.guard, "__call__", row.guard)  # noqa: B004
        if inspect.iscoroutinefunction(row.guard) or inspect.iscoroutinefunction(call):
            fix = "write a plain def; what needs to wait or to ask a model is a state of its own"
            yield _error("SC119", row.place, f"guard {row.guard_name} is async, so it would always hold", fix)
        elif inspect.isgeneratorfunction(row.guard) or inspect.isgeneratorfunction(call):
            yield _error("SC119", row.place, f"guard {row.guard_name} yields, so it would always hold", "return a bool instead")
        elif not _takes_two(row.guard):
            message = f"guard {row.guard_name} cannot be called with an event and the data"
            yield _error("SC119", row.place, message, f"write def {row.guard_name}(event, data) -> bool")
        if row.guard_name == "lambda":
            fix = "use a def with a telling name"
            yield _warning("SC125", row.place, "the guard has no name, so journal and diagram call it lambda", fix)
        before = seen.setdefault((row.source, row.event), [])
        if any(other.guard == row.guard for other in before):
            yield _error("SC110", row.place, f"guard {row.guard_name} is asked twice", "remove one of the two rows")
        before.append(row)


def _takes_two(guard: Callable[..., object]) -> bool:
    try:
        inspect.signature(guard).bind(object(), object())
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


def _rows(declaration: Declaration, table: Table) -> Iterator[Finding]:
    finals = {state.name for state in declaration.states if state.final}
    unread = {state.name for state in declaration.states if state.unread}
    matched = {row: None for rows in table.values() for row in rows}
    reached = {row: None for rows in table.values() for row in reachable_rows(rows)}
    repeated = {finding.where for finding in _guards(declaration) if finding.code == "SC110"}
    for row in declaration.rows:
        if row.source in finals and row.source != ANYWHERE:
            fix = "remove the row, or declare the state with @machine.state"
            yield _error("SC105", row.place, f"{row.source} is final, so {row} can never be taken", fix)
        elif row.source in unread:
            continue
        elif not _may_happen(declaration, table, row):
            yield _impossible(row)
        elif row in matched and row not in reached and row.place not in repeated:
            fix = "move it before the row without a guard, or remove it"
            if row.source == ANYWHERE:  # rows of a state always come first
                fix = "remove it, or give the states it is meant for rows of their own"
            yield _error("SC108", row.place, f"{row} is never reached: a row without a guard comes before it", fix)


def _may_happen(declaration: Declaration, table: Table, row: DeclaredRow) -> bool:
    states = {state.name: state for state in declaration.states}
    return any(row in rows and is_possible(declaration, states[state], event) for (state, event), rows in table.items())


def _impossible(row: DeclaredRow) -> Finding:
    message = f"{event_name(row.event)} never happens in {row.source or 'any state'}, so {row} can never be taken"
    if issubclass(row.event, SystemEvent):
        return _warning("SC112", row.place, message, _cure(row.event) or "remove the row")
    if row.source == ANYWHERE:
        fix = f"give {row.event.__name__} a row in each state that declares it; rows of anywhere are for system events"
        return _error("SC112", row.place, message, fix)
    return _error("SC112", row.place, message, f"remove the row, or add {row.event.__name__} to the handler's return annotation")


def _cure(event: type[Event]) -> str:
    return {
        "state_timeout": "remove the row, or give the state a timeout",
        "review_expired": "remove the row: only a review with a timeout expires, or a question about a call of the state's tools",
        "deadline_passed": "remove the row, or give the machine a deadline",
        "visits_exhausted": "remove the row, or give the state max_visits",
    }.get(event_name(event), "")


# --- the way out of each state ----------------------------------------------------------------------------------------


def _exits(declaration: Declaration, table: Table, state: DeclaredState) -> Iterator[Finding]:
    if state.final or state.unread:
        return
    events = [event for event in state.events if (state.name, event) not in table]
    ways = (event for source, event in table if source == state.name and not is_operators(event))
    if not any(is_possible(declaration, state, event) for event in ways):
        missing = ", ".join(f"{state.name}.on({event.__name__}) >> ..." for event in events) or f"{state.name}.on(...) >> ..."
        yield _error("SC106", state.name, f"nothing leads out of {state.name}", f"add a row: {missing}")
    else:
        for event in events:
            fix = f"add {state.name}.on({event.__name__}) >> ..., or drop the event from the annotation"
            message = f"{state.name} may answer {event_name(event)}, but no row takes it"
            yield _error("SC111", f"{state.name}.{event_name(event)}", message, fix)
    raised = [event for event in (VisitsExhausted, ReviewExpired) if is_possible(declaration, state, event)]
    for event in dict.fromkeys((*state.events, *raised)):
        rows = table.get((state.name, event), ())
        if rows and all(row.guard is not None for row in rows):
            guards = ", ".join(row.guard_name for row in rows)
            message = f"{state.name} has only guarded rows for {event_name(event)} ({guards}), and all may refuse"
            fix = f"end with a row without a guard: {state.name}.on({event.__name__}) >> ..."
            yield _error("SC109", f"{state.name}.{event_name(event)}", message, fix)
    if state.kind == "review":
        yield from _review(table, state)


def _review(table: Table, state: DeclaredState) -> Iterator[Finding]:
    if state.timeout is None:
        fix = "say how long a person may take: @machine.review(timeout=days(2))"
        yield _error("SC107", state.name, f"{state.name} waits for a person without a timeout, perhaps for ever", fix)
    elif (state.name, ReviewExpired) not in table:
        fix = f"add {state.name}.on(ReviewExpired) >> ..., or machine.anywhere.on(Failure) >> ..."
        yield _error("SC113", state.name, f"{state.name} may expire, but no row takes review_expired", fix)
