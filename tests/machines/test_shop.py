"""The shop's tables refuse what must never happen, whoever asks."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from machines import shop
from machines.desk import Desk, open_shop
from machines.shop import ShopError, money
from statecraft.tools import ToolArgumentsInvalid

ANN, BEN = "ann@example.com", "ben@example.com"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(shop.create(tmp_path / "shop.db"))


def rows(path: str, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def test_a_new_shop_has_the_same_rows_every_time(tmp_path: Path) -> None:
    dumps = []
    for name in ("one.db", "two.db"):
        with closing(sqlite3.connect(shop.create(tmp_path / name))) as db:
            dumps.append(list(db.iterdump()))
    assert dumps[0] == dumps[1]
    assert sum(line.startswith("INSERT") for line in dumps[0]) > 40


def test_creating_it_again_changes_nothing(path: str) -> None:
    shop.refund(path, ANN, 1042, 500, "late", "key")
    shop.create(path)
    assert [refund.cents for refund in shop.refunds_of(path, ANN)] == [500]


def test_many_who_create_it_at_once_make_one_shop(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "shop.db"
    failures: list[Exception] = []

    def make() -> None:
        try:
            shop.create(path)
        except Exception as error:
            failures.append(error)

    makers = [threading.Thread(target=make) for _ in range(6)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert failures == []
    assert rows(str(path), "SELECT count(*) FROM customers") == [(7,)]


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE mine (x)")
    text.write_text("not a database at all, but long enough to be looked at by somebody")
    with pytest.raises(ShopError, match="something else"):
        shop.create(other)
    with pytest.raises(ShopError, match="cannot be a shop"):
        shop.create(text)
    assert open_shop(str(text)).problem
    assert rows(str(other), "SELECT name FROM sqlite_master") == [("mine",)]


def test_a_file_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(ShopError, match="cannot be used"):
        shop.find_customer(str(tmp_path / "none.db"), ANN)
    assert not (tmp_path / "none.db").exists()


def test_refunds_never_exceed_what_was_paid(path: str) -> None:
    paid = shop.order_of(path, ANN, 1042).paid
    shop.refund(path, ANN, 1042, paid - 1, "broken", "one")
    with pytest.raises(ShopError, match="may not exceed what was paid"):
        shop.refund(path, ANN, 1042, 2, "broken", "two")
    shop.refund(path, ANN, 1042, 1, "broken", "three")
    assert shop.order_of(path, ANN, 1042).refunded == paid


def test_a_key_pays_once_and_belongs_to_one_refund(path: str) -> None:
    first = shop.refund(path, ANN, 1042, 500, "late", "key")
    assert shop.refund(path, ANN, 1042, 500, "late", "key") == first
    with pytest.raises(ShopError, match=r"belongs to refund 1, of €5\.00 on order 1042"):
        shop.refund(path, ANN, 1042, 600, "late", "key")
    assert rows(path, "SELECT cents FROM refunds") == [(500,)]


@pytest.mark.parametrize("cents", [0, -5])
def test_a_refund_is_more_than_nothing(path: str, cents: int) -> None:
    with pytest.raises(ShopError, match="CHECK"):
        shop.refund(path, ANN, 1042, cents, "", "key")


@pytest.mark.parametrize("statement", ["UPDATE refunds SET cents = 1", "DELETE FROM refunds"])
def test_a_refund_made_is_never_changed_or_deleted(path: str, statement: str) -> None:
    shop.refund(path, ANN, 1042, 500, "late", "key")
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)


@pytest.mark.parametrize("number", [1041, 9999])
def test_an_order_of_somebody_else_is_as_unknown_as_none(path: str, number: int) -> None:
    for attempt in (
        lambda: shop.order_of(path, ANN, number),
        lambda: shop.refund(path, ANN, number, 100, "mine now", "key"),
        lambda: shop.change_address(path, ANN, number, "my place", "key"),
    ):
        with pytest.raises(ShopError, match=f"^{ANN} has no order {number}$"):
            attempt()
    assert rows(path, "SELECT count(*) FROM refunds") == [(0,)]


def test_an_address_changes_until_the_order_is_packed_and_twice_is_once(path: str) -> None:
    for _ in range(2):
        assert shop.change_address(path, BEN, 1050, "Elsewhere 1", "key").address == "Elsewhere 1"
    assert rows(path, "SELECT kind FROM notes") == [("change",)]
    with pytest.raises(ShopError, match="order 1048 is packed"):
        shop.change_address(path, "carla@example.com", 1048, "Elsewhere 1", "other")


def test_a_reply_is_sent_once_for_a_key(path: str) -> None:
    assert shop.send_reply(path, ANN, "Hello", "key") == shop.send_reply(path, ANN, "Hello", "key")
    assert rows(path, "SELECT text FROM notes") == [("Hello",)]


def test_customers_are_found_in_whatever_case_they_write(path: str) -> None:
    found = shop.find_customer(path, " Ann@Example.COM ")
    assert found is not None
    assert found.name == "Ann Baker"
    assert [order.number for order in shop.orders_of(path, "ANN@example.com")] == [1046, 1042]


def test_no_tool_for_the_model_takes_a_customer_or_a_file(path: str) -> None:
    """So no message can talk the model into another customer's order."""
    for tool in Desk(path, ANN).for_the_model:
        assert not {"email", "shop", "path", "key", "info"} & set(tool.spec["input_schema"]["properties"])


@pytest.mark.parametrize("cents", [0, -1, 1.5, "many"])
def test_the_refund_tool_takes_whole_cents_only(path: str, cents: object) -> None:
    with pytest.raises(ToolArgumentsInvalid):
        Desk(path, ANN).refund_order.validate({"order": 1042, "cents": cents, "reason": "x"})


def test_money_is_written_as_people_do() -> None:
    assert [money(cents) for cents in (5, 1280, 100_000)] == ["€0.05", "€12.80", "€1000.00"]
