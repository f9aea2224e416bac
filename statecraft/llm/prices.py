"""What models cost. Prices go stale, so yours come first; a price that nobody knows is unknown, never zero."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

from statecraft import trace
from statecraft.errors import ConfigError
from statecraft.money import Dollars, billionths, decimal
from statecraft.records import Usage

_DATED = re.compile(r"-\d{8}$")
"""What a provider appends to a model's name for one release of it."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in dollars per million tokens. Raises `ConfigError` for what is no price."""

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    """Input read from the provider's cache; like other input if not given."""
    cache_write: Dollars | None = None
    """Input written to it; like other input if not given."""

    def __post_init__(self) -> None:
        for name in ("input", "output", "cache_read", "cache_write"):
            if name in ("input", "output") or getattr(self, name) is not None:
                object.__setattr__(self, name, decimal(getattr(self, name), f"a price's {name}"))

    def of(self, usage: Usage) -> int:
        """The cost in billionths of a dollar, rounded up."""
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        parts = (
            (plain, self.input),
            (usage.cache_read_tokens, read),
            (usage.cache_write_tokens, write),
            (usage.output_tokens, self.output),
        )
        return billionths(sum((count * Decimal(price) for count, price in parts), Decimal(0)) / 1_000_000)


@dataclass(frozen=True, slots=True)
class Priced:
    """The cost of one call."""

    amount: int
    """Billionths of a dollar."""
    source: str
    """Where the price came from: `settings`, or the name and version of a price list."""


@runtime_checkable
class PriceBook(Protocol):
    """Knows what models cost."""

    def cost(self, model: str, usage: Usage) -> Priced | None:
        """The cost of a call; None if it does not know the model's price. Quick, and never over the network."""
        ...


class Table:
    """Prices by model. A dated release, such as `claude-sonnet-5-5-20260901`, costs what its model costs unless it is
    listed itself."""

    def __init__(self, prices: Mapping[str, Price], source: str = "settings") -> None:
        for model, price in prices.items():
            if not isinstance(price, Price):
                raise ConfigError(f"settings.prices[{model!r}] is a Price, not {price!r}")
        self._prices, self._source = dict(prices), source

    def cost(self, model: str, usage: Usage) -> Priced | None:
        price = self._prices.get(model) or self._prices.get(_DATED.sub("", model))
        return None if price is None else Priced(price.of(usage), self._source)


class Books:
    """Several price books: the first that knows a model prices it. Says once per model that nobody does. One that raises
    leaves this call without a price."""

    def __init__(self, books: Sequence[PriceBook]) -> None:
        self._books = tuple(books)
        self._unknown: set[str] = set()

    def cost(self, model: str, usage: Usage) -> Priced | None:
        if model in self._unknown:
            return None
        for book in self._books:
            try:
                priced = book.cost(model, usage)
            except Exception as error:  # noqa: BLE001 - the reply is there, and must not be lost for its price
                trace.emit(
                    "alert", {"target": model, "reason": f"its price book raised {type(error).__name__}"}, level=logging.WARNING
                )
                return None
            if priced is not None:
                return priced
        self._unknown.add(model)
        why = "no price is known, so its calls have no cost; give Settings(prices=...) or install statecraft-agents[prices]"
        trace.emit("alert", {"target": model, "reason": why}, level=logging.WARNING)
        return None


def price_book(given: Mapping[str, Price] | PriceBook | None) -> PriceBook:
    """The price book of a runtime: what it was given, then the list of the `prices` extra if that is installed."""
    books: list[PriceBook] = []
    if isinstance(given, PriceBook):
        books.append(given)
    elif given:
        books.append(Table(given))
    if find_spec("genai_prices") is not None:
        books.append(_Listed())
    return Books(books)


class _Listed:
    """The list of the `prices` extra, loaded with the first question: it takes about a second."""

    def __init__(self) -> None:
        self._book: PriceBook | None = None

    def cost(self, model: str, usage: Usage) -> Priced | None:
        if self._book is None:
            from statecraft.llm.genai import GenaiPrices

            self._book = GenaiPrices()
        return self._book.cost(model, usage)
