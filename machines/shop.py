"""A small shop in one SQLite file: its tables, a few dozen rows to try things with, and what may be done to them.

Every function opens its own connection and makes one transaction. What must never happen is refused by the tables, not by
the callers: a refund beyond what was paid, a second refund under one idempotency key, a refund changed afterwards.
Amounts are whole euro cents.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel

from statecraft import StatecraftError

from .shop_rows import CUSTOMERS, ORDER_LINES, ORDERS, POLICIES, PRODUCTS  # noqa: TID252

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE customers (
    number INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE, name TEXT NOT NULL, since TEXT NOT NULL
) STRICT;
CREATE TABLE products (
    sku TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, cents INTEGER NOT NULL CHECK (cents > 0)
) STRICT;
CREATE TABLE orders (
    number INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customers,
    placed_on TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('paid', 'packed', 'shipped', 'delivered', 'cancelled')),
    address TEXT NOT NULL CHECK (address <> ''),
    carrier TEXT NOT NULL DEFAULT '',
    tracking TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE order_lines (
    order_number INTEGER NOT NULL REFERENCES orders,
    sku TEXT NOT NULL REFERENCES products,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    cents INTEGER NOT NULL CHECK (cents > 0),
    PRIMARY KEY (order_number, sku)
) STRICT;
CREATE TABLE refunds (
    number INTEGER PRIMARY KEY,
    order_number INTEGER NOT NULL REFERENCES orders,
    cents INTEGER NOT NULL CHECK (cents > 0),
    reason TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE CHECK (key <> ''),
    made_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE TABLE notes (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('change', 'reply')),
    email TEXT NOT NULL,
    text TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE CHECK (key <> '')
) STRICT;
CREATE TABLE policies (topic TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TRIGGER refund_within_what_was_paid BEFORE INSERT ON refunds
WHEN NEW.cents + coalesce((SELECT sum(cents) FROM refunds WHERE order_number = NEW.order_number), 0)
   > coalesce((SELECT sum(quantity * cents) FROM order_lines WHERE order_number = NEW.order_number), 0)
BEGIN SELECT RAISE(ABORT, 'a refund may not exceed what was paid'); END;
CREATE TRIGGER refunds_stay BEFORE UPDATE ON refunds BEGIN SELECT RAISE(ABORT, 'a refund is never changed'); END;
CREATE TRIGGER refunds_are_kept BEFORE DELETE ON refunds BEGIN SELECT RAISE(ABORT, 'a refund is never deleted'); END;
"""


class ShopError(StatecraftError):
    """The shop refuses: there is no such file, order or customer, or the tables do not allow it. Nothing was changed."""


class Customer(BaseModel):
    number: int
    email: str
    name: str
    since: str
    """Date of the first order, ISO 8601."""


class Line(BaseModel):
    product: str
    quantity: int
    cents: int
    """For one piece, in euro cents."""


class Order(BaseModel):
    number: int
    placed_on: str
    status: Literal["paid", "packed", "shipped", "delivered", "cancelled"]
    address: str
    carrier: str
    tracking: str
    lines: list[Line]
    paid: int
    """In euro cents."""
    refunded: int
    """So far, in euro cents."""


class Refund(BaseModel):
    number: int
    order: int
    cents: int
    reason: str
    key: str
    """The idempotency key it was made under."""


def money(cents: int) -> str:
    """An amount as people write it: `€24.90`."""
    return f"€{cents // 100}.{cents % 100:02d}"


# --- the file ---------------------------------------------------------------------------------------------------------


def default_path() -> Path:
    """Where the shop is if nobody says: `statecraft/shop.db` in the user's cache folder. Deleting it starts it over."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if Path(named).is_absolute():
        return Path(named) / "statecraft" / "shop.db"
    with contextlib.suppress(RuntimeError):
        return Path.home() / ".cache" / "statecraft" / "shop.db"
    return Path(tempfile.gettempdir()) / "statecraft-shop.db"


def create(path: Path | str) -> Path:
    """Make the shop in a file, with its rows, unless it is there already. Two processes may do so at once.

    Raises `ShopError` if the file cannot be one: it holds something else, or its folder cannot be written.
    """
    place = Path(path).expanduser().absolute()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _connected(f"file:{quote(str(place))}?mode=rwc") as shop, _transaction(shop):
            (version,) = shop.execute("PRAGMA user_version").fetchone()
            (others,) = shop.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version == 0 and others == 0:
                _fill(shop)
            elif version != SCHEMA_VERSION:
                raise ShopError(f"{place} is a database of something else; name another file")
    except (OSError, sqlite3.Error) as error:
        raise ShopError(f"{place} cannot be a shop: {error}") from error
    return place


def _fill(shop: sqlite3.Connection) -> None:
    for statement in _statements(_SCHEMA):
        shop.execute(statement)
    shop.executemany("INSERT INTO customers VALUES (?, ?, ?, ?)", CUSTOMERS)
    shop.executemany("INSERT INTO products VALUES (?, ?, ?)", PRODUCTS)
    shop.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", ORDERS)
    shop.executemany("INSERT INTO order_lines SELECT ?, sku, ?, cents FROM products WHERE sku = ?", ORDER_LINES)
    shop.executemany("INSERT INTO policies VALUES (?, ?)", POLICIES)
    shop.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit before it begins."""
    text = ""
    for line in script.strip().splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""


@contextlib.contextmanager
def _connected(uri: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None)) as shop:
        shop.execute("PRAGMA foreign_keys = ON")
        yield shop


@contextlib.contextmanager
def _transaction(shop: sqlite3.Connection) -> Iterator[None]:
    shop.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        shop.execute("ROLLBACK")
        raise
    shop.execute("COMMIT")


@contextlib.contextmanager
def _open(path: str, mode: Literal["ro", "rw"]) -> Iterator[sqlite3.Connection]:
    """One connection; with `rw`, inside one transaction. What the tables refuse is a `ShopError` in their words."""
    try:
        with _connected(f"file:{quote(path)}?mode={mode}") as shop:
            if mode == "ro":
                yield shop
            else:
                with _transaction(shop):
                    yield shop
    except sqlite3.IntegrityError as error:
        raise ShopError(f"the shop refuses: {error}") from error
    except sqlite3.Error as error:
        raise ShopError(f"the shop {path} cannot be used: {error}") from error


# --- looking ----------------------------------------------------------------------------------------------------------


def find_customer(path: str, email: str) -> Customer | None:
    """The customer with an e-mail address, in whatever case it is written."""
    with _open(path, "ro") as shop:
        row = shop.execute("SELECT number, email, name, since FROM customers WHERE email = ?", (email.strip(),)).fetchone()
    return None if row is None else Customer(number=row[0], email=row[1], name=row[2], since=row[3])


def orders_of(path: str, email: str) -> list[Order]:
    """All orders of a customer, newest first."""
    with _open(path, "ro") as shop:
        found = shop.execute(
            "SELECT o.number FROM orders o JOIN customers c ON c.number = o.customer WHERE c.email = ? ORDER BY o.number DESC",
            (email.strip(),),
        ).fetchall()
        return [_order(shop, number) for (number,) in found]


def order_of(path: str, email: str, number: int) -> Order:
    """One order of a customer. Raises `ShopError` for an order that is not there or is somebody else's, alike."""
    with _open(path, "ro") as shop:
        return _own_order(shop, email, number)


def refunds_of(path: str, email: str) -> list[Refund]:
    """All refunds on a customer's orders, oldest first."""
    with _open(path, "ro") as shop:
        rows = shop.execute(
            "SELECT r.number, r.order_number, r.cents, r.reason, r.key FROM refunds r JOIN orders o ON o.number = r.order_number "
            "JOIN customers c ON c.number = o.customer WHERE c.email = ? ORDER BY r.number",
            (email.strip(),),
        ).fetchall()
    return [Refund(number=row[0], order=row[1], cents=row[2], reason=row[3], key=row[4]) for row in rows]


def policy(path: str, topic: str) -> str:
    """The shop's rules about `refunds`, `changes` or `delivery`. Raises `ShopError` for another topic."""
    with _open(path, "ro") as shop:
        rules = dict(shop.execute("SELECT topic, text FROM policies").fetchall())
    if topic not in rules:
        raise ShopError(f"there is no policy about {topic!r}; there is {', '.join(sorted(rules))}")
    return str(rules[topic])


def _own_order(shop: sqlite3.Connection, email: str, number: int) -> Order:
    owned = shop.execute(
        "SELECT 1 FROM orders o JOIN customers c ON c.number = o.customer WHERE o.number = ? AND c.email = ?",
        (number, email.strip()),
    ).fetchone()
    if owned is None:
        raise ShopError(f"{email} has no order {number}")
    return _order(shop, number)


def _order(shop: sqlite3.Connection, number: int) -> Order:
    head = shop.execute("SELECT placed_on, status, address, carrier, tracking FROM orders WHERE number = ?", (number,)).fetchone()
    rows = shop.execute(
        "SELECT p.name, l.quantity, l.cents FROM order_lines l JOIN products p USING (sku) "
        "WHERE l.order_number = ? ORDER BY p.name",
        (number,),
    ).fetchall()
    lines = [Line(product=name, quantity=quantity, cents=cents) for name, quantity, cents in rows]
    (refunded,) = shop.execute("SELECT coalesce(sum(cents), 0) FROM refunds WHERE order_number = ?", (number,)).fetchone()
    return Order(
        number=number,
        placed_on=head[0],
        status=head[1],
        address=head[2],
        carrier=head[3],
        tracking=head[4],
        lines=lines,
        paid=sum(line.quantity * line.cents for line in lines),
        refunded=refunded,
    )


# --- doing ------------------------------------------------------------------------------------------------------------


def refund(path: str, email: str, order: int, cents: int, reason: str, key: str) -> Refund:
    """Pay money back. Under a key used before, nothing is paid: the answer is the refund made then.

    Raises `ShopError` for an order of somebody else, more than is left of what was paid, or a key of another refund.
    """
    with _open(path, "rw") as shop:
        _own_order(shop, email, order)
        known = shop.execute("SELECT number, order_number, cents, reason FROM refunds WHERE key = ?", (key,)).fetchone()
        if known is None:
            row = (order, cents, reason, key)
            made = shop.execute(
                "INSERT INTO refunds (order_number, cents, reason, key) VALUES (?, ?, ?, ?) RETURNING number", row
            )
            known = (int(made.fetchone()[0]), order, cents, reason)
        elif known[1:3] != (order, cents):
            raise ShopError(f"the key belongs to refund {known[0]}, of {money(known[2])} on order {known[1]}")
    return Refund(number=known[0], order=known[1], cents=known[2], reason=known[3], key=key)


def change_address(path: str, email: str, order: int, address: str, key: str) -> Order:
    """Send an order somewhere else, as long as it has not been packed. Doing it again changes nothing.

    Raises `ShopError` for an order of somebody else, one that is packed or gone, or an empty address.
    """
    with _open(path, "rw") as shop:
        found = _own_order(shop, email, order)
        if found.address == address:
            return found
        if found.status != "paid":
            raise ShopError(f"order {order} is {found.status}: its address can no longer be changed")
        shop.execute("UPDATE orders SET address = ? WHERE number = ?", (address, order))
        text = f"order {order}: address changed from {found.address!r} to {address!r}"
        shop.execute("INSERT OR IGNORE INTO notes (kind, email, text, key) VALUES ('change', ?, ?, ?)", (email, text, key))
        return _order(shop, order)


def send_reply(path: str, email: str, text: str, key: str) -> int:
    """Put a reply into the mail (here: into the notes); answers its number. Under one key it is sent once."""
    with _open(path, "rw") as shop:
        shop.execute("INSERT OR IGNORE INTO notes (kind, email, text, key) VALUES ('reply', ?, ?, ?)", (email, text, key))
        return int(shop.execute("SELECT number FROM notes WHERE key = ?", (key,)).fetchone()[0])
