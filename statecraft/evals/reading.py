"""Cases from files: JSON lines (one case a line), a JSON list, or YAML where PyYAML is installed."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from statecraft.errors import ConfigError
from statecraft.evals.case import Case
from statecraft.records import Json

FIELDS = ("input", "expect", "name", "tags", "decisions")
"""What a case in a file may say; `input` it must."""


def read_cases(path: str | os.PathLike[str]) -> list[Case]:
    """The cases of a file, in order.

    `.jsonl`: one JSON object a line; empty lines and lines that begin with `//` are left out. `.json`: a list of objects.
    `.yaml`, `.yml`: a list, or several documents; needs PyYAML. Each object has `input`, and may have `expect`, `name`,
    `tags` and `decisions` (see `Case`). Raises `ConfigError` that names the file, the line and what is wrong.
    """
    place = Path(path)
    try:
        text = place.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the cases in {place} cannot be read: {error}") from error
    readers = {".jsonl": _json_lines, ".json": _json_list, ".yaml": _yaml, ".yml": _yaml}
    reader = readers.get(place.suffix.lower())
    if reader is None:
        raise ConfigError(f"cases are read from {', '.join(readers)} files, not from {place}")
    cases = [_case(entry, where) for where, entry in reader(text, _short(place))]
    if not cases:
        raise ConfigError(f"{place} has no cases")
    return cases


def _short(path: Path) -> Path:
    """A path as people read it: relative to here where it is below."""
    return path.absolute().relative_to(Path.cwd()) if path.absolute().is_relative_to(Path.cwd()) else path


def _json_lines(text: str, place: Path) -> Iterator[tuple[str, Json]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("//"):
            try:
                yield f"{place}:{number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{place}:{number}: not JSON: {error.msg} at column {error.colno}") from error


def _json_list(text: str, place: Path) -> Iterator[tuple[str, Json]]:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{place}:{error.lineno}: not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(entries, list):
        raise ConfigError(f"{place}: a list of cases, not {type(entries).__name__}")
    at = text.index("[") + 1
    for entry in entries:  # Read once more, one by one, for the lines they begin on.
        at = next(place for place in range(at, len(text)) if text[place] not in " \t\r\n,")
        yield f"{place}:{text.count(chr(10), 0, at) + 1}", entry
        at = json.JSONDecoder().raw_decode(text, at)[1]


def _yaml(text: str, place: Path) -> Iterator[tuple[str, Json]]:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ModuleNotFoundError as error:
        raise ConfigError(f"{place}: cases in YAML need PyYAML (pip install pyyaml); or write them as JSON lines") from error
    try:
        entries = list(yaml.safe_load_all(text))
        marks = list(yaml.compose_all(text, yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:  # A date that no calendar has is a ValueError.
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{place}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if len(entries) == 1 and isinstance(entries[0], list):
        entries, marks = entries[0], marks[0].value
    for mark, entry in zip(marks, entries, strict=True):
        yield f"{place}:{mark.start_mark.line + 1}", entry


def _case(entry: Json, where: str) -> Case:
    if not isinstance(entry, Mapping):
        raise ConfigError(f'{where}: a case is an object such as {{"input": {{...}}}}, not {type(entry).__name__}')
    unknown = sorted(map(str, set(entry) - set(FIELDS)))
    if unknown:
        raise ConfigError(f"{where}: a case has no {unknown[0]!r}; it has {', '.join(FIELDS)}")
    if "input" not in entry:
        raise ConfigError(f"{where}: input is missing")
    for name in ("input", "expect", "decisions"):
        if not isinstance(entry.get(name, {}), Mapping):
            raise ConfigError(f"{where}: {name} is an object, not {type(entry[name]).__name__}")
    tags, name = entry.get("tags", []), entry.get("name", "")
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        raise ConfigError(f"{where}: tags is a list of names, not {tags!r}")
    if not isinstance(name, str):
        raise ConfigError(f"{where}: name is a text, not {name!r}")
    return Case(entry["input"], entry.get("expect", {}), name, tuple(tags), entry.get("decisions", {}), where)
