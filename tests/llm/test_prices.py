"""What models cost, to the billionth of a dollar, and what happens when nobody knows."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecraft.errors import ConfigError
from statecraft.llm import prices
from statecraft.llm.prices import Books, Price, PriceBook, Priced, Table, price_book
from statecraft.money import shown
from statecraft.records import Usage

SONNET = Price("2", "10", cache_read="0.10", cache_write="2.50")


def test_every_part_of_a_usage_has_its_price() -> None:
    assert SONNET.of(Usage(1_000_000, 1_000_000)) == 12_000_000_000
    assert SONNET.of(Usage(1000, 50, cache_read_tokens=100, cache_write_tokens=200)) == 2_410_000


def test_cached_input_without_a_price_of_its_own_costs_like_other_input() -> None:
    assert Price(3, 15).of(Usage(1000, 0, 400, 600)) == Price(3, 15).of(Usage(1000, 0))


def test_a_cost_is_rounded_up_to_a_whole_billionth() -> None:
    assert Price("0.0001", 0).of(Usage(1, 0)) == 1


def test_a_float_price_means_what_it_prints() -> None:
    assert Price(0.1, 0.3) == Price("0.1", Decimal("0.3"))


@given(
    st.builds(Usage, st.integers(0, 10**7), st.integers(0, 10**6)), st.builds(Usage, st.integers(0, 10**7), st.integers(0, 10**6))
)
def test_two_calls_cost_no_less_than_both_at_once(one: Usage, other: Usage) -> None:
    together = SONNET.of(one + other)
    assert together <= SONNET.of(one) + SONNET.of(other) <= together + 1


@pytest.mark.parametrize("wrong", [-1, "a lot", "nan", "inf", True, "1e30"])
def test_a_price_that_is_no_amount_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="a price's input"):
        Price(wrong, 1)


def test_a_dated_release_costs_what_its_model_costs_and_a_longer_name_is_another_model() -> None:
    table = Table({"claude-opus-5": Price(5, 25), "claude-opus-5-20260101": Price(1, 1)})
    one = Usage(1_000_000, 0)
    assert table.cost("claude-opus-5-20260202", one) == Priced(5_000_000_000, "settings")
    assert table.cost("claude-opus-5-20260101", one) == Priced(1_000_000_000, "settings")
    assert table.cost("claude-opus-5-5", one) is None


def test_a_table_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"settings\.prices\['m'\]"):
        price_book({"m": cast(Price, 3)})


def test_the_first_book_that_knows_a_model_prices_it() -> None:
    books = Books([Table({"a": Price(1, 1)}, "mine"), Table({"a": Price(2, 2), "b": Price(3, 3)}, "list")])
    found = [books.cost(model, Usage(1_000_000, 0)) for model in ("a", "b")]
    assert found == [Priced(1_000_000_000, "mine"), Priced(3_000_000_000, "list")]


def test_a_price_nobody_knows_is_unknown_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    books = Books([Table({})])
    with caplog.at_level(logging.WARNING, logger="statecraft"):
        assert [books.cost("m", Usage(1, 1)), books.cost("m", Usage(2, 2))] == [None, None]
    assert [record.getMessage() for record in caplog.records] == ["alert"]
    assert caplog.records[0].__dict__["target"] == "m"


def test_a_price_book_of_ones_own_is_taken_as_it_is() -> None:
    class Flat:
        def cost(self, model: str, usage: Usage) -> Priced | None:
            return Priced(7, "flat rate")

    assert isinstance(Flat(), PriceBook)
    assert price_book(Flat()).cost("anything", Usage()) == Priced(7, "flat rate")


def test_a_price_book_that_raises_costs_no_reply_and_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    class Moody:
        def cost(self, model: str, usage: Usage) -> Priced | None:
            if usage.cache_read_tokens:
                raise ValueError("more was read than sent")
            return Priced(7, "flat rate")

    books = price_book(Moody())
    assert [books.cost("m", Usage(1, 1, 5)), books.cost("m", Usage(1, 1))] == [None, Priced(7, "flat rate")]
    assert caplog.records[0].__dict__["reason"] == "its price book raised ValueError"


def test_without_the_extra_only_the_given_table_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "find_spec", lambda name: None)
    assert price_book(None).cost("claude-sonnet-5-5", Usage(1, 1)) is None


def test_the_list_of_the_extra_knows_caches_tiers_and_releases() -> None:
    pytest.importorskip("genai_prices")
    from statecraft.llm.genai import GenaiPrices

    book = GenaiPrices()
    plain = book.cost("claude-sonnet-5-5", Usage(1000, 50, 100, 200))
    assert plain is not None
    assert plain.amount == SONNET.of(Usage(1000, 50, 100, 200))
    assert plain.source.startswith("genai-prices 0.")
    assert book.cost("claude-sonnet-5-5-20260901", Usage(1000, 50, 100, 200)) == plain
    low, high = (book.cost("claude-haiku-5-5", Usage(tokens, 0)) for tokens in (100_000, 200_000))
    assert low is not None
    assert high is not None
    assert high.amount > 2 * low.amount
    assert book.cost("no such model", Usage(1, 1)) is None


def test_the_settings_win_over_the_list_of_the_extra() -> None:
    pytest.importorskip("genai_prices")
    book = price_book({"claude-sonnet-5-5": Price(1, 1)})
    mine, theirs = (book.cost(model, Usage(1_000_000, 0)) for model in ("claude-sonnet-5-5", "claude-haiku-4-5"))
    assert mine == Priced(1_000_000_000, "settings")
    assert theirs is not None
    assert theirs.source.startswith("genai-prices")


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (200_000_000, "$0.20"),
        (1_000_000_000, "$1.00"),
        (1234_500_000_000, "$1,234.50"),
        (2_410_000, "$0.00241"),
        (1, "$0.000000001"),
        (0, "$0.00"),
    ],
)
def test_money_is_shown_with_the_digits_it_needs(amount: int, words: str) -> None:
    assert shown(amount) == words
