"""From a pydantic JSON schema to the smaller dialect that constrained generation accepts.

What the dialect lacks (bounds, patterns, defaults) becomes part of the description, so the model may still break it and the
answer must be validated. Shapes the dialect would silently empty are refused here, by name, with what to use instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NoReturn

from statecraft.errors import ConfigError
from statecraft.records import Json

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_DROPPED = frozenset({"title", "discriminator", "additionalProperties", "$defs"})
"""Keywords that say nothing to a model or are written anew."""
_MOST_OPTIONAL = 24
_MOST_UNIONS = 16
"""Where providers give up turning a schema into a grammar ("compiled grammar is too large")."""


def constrained(schema: Mapping[str, Json], name: str) -> dict[str, Json]:
    """The schema of an object type in the dialect. Raises `ConfigError` naming the field and the fix."""
    definitions: Mapping[str, Mapping[str, Json]] = schema.get("$defs", {})
    _refuse_recursion(definitions, name)
    result = _convert(schema, name)
    if definitions:
        result["$defs"] = {key: _convert(inner, key) for key, inner in definitions.items()}
    _refuse_excess(result, name)
    return result


def _convert(schema: Mapping[str, Json], path: str) -> dict[str, Json]:
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    rest = {key: value for key, value in schema.items() if key not in _DROPPED}
    result = _shape(schema, rest, path)
    note = _note(rest)
    if note:
        result["description"] = note
    return result


def _shape(schema: Mapping[str, Json], rest: dict[str, Json], path: str) -> dict[str, Json]:
    """The structural keywords, taken out of `rest`."""
    for literal in ("const", "enum"):
        if literal in rest:
            rest.pop("type", None)
            return {literal: rest.pop(literal)}
    for union in ("anyOf", "oneOf", "allOf"):
        if union in rest:
            rest.pop("type", None)
            return {"allOf" if union == "allOf" else "anyOf": [_convert(variant, path) for variant in rest.pop(union)]}
    kind = rest.pop("type", None)
    if kind is None:
        _refuse(path, "may be anything, so the model cannot be told what to write", "give it a type")
    if kind == "object":
        return _object(schema, rest, path)
    if kind == "array":
        return _array(rest, path)
    return {"type": kind} | _taken(rest, "format", kind == "string" and rest.get("format") in _FORMATS)


def _object(schema: Mapping[str, Json], rest: dict[str, Json], path: str) -> dict[str, Json]:
    properties: Mapping[str, Mapping[str, Json]] = rest.pop("properties", {})
    if schema.get("additionalProperties", False) is not False or rest.pop("patternProperties", None):
        if properties:
            _refuse(path, "allows fields it does not name, and the model cannot write those", "remove extra='allow'")
        _refuse(path, "is a dict, whose keys the model cannot be told", "use a list of a model with `key` and `value`")
    result: dict[str, Json] = {
        "type": "object",
        "properties": {key: _convert(inner, f"{path}.{key}") for key, inner in properties.items()},
        "additionalProperties": False,
    }
    return result | _taken(rest, "required", "required" in rest)


def _array(rest: dict[str, Json], path: str) -> dict[str, Json]:
    if "prefixItems" in rest:
        _refuse(path, "is a tuple, whose places the model cannot be told", "use a model with named fields")
    if "items" not in rest:
        _refuse(path, "is a list of anything", "say what it holds, such as list[str]")
    items = _convert(rest.pop("items"), f"{path}[]")
    return {"type": "array", "items": items} | _taken(rest, "minItems", rest.get("minItems") in (0, 1))


def _taken(rest: dict[str, Json], key: str, supported: bool) -> dict[str, Json]:
    return {key: rest.pop(key)} if supported else {}


def _note(rest: Mapping[str, Json]) -> str:
    """The description, with what the dialect cannot express in words."""
    description = str(rest.get("description", ""))
    limits = "; ".join(f"{key}: {value}" for key, value in rest.items() if key != "description")
    return "\n\n".join(part for part in (description, f"({limits})" if limits else "") if part)


def _refuse_recursion(definitions: Mapping[str, Mapping[str, Json]], name: str) -> None:
    uses = {key: sorted(set(_references(schema))) for key, schema in definitions.items()}
    for start, direct in uses.items():
        reached, waiting = set[str](), [*direct]
        while waiting:
            key = waiting.pop()
            if key == start:
                _refuse(f"{name}: {start}", "contains itself", "use a flat list whose items name their parent")
            if key not in reached:
                reached.add(key)
                waiting.extend(uses.get(key, ()))


def _refuse_excess(result: Mapping[str, Json], name: str) -> None:
    objects = [schema for schema in _schemas(result) if "properties" in schema]
    optional = sum(len(schema["properties"]) - len(schema.get("required", ())) for schema in objects)
    if optional > _MOST_OPTIONAL:
        fix = "make fields required (`X | None` without a default is), or ask for it in parts"
        _refuse(name, f"has {optional} optional fields, and the model can be held to {_MOST_OPTIONAL}", fix)
    unions = sum("anyOf" in schema for schema in _schemas(result))
    if unions > _MOST_UNIONS:
        _refuse(name, f"has {unions} fields of several types, and the model can be held to {_MOST_UNIONS}", "ask for it in parts")


def _schemas(schema: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    """A converted schema and everything inside it; a definition counts once, however often it is used."""
    yield schema
    inside = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    inside += [*schema.get("allOf", ()), *([schema["items"]] if "items" in schema else ())]
    for each in inside:
        yield from _schemas(each)


def _references(schema: Json) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix("#/$defs/")
            else:
                yield from _references(value)


def _refuse(path: str, what: str, fix: str) -> NoReturn:
    raise ConfigError(f"output {path} {what}; {fix}")
