"""What a tool takes and gives, read once from the function's signature and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from statecraft.errors import ConfigError
from statecraft.records import Json


@dataclass(frozen=True, slots=True)
class CallInfo:
    """Which call this is. A tool whose first parameter is a `CallInfo` is given one; the model never sees it."""

    key: str = ""
    """Idempotency key: the same call of the same visit always carries the same one, on every attempt."""
    attempt: int = 1
    run_id: str = ""
    """32 hex digits; empty outside a run."""
    report: Callable[[str, Mapping[str, Json]], None] | None = field(default=None, repr=False, compare=False)
    """Where `progress` goes; None outside a run."""

    def progress(self, text: str = "", /, **fields: Json) -> None:
        """Tell whoever follows the run live how far the tool is. Not recorded; nothing may depend on it."""
        if self.report is not None:
            self.report(text, fields)


class Spec(TypedDict):
    """A tool as a model sees it."""

    name: str
    description: str
    input_schema: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's parameters and result, ready to validate and to write as JSON."""

    parameters: inspect.Signature
    """Without the `CallInfo`."""
    arguments: type[BaseModel]
    """One field per parameter; its alias is the parameter's name."""
    result: TypeAdapter[Any]
    input_schema: dict[str, Json]
    doc: str
    takes_info: bool
    is_async: bool


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def read_signature(fn: Callable[..., object], names: Mapping[str, Any]) -> Signature:
    """Read a function. `names` resolves annotations that its module cannot (types local to the caller).

    Raises `ConfigError` naming the parameter and the fix when a model could not call the function.
    """
    where = f"tool {getattr(fn, '__qualname__', repr(fn))}"
    if not (inspect.isfunction(fn) or inspect.ismethod(fn)) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigError(f"{where} is not a plain or async function; wrap it in one")
    hints = _hints(fn, names, where)
    if "return" not in hints:
        raise ConfigError(f"{where} does not say what it returns; annotate its result (`-> None` if nothing)")
    whole = inspect.signature(fn)
    shown = [parameter for parameter in whole.parameters.values() if hints.get(parameter.name) is not CallInfo]
    takes_info = _takes_info(whole, shown, where)
    arguments = _arguments(shown, hints, where)
    return Signature(
        parameters=whole.replace(parameters=shown),
        arguments=arguments,
        result=_result(hints["return"], where),
        input_schema=_input_schema(arguments, where),
        doc=inspect.getdoc(fn) or "",
        takes_info=takes_info,
        is_async=inspect.iscoroutinefunction(fn),
    )


def _hints(fn: Callable[..., object], names: Mapping[str, Any], where: str) -> dict[str, Any]:
    try:
        return get_type_hints(fn, include_extras=True)
    except NameError:
        pass
    try:
        return get_type_hints(fn, localns=dict(names), include_extras=True)
    except NameError as e:
        raise ConfigError(f"{where} has an annotation that cannot be resolved: {e}") from e


def _takes_info(whole: inspect.Signature, shown: list[inspect.Parameter], where: str) -> bool:
    hidden = len(whole.parameters) - len(shown)
    if hidden and (hidden > 1 or next(iter(whole.parameters.values())) in shown):
        raise ConfigError(f"{where} takes a CallInfo that is not its first parameter; make it the first and only one")
    return bool(hidden)


def _arguments(shown: list[inspect.Parameter], hints: Mapping[str, Any], where: str) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for place, parameter in enumerate(shown):
        if parameter.kind not in _NAMED:
            raise ConfigError(f"{where}: parameter {parameter.name!r} cannot be given by name, as a model gives it")
        if parameter.name not in hints:
            raise ConfigError(f"{where}: parameter {parameter.name!r} has no annotation; a model needs to know its type")
        default: Any = ... if parameter.default is parameter.empty else parameter.default
        # Neutral field names: a parameter may be called `copy` or `_x`, which a model's field may not.
        fields[f"p{place}"] = (Annotated[hints[parameter.name], Field(alias=parameter.name)], default)
    try:
        model: type[BaseModel] = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
        model.model_rebuild()
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as e:
        raise ConfigError(f"{where}: a parameter's type cannot be read from JSON: {_first_line(e)}") from e
    return model


def _result(hint: Any, where: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as e:
        raise ConfigError(f"{where}: its result's type cannot be kept as JSON: {_first_line(e)}") from e


def _input_schema(arguments: type[BaseModel], where: str) -> dict[str, Json]:
    try:
        schema: dict[str, Json] = _untitled(arguments.model_json_schema())
    except PydanticInvalidForJsonSchema as e:
        raise ConfigError(f"{where}: a parameter's type has no JSON schema: {_first_line(e)}") from e
    schema.setdefault("properties", {})
    return schema


def _untitled(schema: Json) -> Json:
    """The schema without the titles pydantic makes up: they only cost tokens. Properties called `title` stay."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Json] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            kept[key] = {name: _untitled(inner) for name, inner in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            kept[key] = value
        elif key != "title":
            kept[key] = _untitled(value)
    return kept


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
