"""List prices from the `prices` extra: the data that the genai-prices package ships, read offline. Its only door."""

from __future__ import annotations

from importlib.metadata import version

import genai_prices  # pyright: ignore[reportMissingImports]  # optional

from statecraft.llm.prices import Priced
from statecraft.money import billionths
from statecraft.records import Usage

PROVIDER = "anthropic"
"""Asked first: other providers resell models of the same name at prices of their own."""


class GenaiPrices:
    """A price book over the shipped data. It is as old as the installed package; nothing is downloaded."""

    def __init__(self) -> None:
        self._source = f"genai-prices {version('genai-prices')}"

    def cost(self, model: str, usage: Usage) -> Priced | None:
        # Input includes its cached parts there as it does here. Writes count as those that live five minutes.
        asked = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        for provider in (PROVIDER, None):
            try:
                found = genai_prices.calc_price(asked, model, provider_id=provider)
            except LookupError:
                continue
            return Priced(billionths(found.total_price), self._source)
        return None
