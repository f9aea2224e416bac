"""Lengths of time and instants, as people write them on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}

_LONGEST = 1_000_000 * 86_400.0
"""Seconds. From now on it ends before the year 9999, the last one that dates know."""


class Span(click.ParamType[timedelta]):
    """A length of time: `10s`, `500ms`, `2m`, `1.5h`, `3d`; a bare number is seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(value).strip())
        if found is None or found[2] not in _UNITS:
            self.fail(f"{value!r} is no length of time; write 10s, 500ms, 2m, 1.5h or 3d", param, ctx)
        seconds = float(found[1]) * _UNITS[found[2]]
        if seconds > _LONGEST:
            self.fail(f"{value!r} is too long", param, ctx)
        return timedelta(seconds=seconds)


class When(click.ParamType[datetime]):
    """An instant in ISO 8601; without an offset it is UTC."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no instant; write 2026-01-31T09:00, or 2026-01-31T09:00+02:00", param, ctx)
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
