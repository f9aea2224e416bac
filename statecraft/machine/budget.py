"""What a run, or its visits of one state, may spend, and when it is warned."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from statecraft.clock import micros
from statecraft.errors import ConfigError
from statecraft.money import BILLION, Dollars, billionths, decimal, dollars, shown


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on what may be spent. At least one is given; each of them warns, and each of them holds.

    Raises `ConfigError` for a limit that cannot be.
    """

    tokens: int | None = None
    """Input and output of models together."""
    warn_at: float = 0.8
    """Share of a limit, above 0 and up to 1, whose use raises `BudgetWarning`."""
    _: KW_ONLY
    money: Dollars | None = None
    """Dollars. Models cost what the price book says, tools what they declare."""
    calls: int | None = None
    """Calls of models and tools, repeated attempts that may have been billed included."""
    wall: timedelta | None = None
    """Time since the run began, waiting included. For a state, use its `timeout`."""
    limits: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """What it allows by unit: `tokens`, `money` (billionths of a dollar), `calls`."""

    def __post_init__(self) -> None:
        limits: dict[str, int] = {}
        for unit, one in (("tokens", "1 token"), ("calls", "1 call")):
            amount: Any = getattr(self, unit)
            if amount is None:
                continue
            if not isinstance(amount, int) or isinstance(amount, bool) or amount < 1:
                raise ConfigError(f"a budget needs at least {one}, not {amount!r}")
            limits[unit] = amount
        if self.money is not None:
            exact = decimal(self.money, "a budget's money")
            if exact == 0:
                raise ConfigError("a budget's money is more than 0 dollars")
            object.__setattr__(self, "money", exact)
            limits["money"] = billionths(exact)
        wall: Any = self.wall
        if wall is not None and (not isinstance(wall, timedelta) or wall <= timedelta(0)):
            raise ConfigError(f"a budget's wall is a time greater than 0, such as minutes(10), not {wall!r}")
        if not limits and wall is None:
            raise ConfigError("a budget needs at least one limit: tokens, money, calls or wall")
        share: Any = self.warn_at
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise ConfigError(f"warn_at is a share above 0 and up to 1, not {share!r}")
        object.__setattr__(self, "limits", limits)

    @property
    def wall_micros(self) -> int | None:
        """`wall` in microseconds."""
        return None if self.wall is None else micros(self.wall)

    def described(self) -> dict[str, Any]:
        """It as JSON, for the specification of a machine. Limits added later appear only where they are given, so that
        the fingerprints of older machines stay."""
        found: dict[str, Any] = {"tokens": self.tokens, "warn_at": self.warn_at}
        if self.money is not None:
            found["money"] = f"{Decimal(self.limits['money']) / BILLION:f}"
        if self.calls is not None:
            found["calls"] = self.calls
        if self.wall is not None:
            found["wall_s"] = self.wall.total_seconds()
        return found


def nothing() -> Budget:
    """The budget of who makes no calls at all. It can only be declared for a visit, as `per_visit=0`."""
    none = copy(Budget(calls=1))
    object.__setattr__(none, "calls", 0)
    object.__setattr__(none, "limits", {"calls": 0})
    return none


def public(unit: str, amount: int) -> float:
    """An amount as events tell it: money in dollars, wall time in seconds, anything else as it is."""
    if unit == "money":
        return dollars(amount)
    return amount / 1_000_000 if unit == "wall" else amount


def said(unit: str, amount: int) -> str:
    """An amount in words: `$0.20`, `1,200 tokens`, `90 s`."""
    if unit == "money":
        return shown(amount)
    if unit == "wall":
        return f"{amount / 1_000_000:g} s"
    return f"{amount:,} {unit if amount != 1 else unit[:-1]}"
