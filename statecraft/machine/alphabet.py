"""Which events a handler may answer with: read from its return annotation."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from inspect import unwrap
from typing import Any, Union, get_args, get_origin, get_type_hints

from statecraft.machine.event import Event, Failure, OperatorEvent, SystemEvent
from statecraft.machine.state import Ask


class Unreadable(Exception):
    """The annotation does not say which events there are. Its text is one clause that says why."""


def read_events(fn: Callable[..., object], *, review: bool, scope: Mapping[str, Any]) -> tuple[type[Event], ...]:
    """The event classes of `-> A | B` (or, for a review, of `-> Ask[A | B]`). Raises `Unreadable`.

    Names are looked up in the function's module and closure, then in `scope` (the caller's local names).
    """
    answer = _return_type(fn, scope)
    if review:
        if get_origin(answer) is not Ask:
            raise Unreadable(f"a review answers with Ask[...], not {_show(answer)}")
        (answer,) = get_args(answer)
    alternatives = get_args(answer) if get_origin(answer) in (Union, types.UnionType) else (answer,)
    for alternative in alternatives:
        if not is_subclass(alternative, Event):
            raise Unreadable(f"{_show(alternative)} is not a subclass of Event")
        if alternative in (Event, SystemEvent, Failure):
            raise Unreadable(f"{_show(alternative)} stands for many events and is none itself")
        if issubclass(alternative, OperatorEvent):
            raise Unreadable(f"{_show(alternative)} is an operator's, and only a redrive sends it")
    return tuple(dict.fromkeys(alternatives))


def calling_scope(fn: Callable[..., object]) -> dict[str, Any]:
    """Local names of the frames that are calling and belong to the function's module, the innermost winning.

    A machine may be declared inside a function (tests do), where postponed annotations name that function's locals.
    """
    names: dict[str, Any] = {}
    home = getattr(unwrap(fn), "__globals__", None)
    frame: types.FrameType | None = sys._getframe()  # noqa: SLF001 - the documented way to the caller's names
    while frame is not None:
        if frame.f_globals is home and frame.f_locals is not home:
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names


def is_subclass(value: object, cls: type[object]) -> bool:
    """`issubclass`, for values that need not be classes at all."""
    return isinstance(value, type) and issubclass(value, cls)


def _return_type(fn: Callable[..., object], scope: Mapping[str, Any]) -> Any:
    plain = unwrap(fn)
    try:
        annotations = getattr(plain, "__annotations__", {})
        if "return" not in annotations:
            raise Unreadable("it has no return annotation")

        def only_return() -> None: ...

        only_return.__annotations__ = {"return": annotations["return"]}
        local = {**scope, **_closure(plain)}
        return get_type_hints(only_return, globalns=getattr(plain, "__globals__", {}), localns=local)["return"]
    except NameError as error:
        raise Unreadable(f"its return annotation names {error.name!r}, which is not defined here") from error
    except (TypeError, AttributeError, SyntaxError) as error:
        raise Unreadable(f"its return annotation cannot be evaluated ({error})") from error


def _closure(fn: Callable[..., object]) -> dict[str, Any]:
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None) or ()
    found: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars if code else (), cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _show(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
