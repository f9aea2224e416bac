"""Money: dollars for people, whole billionths of a dollar inside, so that sums are exact."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

from statecraft.errors import ConfigError

BILLION = 1_000_000_000
"""Billionths in a dollar."""

Dollars = Decimal | str | float | int
"""An amount as people write it: `"0.20"`, `Decimal("0.20")`, `0.2` or `3`."""

_MOST = Decimal(1_000_000_000)
"""Dollars. Beyond it an amount is a mistake, and would not fit the database's integers."""


def decimal(amount: Dollars, what: str) -> Decimal:
    """An amount in dollars as an exact number; a float means what it prints. `what` names it in the `ConfigError` for
    something that is no amount from 0 up."""
    try:
        exact = Decimal(str(amount)) if not isinstance(amount, bool) else Decimal("NaN")
    except InvalidOperation:
        exact = Decimal("NaN")
    if not (exact.is_finite() and 0 <= exact <= _MOST):
        raise ConfigError(f'{what} is an amount of dollars from 0 up, such as "0.20", not {amount!r}')
    return exact


def billionths(amount: Decimal) -> int:
    """An amount in whole billionths of a dollar, rounded up: a budget may be left over by less than one, never overdrawn."""
    return int((amount * BILLION).to_integral_value(ROUND_CEILING))


def dollars(amount: int) -> float:
    """Billionths as a number of dollars, for events and screens."""
    return amount / BILLION


def shown(amount: int) -> str:
    """Billionths as people read them: `$0.20`, and as many digits as a small amount needs."""
    exact = (Decimal(amount) / BILLION).normalize()
    return f"${exact:,.2f}" if exact == round(exact, 2) else f"${exact:f}"
