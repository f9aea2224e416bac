"""What the verbs write: data to stdout, talk and progress to stderr, JSON when asked."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

import click

from statecraft.records import Json

JSON_VERSION = 1
"""Version of the shape of `--json`; raised when a field changes its meaning or goes away."""

COLOURS = {
    "done": "green",
    "failed": "red",
    "dead": "red",
    "cancelled": "yellow",
    "waiting": "yellow",
    "running": "cyan",
    "ready": "cyan",
}


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a verb writes, and how."""

    as_json: bool = False
    """One JSON object on stdout instead of text."""
    color: bool | None = None
    """None: colour on a terminal only."""
    progress: bool = False
    """Show moves on stderr while they happen."""
    debug: bool = False
    """Errors with a traceback."""

    def data(self, text: str = "") -> None:
        """Write a line of the answer to stdout."""
        click.echo(text, color=self.color)

    def say(self, text: str = "") -> None:
        """Write a line of talk to stderr."""
        click.echo(text, err=True, color=self.color)

    def emit(self, fields: Mapping[str, object]) -> None:
        """Write the one JSON object of `--json` to stdout."""
        click.echo(json.dumps({"v": JSON_VERSION, **plain(fields)}, ensure_ascii=False))

    @property
    def to_terminal(self) -> bool:
        """Whether stdout is a terminal: times are relative there and ISO 8601 elsewhere."""
        return sys.stdout.isatty()

    def when(self, at: datetime | None, now: datetime) -> str:
        """An instant for people: relative on a terminal, ISO 8601 in UTC otherwise; empty for None."""
        if at is None:
            return ""
        return relative(at, now) if self.to_terminal else iso(at)


def plain(value: object) -> Json:
    """Any record as JSON values: enums by value, instants as ISO 8601 in UTC, bytes in hex, paths as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def iso(at: datetime) -> str:
    """An instant as ISO 8601 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def relative(at: datetime, now: datetime) -> str:
    """How long ago, or how far ahead, in the largest unit that fits."""
    gap = (now - at).total_seconds()
    text = ago(abs(gap))
    return f"{text} ago" if gap >= 0 else f"in {text}"


def ago(gap: float) -> str:
    """Whole seconds, minutes, hours or days."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if gap >= 2 * size:
            return f"{gap / size:.0f} {unit}"
    return f"{gap:.0f} s"


def took(gap: timedelta) -> str:
    """A duration, short: `840 us`, `12 ms`, `3.4 s`, `5 min`."""
    length = gap.total_seconds()
    if length < 0.001:
        return f"{length * 1e6:.0f} us"
    if length < 1:
        return f"{length * 1e3:.0f} ms"
    return f"{length:.1f} s" if length < 120 else ago(length)


def seconds_of(limit: timedelta | None) -> str:
    """A `--timeout` as it was given: `90 s`, `0.5 s`."""
    return "any time" if limit is None else f"{limit.total_seconds():g} s"


def count(number: int, noun: str) -> str:
    """`1 call`, `2 calls`, `1,204 tokens`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def paint(status: str) -> str:
    """A status word in its colour."""
    return click.style(status, fg=COLOURS.get(status))


def dim(text: str) -> str:
    """Text that matters less."""
    return click.style(text, dim=True)


def strong(text: str) -> str:
    """Text that matters more."""
    return click.style(text, bold=True)


def table(
    rows: Iterable[Sequence[str]], *, head: Sequence[str] = (), right: frozenset[int] = frozenset(), indent: str = ""
) -> list[str]:
    """Lines of aligned columns, two spaces apart; none without rows. `right` names the columns set flush right."""
    body = [list(row) for row in rows]
    if not body:
        return []
    every = [list(head), *body] if head else body
    widths = [max(len(click.unstyle(row[column])) for row in every) for column in range(len(every[0]))]
    lines = [indent + _line(row, widths, right) for row in body]
    return [dim(indent + _line(head, widths, right)), *lines] if head else lines


def _line(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    cells: list[str] = []
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        gap = " " * (width - len(click.unstyle(cell)))
        cells.append(gap + cell if column in right else cell + gap)
    return "  ".join(cells).rstrip()


def wrap(lines: Iterable[str], width: int = 100) -> list[str]:
    """Lines broken at spaces where they are longer than `width`; what follows a break is indented like its beginning."""
    out: list[str] = []
    for line in lines:
        words = line.lstrip()
        indent = line[: len(line) - len(words)]
        hang = indent + ("  " if words.startswith("- ") else "")
        out += textwrap.wrap(line, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False) or [line]
    return out


def clip(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def program() -> str:
    """How to call this command again from here: by name where that is found, else by the path of its script."""
    if shutil.which("statecraft") is not None:
        return "statecraft"
    script = Path(sys.executable).with_name("statecraft")
    return short_path(script.parent.absolute() / script.name) if script.exists() else "python -m statecraft"


def short_path(path: Path) -> str:
    """A path relative to here where that is shorter to read."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
