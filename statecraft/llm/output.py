"""Typed output: the schema a model is given, and the strict way its answer is read back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from statecraft.errors import ConfigError, StatecraftError
from statecraft.llm.output_schema import constrained
from statecraft.llm.port import OutputSpec

T = TypeVar("T")

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_SHOWN = 20
"""Errors sent back to the model at most."""
_RECALLED = 2_000
"""Characters of a wrong answer that are shown when the model is asked anew."""
_QUOTED = 60
"""Characters of a wrong value that are quoted back."""


class OutputMismatch(StatecraftError):
    """An answer does not fit the declared type."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = tuple(errors)
        """One `field: what is wrong` each, for the model to read."""

    def __reduce__(self) -> tuple[type[OutputMismatch], tuple[tuple[str, ...]]]:
        return OutputMismatch, (self.errors,)


@dataclass(frozen=True, slots=True, eq=False)
class Output(Generic[T]):
    """What an answer must be. `Output.of(str)` asks for plain text; any other type for JSON of that type."""

    name: str
    spec: OutputSpec | None
    """What goes into the request; None for plain text."""
    adapter: TypeAdapter[Any]
    wrapped: bool
    """Whether the JSON is `{"value": ...}`, because the type's own JSON is not an object."""

    @staticmethod
    def of(kind: type[T]) -> Output[T]:
        """The output of a type: `str`, a model, or anything pydantic reads (`list[Model]`, an enum, `bool`, a union).

        Raises `ConfigError` naming the field and the fix when a model could not be told the type.
        """
        try:
            return cast("Output[T]", _cached(cast("Hashable", kind)))
        except TypeError:  # some annotated types cannot be hashed
            return cast("Output[T]", _build(kind))

    def parse(self, text: str) -> T:
        """Read an answer. Raises `OutputMismatch`.

        A code fence or prose around the one JSON value is forgiven; a value that is cut short, or one of several, is not.
        """
        if self.spec is None:
            return cast(T, text)
        try:
            return self._read(text)
        except ValidationError as e:
            if e.errors()[0]["type"] != "json_invalid":
                raise OutputMismatch(_lines(e)) from e
        found = _only_json_value(text)
        if found is None:
            raise OutputMismatch(["the answer is not one complete JSON object"])
        try:
            return self._read(found)
        except ValidationError as e:
            raise OutputMismatch(_lines(e)) from e

    def _read(self, text: str) -> T:
        value = self.adapter.validate_json(text)
        # What is read here is written as JSON again, which has no word for them.
        json.loads(text, parse_float=_finite, parse_constant=_finite)
        return cast(T, value.value if self.wrapped else value)


def repair_message(errors: Sequence[str], *, structured: bool = True) -> str:
    """What the model is told about an answer that does not fit."""
    listed = "\n".join(f"- {error}" for error in errors)
    if not structured:
        return f"Your answer cannot be taken as it is:\n{listed}\nSend the complete, corrected answer and nothing else."
    return f"Your answer does not fit the required JSON schema:\n{listed}\nSend the complete, corrected JSON and nothing else."


def fresh_message(errors: Sequence[str], answer: str, *, structured: bool = True) -> str:
    """What the model is told when it is asked anew, without its wrong answers in the conversation."""
    listed = "\n".join(f"- {error}" for error in errors)
    shown = answer if len(answer) <= _RECALLED else answer[:_RECALLED] + "..."
    wanted = "the complete JSON" if structured else "the complete answer"
    return (
        f"An earlier answer to this was:\n{shown}\nIt could not be taken:\n{listed}\n"
        f"Work the answer out anew, without these mistakes, and send {wanted} and nothing else."
    )


def _build(kind: Any) -> Output[Any]:
    if kind is str:
        return Output("str", None, TypeAdapter(str), wrapped=False)
    name = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__origin__") else repr(kind)
    try:
        adapter = TypeAdapter[Any](kind)
        schema = adapter.json_schema()
        wrapped = schema.get("type") != "object"
        if wrapped:
            adapter = TypeAdapter(create_model("Answer", value=(kind, ...)))
            schema = adapter.json_schema()
    except PydanticUserError as e:
        raise ConfigError(f"output {name} cannot be written as a JSON schema: {str(e).splitlines()[0]}") from e
    return Output(name, OutputSpec(name, constrained(schema, name)), adapter, wrapped)


_cached = lru_cache(maxsize=512)(_build)


def _only_json_value(text: str) -> str | None:
    """The one complete object in the text; None if there is none, or if it is not clear which is meant."""
    fences = _FENCE.findall(text)
    inside = fences[0] if len(fences) == 1 else text
    start = inside.find("{")
    if start < 0:
        return None
    try:
        _, end = json.JSONDecoder().raw_decode(inside, start)
    except (ValueError, RecursionError):
        return None
    return None if "{" in inside[end:] else inside[start:end]


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise OutputMismatch([f"the number {number} is not finite"])
    return value


def _lines(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False)
    lines = [_line(each) for each in found[:_SHOWN]]
    return [*lines, f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else lines


def _line(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the answer"
    if error["type"] in ("missing", "json_invalid"):
        return f"{where}: {error['msg']}"
    got = repr(error["input"])
    return f"{where}: {error['msg']} (got {got if len(got) <= _QUOTED else got[:_QUOTED] + '...'})"
