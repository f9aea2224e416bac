"""When a schedule fires: frozen rules that name one instant after the other. Pure; nothing here reads a clock.

The instants of a rule follow from the rule alone, never from when it was put down or last fired, so that every worker
names the same ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from statecraft.clock import EPOCH
from statecraft.errors import ConfigError
from statecraft.records import Json
from statecraft.schedules import cron

_SECOND = timedelta(seconds=1)
_LONGEST = timedelta(days=3660)


@dataclass(frozen=True, slots=True)
class Cron:
    """The instants that fit a cron expression of five fields, in the local time of an IANA zone.

    Daylight saving as in Debian's cron: if neither minute nor hour begins with `*`, a local time that does not exist fires
    once, at the first minute that does, and one that exists twice fires once, the first time. Otherwise the expression
    counts in real time: `*/15 * * * *` fires in both rounds of an hour that comes twice.

    Raises `ConfigError` for an expression or zone that is none, an expression that never fits, or without the `cron` extra.
    """

    expression: str
    """Minute, hour, day of month, month, day of week: `0 3 * * *` is three o'clock each night."""
    zone: str = "UTC"

    def __post_init__(self) -> None:
        cron.zone_named(self.zone)
        object.__setattr__(self, "expression", " ".join(self.expression.split()))
        cron.check(self.expression, self.zone)

    def next_after(self, at: datetime) -> datetime:
        """The first instant of the rule after `at`, in UTC."""
        return cron.next_after(self.expression, self.zone, at)


@dataclass(frozen=True, slots=True)
class Every:
    """The instants `anchor`, `anchor + interval`, `anchor + 2 * interval` and so on; none before the anchor.

    The interval is whole seconds, from one second to ten years. The default anchor is 1970-01-01 00:00 UTC, so that
    `Every(hours(1))` is each full hour. It counts real time and knows no daylight saving. Raises `ConfigError`.
    """

    interval: timedelta
    anchor: datetime = EPOCH
    """An aware instant of whole seconds."""

    def __post_init__(self) -> None:
        if not _SECOND <= self.interval <= _LONGEST or self.interval % _SECOND:
            raise ConfigError(f"Every takes whole seconds, from 1 second to {_LONGEST.days} days, not {self.interval}")
        if self.anchor.tzinfo is None or self.anchor.microsecond:
            raise ConfigError(f"the anchor of Every is an instant with a time zone, to the second, not {self.anchor.isoformat()}")
        object.__setattr__(self, "anchor", self.anchor.astimezone(UTC))

    def next_after(self, at: datetime) -> datetime:
        """The first instant of the rule after `at`, in UTC."""
        if at < self.anchor:
            return self.anchor
        return self.anchor + ((at - self.anchor) // self.interval + 1) * self.interval


Rule = Cron | Every


def to_json(rule: Rule) -> dict[str, Json]:
    """The rule as plain values, equal for equal rules."""
    if isinstance(rule, Cron):
        return {"cron": rule.expression, "zone": rule.zone}
    return {"every": rule.interval // _SECOND, "anchor": rule.anchor.isoformat().replace("+00:00", "Z")}


def from_json(told: Mapping[str, Json]) -> Rule:
    """`to_json` backwards. Raises `ConfigError` for what is no rule."""
    match told:
        case {"cron": str(expression), "zone": str(zone)}:
            return Cron(expression, zone)
        case {"every": int(interval), "anchor": str(anchor)}:
            try:
                return Every(timedelta(seconds=interval), datetime.fromisoformat(anchor))
            except (ValueError, OverflowError):
                pass
    raise ConfigError(f"{dict(told)!r} is no rule of a schedule that this statecraft knows")


def described(told: Mapping[str, Json]) -> str:
    """A rule's plain values as people read them; needs no extra."""
    if "cron" in told:
        return f"{told['cron']} ({told.get('zone')})"
    since = "" if told.get("anchor") == "1970-01-01T00:00:00Z" else f" from {told.get('anchor')}"
    return f"every {_short(told.get('every', 0))}{since}"


def _short(seconds: int) -> str:
    """Whole seconds as `--every` takes them: `36h` is `1d12h`."""
    parts = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        number, seconds = divmod(seconds, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts) or "0s"


def newest(rule: Rule, first: datetime, now: datetime, most: int) -> list[datetime]:
    """The newest instants of the rule in [first, now], oldest first, at most `most`. `first` is one of them.

    However long ago `first` is, only the end of that time is walked through.
    """
    back = _SECOND
    while now - back > first:
        found = _walk(rule, now - back, now, most)
        if len(found) == most:
            return found
        back *= 8
    return [first, *_walk(rule, first, now, most)][-most:]


def _walk(rule: Rule, after: datetime, until: datetime, most: int) -> list[datetime]:
    found: deque[datetime] = deque(maxlen=most)
    at = rule.next_after(after)
    while at <= until:
        found.append(at)
        at = rule.next_after(at)
    return list(found)
