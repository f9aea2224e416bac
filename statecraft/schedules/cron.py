"""Cron expressions, by cronsim, which keeps to the rules of Debian's cron. Its only door; it comes with the `cron` extra.

An expression whose minute and hour are fixed is a matter of local time: cronsim moves what does not exist, and takes the
first of what exists twice. One with a star there counts in real time. Those we ask for one stretch of constant offset at
a time: left alone with the zone, cronsim loses instants where an offset changes by half an hour or in mid-hour.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import ModuleType
from zoneinfo import ZoneInfo

from statecraft.errors import ConfigError

FIELDS = "minute hour day-of-month month day-of-week"
LONGEST = 200
"""Characters of the longest expression."""

_SECOND = timedelta(seconds=1)
_STRIDE = timedelta(days=1)
"""No zone changes its offset and back in less."""

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
    at = at.astimezone(UTC)
    minute, hour = expression.split()[:2]
    in_real_time = minute.startswith("*") or hour.startswith("*")
    found = (_in_real_time if in_real_time else _in_local_time)(expression, zone_named(zone), at)
    if found is None:
        raise ConfigError(f"no instant of the next 50 years fits the cron expression {expression!r} in {zone}")
    return found


def _in_local_time(expression: str, zone: ZoneInfo, at: datetime) -> datetime | None:
    # In the hour that a clock repeats, the first answers may be of its first round, which is over.
    answers = (local.astimezone(UTC) for local in _cronsim().CronSim(expression, at.astimezone(zone)))
    return next((found for found in answers if found > at), None)


def _in_real_time(expression: str, zone: ZoneInfo, at: datetime) -> datetime | None:
    after = since = at.replace(microsecond=0)
    while True:
        offset = _offset(zone, since)
        local = next(_cronsim().CronSim(expression, (after + offset).replace(tzinfo=None)), None)
        if local is None:
            return None
        found: datetime = local.replace(tzinfo=UTC) - offset
        change = _change(zone, since, found)
        if change is None:
            return found
        after, since = change - _SECOND, change  # Once more, from the first second of the new offset on.


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _change(zone: ZoneInfo, since: datetime, until: datetime) -> datetime | None:
    """The first second in (since, until] at which the zone has another offset than at `since`."""
    offset, before = _offset(zone, since), since
    while before < until:
        after = min(before + _STRIDE, until)
        if _offset(zone, after) != offset:
            while after - before > _SECOND:
                middle = before + (after - before) // 2 // _SECOND * _SECOND
                before, after = (middle, after) if _offset(zone, middle) == offset else (before, middle)
            return after
        before = after
    return None


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
