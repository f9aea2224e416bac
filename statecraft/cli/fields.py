"""Fields from the command line: `--input`, `--set name=value`, and their way into a validated value."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from statecraft.cli.verb import Inputs
from statecraft.errors import ConfigError, InvalidPayload
from statecraft.records import Json

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Fields:
    """Values for the fields of an event or of a run's data."""

    values: Mapping[str, Json]
    """As JSON."""
    raw: Mapping[str, str]
    """The same, as typed, for values given with `--set`: `--set title=42` may well mean the text `42`."""


def read_fields(inputs: Inputs) -> Fields:
    """Join `--input` (JSON, `@file` or `-` for stdin) and `--set` pairs, which win.

    Raises `ConfigError` for input that cannot be read, is no JSON object, or a pair without `=`.
    """
    values: dict[str, Json] = {} if inputs.text is None else _read_object(inputs.text)
    raw: dict[str, str] = {}
    for pair in inputs.sets:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {pair!r} is not name=value")
        raw[name] = value
        values[name] = json_or_text(value)
    return Fields(values, raw)


def build(model: type[Model], fields: Fields, what: str) -> Model:
    """Validate the fields as `model`. Raises `InvalidPayload` naming each wrong field, on one line."""
    from pydantic import ValidationError

    try:
        return _validate(model, fields.values)
    except ValidationError as error:
        wrong = {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
        texts = {name: text for name, text in fields.raw.items() if name in wrong}
        try:
            return _validate(model, {**fields.values, **texts})
        except ValidationError:
            raise InvalidPayload(f"{what} does not validate: {_explain(error, model)}") from error


def _validate(model: type[Model], values: Mapping[str, Json]) -> Model:
    # As JSON, so that dates, tuples and enums read as they do from the database.
    return model.model_validate_json(json.dumps(values))


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    parts: list[str] = []
    for detail in error.errors(include_url=False):
        place = ".".join(str(part) for part in detail["loc"]) or "input"
        parts.append(f"{place}: {_hint(detail['type'], place, model) or detail['msg']}")
    return "; ".join(parts)


def _hint(kind: str, place: str, model: type[BaseModel]) -> str:
    if kind == "missing":
        return f"is required (add --set {place}=...)"
    if kind == "extra_forbidden":
        known = ", ".join(model.model_fields) or "none"
        return f"there is no such field (fields: {known})"
    return ""


def _read_object(text: str) -> dict[str, Any]:
    source, body = _source(text)
    try:
        parsed = json.loads(body)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source} is not JSON ({error.msg} at line {error.lineno}, column {error.colno})") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f'{source} must be a JSON object such as {{"question": "..."}}, not a {type(parsed).__name__}')
    return parsed


def _source(text: str) -> tuple[str, str]:
    if text == "-":
        return "--input from stdin", sys.stdin.read()
    if not text.startswith("@"):
        return "--input", text
    try:
        return text[1:], Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--input {text}: cannot read the file ({error})") from error


def json_or_text(value: str) -> Json:
    """A value as typed: JSON if it is that, else text."""
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
