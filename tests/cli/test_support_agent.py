"""The support agent from the command line: a refund is asked about, lowered, and paid once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from machines import shop
from tests.cli.support import cli, fields

BROKEN = "The kettle of order 1042 arrived broken. Please refund it."
ANN = "ann@example.com"


@pytest.fixture(autouse=True)
def settings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and a cache folder of the test's own."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))


@pytest.mark.slow
def test_a_refund_is_asked_about_lowered_by_the_reviewer_and_paid(place: Path) -> None:
    asked = cli("start", "support", "--set", f"email={ANN}", "--set", f"message={BROKEN}")
    assert asked.exit_code == 4, asked.stderr
    assert "offline model (a few rules, not an LLM)" in asked.stderr
    run = asked.stdout.strip()
    path = str(place / "cache" / "statecraft" / "shop.db")
    assert shop.refunds_of(path, ANN) == []
    review = json.loads(cli("review", "show", "@last", "--json").stdout)["review"]
    assert (review["tool"], review["arguments"]["cents"]) == ("refund", 6490)
    done = cli("review", "modify", "@last", "--approve", "--set", "cents=3000", "--by", "ben")
    assert done.exit_code == 0, done.stderr
    assert [refund.cents for refund in shop.refunds_of(path, ANN)] == [3000]
    data = fields(cli("show", run, "--data", "--json"))["data"]
    assert "€30.00 on order 1042" in data["reply"]
    assert cli("replay", run).exit_code == 0


@pytest.mark.slow
def test_a_shop_given_by_name_is_made_and_used(place: Path) -> None:
    done = cli("start", "support", "--set", f"email={ANN}", "--set", "message=Where is my order 1046?", "--set", "shop=mine.db")
    assert done.exit_code == 0, done.stderr
    assert (place / "mine.db").exists()
    assert not (place / "cache").exists()
