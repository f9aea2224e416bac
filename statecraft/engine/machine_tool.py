"""A machine as a tool: called by a model or a handler, it runs as a child, and its final data is the result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Annotated, Any, ParamSpec, TypeVar, cast, get_type_hints, overload

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from statecraft.engine.children import opened
from statecraft.engine.fit import kept
from statecraft.engine.jsonable import to_json
from statecraft.errors import ConfigError, InvalidPayload
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.records import Json
from statecraft.tools import Tool, ToolArgumentsInvalid
from statecraft.tools.tool import tool

P = ParamSpec("P")
D = TypeVar("D", bound=Data)
R = TypeVar("R")

_NEVER = timedelta(days=365_000)
"""What bounds a child run is its own deadline and the parent's, not the time of a call."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MachineTool(Tool[P, R]):
    """A tool whose call is a child run. Made by `machine_tool`."""

    machine: Machine[Any]
    select: Callable[[Any], Any]
    """From the child's final data to the result."""

    def validate(self, arguments: Mapping[str, Json]) -> dict[str, Any]:
        """JSON arguments as the values of the input. Raises `ToolArgumentsInvalid`, also if no data can be made of them."""
        values = Tool.validate(self, arguments)
        self._data(values)
        return values

    def payload(self, arguments: Mapping[str, Json]) -> str:
        """The data that the child is started with, as JSON. Raises `ToolArgumentsInvalid`."""
        return kept(self._data(Tool.validate(self, arguments)))

    def _data(self, values: Mapping[str, Any]) -> Data:
        try:
            data = cast("Data", self.fn(**values))
        except ValidationError as error:
            lines = (f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}" for item in error.errors())
            raise ToolArgumentsInvalid(self.name, tuple(lines)) from error
        if type(data) is not self.machine.data_type:
            wanted, given = self.machine.data_type.__name__, type(data).__name__
            raise InvalidPayload(f"the input of tool {self.name} gives {given}; {self.machine.name} is started with {wanted}")
        return data

    def dump(self, result: R) -> str:
        """A result as JSON text, for the model to read."""
        return to_json(result)

    def load(self, text: str, /) -> R:
        """The result of a call, from the end of its child run."""
        result: R = self.select(opened(self.machine.definition, text).data)
        return result


@overload
def machine_tool(machine: Machine[D], *, name: str | None = None, doc: str | None = None) -> MachineTool[..., D]: ...
@overload
def machine_tool(
    machine: Machine[D], *, input: Callable[P, D], name: str | None = None, doc: str | None = None
) -> MachineTool[P, D]: ...
@overload
def machine_tool(
    machine: Machine[D], *, result: Callable[[D], R], name: str | None = None, doc: str | None = None
) -> MachineTool[..., R]: ...
@overload
def machine_tool(
    machine: Machine[D], *, input: Callable[P, D], result: Callable[[D], R], name: str | None = None, doc: str | None = None
) -> MachineTool[P, R]: ...
def machine_tool(
    machine: Machine[Any],
    *,
    input: Callable[..., Any] | None = None,
    result: Callable[[Any], Any] | None = None,
    name: str | None = None,
    doc: str | None = None,
) -> MachineTool[..., Any]:
    """A machine that models and handlers may call like a tool; list it in `tools=[...]` of a state.

    `input` is a typed function from the arguments to the data the child starts with; without it the arguments are the
    fields of the machine's data, and those with a default may be left out. `result` selects what the caller gets from
    the child's final data (default: all of it). `name` defaults to the machine's; `doc`, which the model reads, to the
    docstring of `input` or of the data. A child that does not end as done raises `ChildFailed`; a model is told so.
    Raises `ConfigError`.
    """
    given = machine.data_type if input is None else input
    here = inspect.currentframe()
    start = _from_fields(machine.data_type) if given is machine.data_type else _from_function(machine, given, here)
    start.__doc__ = doc or inspect.getdoc(given) or ""
    if not start.__doc__:
        raise ConfigError(f"machine_tool({machine.name}) needs doc='...': what a model reads about it")
    plain = tool(name=name or machine.name, effect="idempotent", timeout=_NEVER).declare(start, {})
    return MachineTool(
        **{field: getattr(plain, field) for field in plain.__dataclass_fields__},
        machine=machine,
        select=result or _everything,
    )


def _everything(data: Any) -> Any:
    return data


def _from_function(machine: Machine[Any], given: Callable[..., Any], here: FrameType | None) -> Callable[..., Any]:
    if not inspect.isfunction(given) or inspect.iscoroutinefunction(given):
        raise ConfigError(f"the input of machine_tool({machine.name}) is a plain function or {machine.data_type.__name__} itself")
    names = here.f_back.f_locals if here and here.f_back else {}
    try:
        types = get_type_hints(given, localns=names, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"the input of machine_tool({machine.name}) has an annotation that cannot be resolved: {error}"
        ) from error

    def start(*args: Any, **kwargs: Any) -> Any:
        return given(*args, **kwargs)

    return _signed(start, inspect.signature(given), types)


def _from_fields(data_type: type[Data]) -> Callable[..., Any]:
    def start(**fields: Any) -> Any:
        return data_type(**fields)

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(info))
        for name, info in data_type.model_fields.items()
    ]
    types = {name: _annotation(info) for name, info in data_type.model_fields.items()}
    return _signed(start, inspect.Signature(parameters), types)


def _default(info: FieldInfo) -> Any:
    return inspect.Parameter.empty if info.is_required() else info.get_default(call_default_factory=True, validated_data={})


def _annotation(info: FieldInfo) -> Any:
    hint: Any = info.annotation
    for extra in info.metadata:
        hint = Annotated[hint, extra]
    return Annotated[hint, Field(description=info.description)] if info.description else hint


def _signed(start: Any, signature: inspect.Signature, types: Mapping[str, Any]) -> Callable[..., Any]:
    """A function that says what it takes, for `read_signature`. What it gives is not read from JSON."""
    start.__signature__ = signature
    start.__annotations__ = {**types, "return": Any}
    signed: Callable[..., Any] = start
    return signed
