"""Cron expressions, by cronsim, which keeps to the rules of Debian's cron. Its only door; it comes with the `cron` extra."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from types import ModuleType
from zoneinfo import ZoneInfo

from statecraft.errors import ConfigError

FIELDS = "minute hour day-of-month month day-of-week"
LONGEST = 200
"""Characters of the longest expression."""

_LEAP = datetime(2024, 1, 1, tzinfo=UTC)
"""From here it is looked whether an expression ever fits."""


@lru_cache(maxsize=1000)
def zone_named(name: str) -> ZoneInfo:
    """The IANA time zone. Raises `ConfigError`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(
            f"{name!r} is not a time zone that is known here: give a name such as 'Europe/Berlin' or 'UTC' "
            "(where the system has no zones, `pip install tzdata` brings them)"
        ) from None


@lru_cache(maxsize=1000)
def check(expression: str, zone: str) -> None:
    """Raise `ConfigError` unless it is an expression of five fields that fits some instant, in a known zone."""
    wrong = f"{expression[:LONGEST]!r} is not a cron expression"
    parts = expression.split()
    if len(parts) != 5 or len(expression) > LONGEST:
        raise ConfigError(f"{wrong}: it has {len(parts)} fields, not the five {FIELDS}, such as '0 3 * * *'")
    try:
        next_after(expression, zone, _LEAP)
    except _error() as error:
        raise ConfigError(f"{wrong}: {_said(error)}; the fields are {FIELDS}") from None


def next_after(expression: str, zone: str, at: datetime) -> datetime:
    """The first instant after `at` that fits, in UTC. `ConfigError` without the `cron` extra or if there is none."""
    simulated = _cronsim().CronSim(expression, at.astimezone(zone_named(zone)))
    for local in simulated:
        found = local.astimezone(UTC)
        # In the hour that a clock repeats, the first answers may be of its first round, which is over.
        if found > at:
            return found
    raise ConfigError(f"no instant of the next 50 years fits the cron expression {expression!r} in {zone}")


def _said(error: BaseException) -> str:
    """What cronsim found, such as `bad hour`."""
    text = str(error)
    return text[:1].lower() + text[1:] if text.startswith("Bad ") else "it cannot be read"


def _error() -> tuple[type[Exception], ...]:
    # A number of thousands of digits is a ValueError of Python's own.
    return (_cronsim().CronSimError, ValueError, AssertionError)


def _cronsim() -> ModuleType:
    try:
        import cronsim  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        raise ConfigError(
            "cron schedules need the package cronsim: pip install 'statecraft-agents[cron]' (Every(...) needs nothing)"
        ) from None
    return cronsim
