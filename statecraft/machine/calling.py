"""Which states may call something that costs, and whether anything limits how much."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from statecraft.errors import Finding
from statecraft.machine.budget import Budget
from statecraft.machine.table import Declaration, DeclaredState


def asks_model(fn: Callable[..., Any]) -> bool:
    """Whether the code of a handler, or of a function of its module that it names, mentions `.llm`.

    Enough to warn and to ask for a key early; what cannot be seen in the code (a function handed in) is not found.
    """
    return _mentions(inspect.unwrap(fn), "llm", set())


def _mentions(fn: object, name: str, seen: set[object]) -> bool:
    if not isinstance(fn, FunctionType) or fn in seen:
        return False
    seen.add(fn)
    names = {each for code in _codes(fn.__code__) for each in code.co_names}
    near = (fn.__globals__.get(each) for each in names)
    return name in names or any(
        _mentions(each, name, seen) for each in near if getattr(each, "__module__", None) == fn.__module__
    )


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def check_caps(declaration: Declaration) -> Iterator[Finding]:
    """SC123, once for the machine: states that call without a limit on tokens, money or calls."""
    if _limits(declaration.budget):
        return
    open_ended = {state.name: _what(state) for state in declaration.states if _what(state) and not _capped(state)}
    if not open_ended:
        return
    states = ", ".join(f"{name} ({what})" for name, what in open_ended.items())
    message = f"nothing limits how much these states call: {states}"
    fix = "give the machine, or each of them, a budget=Budget(tokens=..., calls=...), or the state per_visit="
    yield Finding("SC123", "warning", declaration.name, message, fix)


def _what(state: DeclaredState) -> str:
    """What its handler may call; empty if nothing is known."""
    kinds = (("model", state.asks), ("tools", bool(state.tools)), ("children", bool(state.children)))
    return ", ".join(kind for kind, called in kinds if called)


def _capped(state: DeclaredState) -> bool:
    return _limits(state.budget) or _limits(state.per_visit)


def _limits(budget: Budget | None) -> bool:
    return isinstance(budget, Budget) and bool(budget.limits)
