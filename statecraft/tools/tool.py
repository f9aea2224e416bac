"""A tool: a typed function that a handler, or the model inside one, may call through the journal."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast, overload

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from statecraft.errors import ConfigError, StatecraftError
from statecraft.money import Dollars, billionths, decimal
from statecraft.records import Json
from statecraft.tools.schema import CallInfo, Signature, Spec, read_signature

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
S = TypeVar("S")

Effect = Literal["read", "idempotent", "once"]
"""What a tool does to the world: nothing; the same however often it is called with one key; something new each time."""
Risk = Literal["safe", "low", "medium", "high"]
"""How much harm a wrong call can do, in this order. A tool that does not say counts as `high`."""
RISKS: tuple[Risk, ...] = ("safe", "low", "medium", "high")
"""From the least harm to the most."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SHOWN = 20
"""Argument errors shown to the model at most."""


class ToolArgumentsInvalid(StatecraftError):
    """The arguments do not fit the tool's parameters. Nothing was called."""

    def __init__(self, tool: str, errors: tuple[str, ...]) -> None:
        super().__init__(f"arguments of {tool} are invalid: " + "; ".join(errors))
        self.tool = tool
        self.errors = errors
        """One `parameter: what is wrong` each, for the model to read."""

    def __reduce__(self) -> tuple[type[ToolArgumentsInvalid], tuple[str, tuple[str, ...]]]:
        return ToolArgumentsInvalid, (self.tool, self.errors)


class ToolResultInvalid(StatecraftError):
    """A tool returned something else than it declares, so its result cannot be kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Tool(Generic[P, R]):
    """A declared tool: the function, what it does to the world, and its typed JSON edges.

    `P` are its parameters without the `CallInfo`, `R` is what it gives (awaited, if the function is async).
    Made by the `tool` decorator.
    """

    name: str
    """What the model calls it."""
    fn: Callable[..., Any]
    effect: Effect
    risk: Risk | None
    """None if it does not say; a gate takes it for `high`."""
    timeout: timedelta
    """How long one attempt may take; the caller enforces it."""
    max_chars: int
    """How much of a result `render` shows the model, in characters."""
    signature: Signature
    price: int | None = None
    """What one attempt costs at most, in billionths of a dollar; None if it says nothing, and costs nothing."""

    @property
    def doc(self) -> str:
        """The function's docstring: what the model reads about it."""
        return self.signature.doc

    @property
    def spec(self) -> Spec:
        """Name, description and JSON schema of the arguments."""
        return {"name": self.name, "description": self.doc, "input_schema": self.signature.input_schema}

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Json]:
        """The arguments of a typed call as JSON values, defaults included.

        Raises `TypeError` like the call itself would, or `ToolArgumentsInvalid`.
        """
        bound = self.signature.parameters.bind(*args, **kwargs)
        try:
            values = self.signature.arguments.model_validate(bound.arguments)
            return values.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")
        except ValidationError as e:
            raise ToolArgumentsInvalid(self.name, _errors(e, tuple(self.signature.parameters.parameters))) from e
        except PydanticSerializationError as e:
            raise ToolArgumentsInvalid(self.name, (str(e),)) from e

    def validate(self, arguments: Mapping[str, Json]) -> dict[str, Any]:
        """JSON arguments as the Python values to call the function with. Raises `ToolArgumentsInvalid`."""
        try:
            values = self.signature.arguments.model_validate_json(json.dumps(dict(arguments)))
        except ValidationError as e:
            raise ToolArgumentsInvalid(self.name, _errors(e, tuple(self.signature.parameters.parameters))) from e
        return {name: getattr(values, f"p{place}") for place, name in enumerate(self.signature.parameters.parameters)}

    async def invoke(self, arguments: Mapping[str, Json], info: CallInfo) -> R:
        """Validate JSON arguments and run the function once; a plain function runs in a thread, with this context.

        Raises `ToolArgumentsInvalid`, or whatever the function raises.
        """
        given = (info,) if self.signature.takes_info else ()
        values = self.validate(arguments)
        if self.signature.is_async:
            return cast(R, await self.fn(*given, **values))
        return cast(R, await asyncio.to_thread(_contained, self.fn, given, values))

    def dump(self, result: R) -> str:
        """A result as JSON text that `load` reads back. Raises `ToolResultInvalid`."""
        try:
            text = self.signature.result.dump_json(result, by_alias=True, round_trip=True, warnings="error").decode()
            # Such as an infinite number, which JSON writes as null: told now, not when the record is read.
            self.signature.result.validate_json(text)
        except (PydanticSerializationError, UnicodeDecodeError, ValidationError) as e:
            found, what = type(result).__name__, "; ".join(_errors(e)) if isinstance(e, ValidationError) else e
            raise ToolResultInvalid(f"tool {self.name} returned a {found}, which is not what it declares: {what}") from e
        return text

    def accept(self, result: object) -> str:
        """A result that a person gives, validated, as `dump` would write it. Raises `ToolResultInvalid`."""
        try:
            return self.dump(self.signature.result.validate_python(result))
        except ValidationError as e:
            raise ToolResultInvalid(f"that is no result of tool {self.name}: {'; '.join(_errors(e))}") from e

    def load(self, text: str, /) -> R:
        """The result written by `dump`. Raises `ToolResultInvalid` if the declared type has changed since."""
        try:
            return cast(R, self.signature.result.validate_json(text))
        except ValidationError as e:
            errors = "; ".join(_errors(e))
            raise ToolResultInvalid(f"a recorded result of tool {self.name} no longer fits its type: {errors}") from e

    def render(self, result: R) -> str:
        """A result as the model reads it: text as it is, anything else as JSON, cut after `max_chars` with a note."""
        text = result if isinstance(result, str) else self.dump(result)
        if len(text) <= self.max_chars:
            return text
        return f"{text[: self.max_chars]}\n[cut: the first {self.max_chars:,} of {len(text):,} characters]"

    def _call(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Any:
        given = (CallInfo(),) if self.signature.takes_info else ()
        return self.fn(*given, *args, **kwargs)


class PlainTool(Tool[P, R]):
    """A tool made from a `def`. Calling it calls the function, unjournaled (an empty `CallInfo` is filled in)."""

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast(R, self._call(args, kwargs))


class AsyncTool(Tool[P, R]):
    """A tool made from an `async def`. Calling it calls the function, unjournaled (an empty `CallInfo` is filled in)."""

    __slots__ = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return cast("Coroutine[Any, Any, R]", self._call(args, kwargs))


@dataclass(frozen=True, slots=True)
class ToolDeclaration:
    """What `@tool(...)` was told; calling it with the function gives the tool."""

    name: str | None
    effect: Effect
    risk: Risk | None
    timeout: timedelta
    max_chars: int
    price: Dollars | None = None

    @overload
    def __call__(self, fn: Callable[Concatenate[CallInfo, Q], Coroutine[Any, Any, S]], /) -> AsyncTool[Q, S]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[Q, Coroutine[Any, Any, S]], /) -> AsyncTool[Q, S]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[Concatenate[CallInfo, Q], S], /) -> PlainTool[Q, S]: ...
    @overload
    def __call__(self, fn: Callable[Q, S], /) -> PlainTool[Q, S]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Tool[..., Any]:
        return self.declare(fn, _names_around(inspect.currentframe()))

    def declare(self, fn: Callable[..., Any], names: Mapping[str, Any]) -> Tool[..., Any]:
        """The tool of a function; `names` resolves annotations local to whoever declares it. Raises `ConfigError`."""
        name = self.name or str(getattr(fn, "__name__", ""))
        if not _NAME.fullmatch(name):
            raise ConfigError(f"tool name {name!r} is not 1 to 64 letters, digits, _ or -; pass name=")
        if self.risk is not None and self.risk not in RISKS:
            raise ConfigError(f"tool {name}: risk is one of {', '.join(RISKS)}, or None if not judged yet, not {self.risk!r}")
        if self.timeout <= timedelta(0) or self.max_chars < 1:
            raise ConfigError(f"tool {name}: timeout and max_chars must be greater than 0")
        signature = read_signature(fn, names)
        made: type[Tool[..., Any]] = AsyncTool if signature.is_async else PlainTool
        price = None if self.price is None else billionths(decimal(self.price, f"the price of tool {name}"))
        return made(name, fn, self.effect, self.risk, self.timeout, self.max_chars, signature, price)


@overload
def tool(fn: Callable[Concatenate[CallInfo, Q], Coroutine[Any, Any, S]], /) -> AsyncTool[Q, S]: ...  # type: ignore[overload-overlap]
@overload
def tool(fn: Callable[Q, Coroutine[Any, Any, S]], /) -> AsyncTool[Q, S]: ...  # type: ignore[overload-overlap]
@overload
def tool(fn: Callable[Concatenate[CallInfo, Q], S], /) -> PlainTool[Q, S]: ...
@overload
def tool(fn: Callable[Q, S], /) -> PlainTool[Q, S]: ...
@overload
def tool(
    *,
    name: str | None = None,
    effect: Effect = "read",
    risk: Risk | None = None,
    timeout: timedelta = ...,
    max_chars: int = 20_000,
    price: Dollars | None = None,
) -> ToolDeclaration: ...
def tool(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    effect: Effect = "read",
    risk: Risk | None = None,
    timeout: timedelta = timedelta(seconds=30),
    max_chars: int = 20_000,
    price: Dollars | None = None,
) -> Tool[..., Any] | ToolDeclaration:
    """Declare a function as a tool: `@tool`, or `@tool(effect="once", ...)`.

    Every parameter and the result need an annotation that JSON can carry; the docstring is what the model reads. A first
    parameter annotated `CallInfo` is filled in and stays invisible. `name` defaults to the function's. `price` is
    what one attempt costs at most, in dollars, for budgets of money. Raises `ConfigError` naming what to change.
    """
    declaration = ToolDeclaration(name, effect, risk, timeout, max_chars, price)
    return declaration if fn is None else declaration.declare(fn, _names_around(inspect.currentframe()))


def _names_around(here: FrameType | None) -> Mapping[str, Any]:
    """The names where a tool is declared: annotations may be texts that name local types."""
    return here.f_back.f_locals if here and here.f_back else {}


def _contained(fn: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    try:
        return fn(*args, **kwargs)
    except StopIteration as e:
        # A future cannot carry this one: the awaiting task would never wake up.
        raise RuntimeError("the tool raised StopIteration") from e
    except SystemExit as e:
        # In a thread of its own it is the tool's (a command line parsed inside it, say), and must not end everybody's process.
        raise RuntimeError(f"the tool called sys.exit({e.code!r})") from e


def _said(each: ErrorDetails, names: Sequence[str]) -> str:
    if each["type"] == "extra_forbidden" and len(each["loc"]) == 1:  # the arguments themselves, not a model among them
        return f"there is no such parameter (parameters: {', '.join(names) or 'none'})"
    return each["msg"]


def _errors(error: ValidationError, names: Sequence[str] = ()) -> tuple[str, ...]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{'.'.join(str(part) for part in each['loc']) or 'arguments'}: {_said(each, names)}" for each in found]
    rest = len(lines) - _SHOWN
    return (*lines[:_SHOWN], f"and {rest} more") if rest > 0 else tuple(lines)
