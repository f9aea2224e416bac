"""What the pages say of settings and their defaults is what the code does.

A table whose head is `` `Name` | default | meaning `` describes the dataclass of that name: each field has a row, and each
default is the one of the code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import statecraft
import statecraft.alerts
from statecraft.calls.retry import DEFAULT_ATTEMPTS
from statecraft.errors import ErrorKind
from statecraft.machine.context import Model

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "settings": {"Settings"},
    "breakers": {"BreakerPolicy"},
    "rate-limits": {"RateLimit"},
    "retries": {"RetryPolicy"},
    "budgets": {"Budget", "TenantBudget", "Price"},
    "gates": {"GatePolicy"},
    "compaction": {"SummarizeOld", "SlidingWindow"},
    "loops": {"LoopPolicy"},
    "alerts": {"AlertPolicy", "ReminderPolicy"},
}
"""By page, whose settings it must list."""
ELSEWHERE = "see "
"""A default that begins so is described at the place it names."""
SECONDS = {"s": 1, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600, "day": 86_400, "days": 86_400}


def tables(page: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """The head and the rows of each table, as cells."""
    for text in re.findall(r"(?:^\|.*\n)+", (DOCS / f"{page}.md").read_text() + "\n", re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
        yield head, rows


def described(page: str) -> dict[str, dict[str, str]]:
    """By the name of a settings type, the default that the page tells for each field."""
    return {
        head[0].strip("`"): {row[0].strip("`"): row[1] for row in rows}
        for head, rows in tables(page)
        if len(head) > 1 and head[1] == "default" and head[0].startswith("`")
    }


def told(text: str) -> object:
    """A default as a page writes it: seconds for durations, None for `none`, MISSING for `required`."""
    plain = text.replace("`", "").split(":")[0].strip()
    if plain in ("none", "required", "yes", "no"):
        return {"none": None, "required": MISSING, "yes": True, "no": False}[plain]
    number = re.fullmatch(r"([\d,.]+)(?: (\w+))?", plain)
    if number:
        return float(number[1].replace(",", "")) * SECONDS[number[2] or "s"]
    return plain.strip('"')


def coded(field: Field[Any]) -> object:
    """The default of a field, in the same terms."""
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or value is None or value is MISSING:
        return value
    if isinstance(value, Mapping | tuple) and not value:
        return None
    if is_dataclass(value):
        return f"{type(value).__name__}()"
    return float(value) if isinstance(value, int | float | Decimal) else value


@pytest.mark.parametrize("page", PAGES)
def test_a_page_lists_every_setting_with_the_default_of_the_code(page: str) -> None:
    found = described(page)
    assert set(found) == PAGES[page]
    for name, rows in found.items():
        settings = {
            field.name: field
            for field in fields(getattr(statecraft, name, None) or getattr(statecraft.alerts, name))
            if field.init and field.name != "_"
        }
        assert list(rows) == list(settings), f"{page}: the rows of {name}, in the order of the code"
        wrong = {
            row: (default, coded(settings[row]))
            for row, default in rows.items()
            if not default.startswith(ELSEWHERE) and told(default) != coded(settings[row])
        }
        assert not wrong, f"{page}: {name}"


def test_the_page_on_retries_tells_the_attempts_of_each_kind() -> None:
    rows = next(rows for head, rows in tables("retries") if head == ["kind", "attempts"])
    named = {ErrorKind(kind): int(attempts.split(",")[0]) for kinds, attempts in rows for kind in re.findall(r"`(\w+)`", kinds)}
    assert named == dict(DEFAULT_ATTEMPTS)
    assert rows[-1] == ["all others", "1"]


def test_the_page_on_tools_tells_the_defaults_of_ask_and_of_a_tool() -> None:
    rows = next(rows for head, rows in tables("tools") if head[:3] == ["where", "name", "default"])
    ask = {name: parameter.default for name, parameter in inspect.signature(Model.ask).parameters.items()}

    @statecraft.tool
    def plain() -> None:
        """A tool that says nothing of itself."""

    for where, name, default, _ in rows:
        is_so: Any = ask[name.strip("`")] if where == "`ask`" else getattr(plain, name.strip("`"))
        assert told(default) == (is_so.total_seconds() if isinstance(is_so, timedelta) else is_so), name


def test_a_wrong_default_or_a_missing_row_would_be_found() -> None:
    assert told("60 s") == 60 == told("1 minute")
    assert told("none") is None
    assert told('`"high"`: never') == "high"
    assert told("200,000") == 200_000
    assert told("2 days") != told("1 day")
