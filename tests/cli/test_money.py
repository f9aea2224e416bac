"""What `statecraft show` says of money."""

from __future__ import annotations

from datetime import UTC, datetime

from statecraft.cli.show import money_of
from statecraft.records import CallRecord, Usage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def call(model: str | None, cost: int | None) -> CallRecord:
    return CallRecord(
        run_id="00", seq=0, idx=0, kind="llm", name=model or "search", digest="00", occurrence=0, ok=True, attempts=1,
        request=None, result=None, model=model, usage=Usage(), started_at=NOW, finished_at=NOW, epoch=1, cost=cost,
    )  # fmt: skip


def test_the_sum_of_known_costs_is_shown() -> None:
    assert money_of([call("big", 134_000_000), call(None, 6_000_000), call(None, None)]) == ", $0.14"


def test_a_model_of_unknown_price_makes_it_a_lower_bound() -> None:
    assert money_of([call("big", 134_000_000), call("odd", None)]) == ", at least $0.134"


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert money_of([call("odd", None), call(None, None)]) == money_of([]) == ""
