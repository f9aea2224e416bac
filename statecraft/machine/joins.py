"""When `run.map` is content: with all results, with the first ones, or with whatever each item came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from statecraft.errors import ConfigError


@dataclass(frozen=True, slots=True)
class All:
    """Every item must succeed; the first error in the order of the items is raised after all have ended."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Wait for every item; an error takes the place of its result."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The first item that succeeds; the others are stopped."""


@dataclass(frozen=True, slots=True)
class First:
    """The first `n` items that succeed; the others are stopped."""

    n: int

    def __post_init__(self) -> None:
        given: object = self.n
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise ConfigError(f"first(n) waits for at least 1 item, not {self.n!r}")


Join = All | Collect | AnyOf | First

all_of: Final = All()
"""The default of `run.map`: all results, or the first error."""
any_of: Final = AnyOf()
"""`run.map(..., join=any_of)`: the result of the first item that succeeds."""
collect: Final = Collect()
"""`run.map(..., join=collect)`: results and errors, each in its place."""


def first(n: int) -> First:
    """`run.map(..., join=first(n))`: the results of the first `n` items that succeed, in the order of the items."""
    return First(n)
