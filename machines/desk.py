"""What the support agent can do in the shop, as tools. They are bound to one shop and one customer: whatever a message
talks the model into, it cannot name another customer's order, because no argument says whose it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from statecraft import CallInfo, Tool, tool

from . import shop as shops  # noqa: TID252
from .shop import Customer, Order, Refund  # noqa: TID252

Topic = Literal["refunds", "changes", "delivery"]
Cents = Annotated[int, Field(gt=0)]
_AT_MOST = timedelta(seconds=20)


class Opened(BaseModel):
    """Where the shop is."""

    shop: str
    problem: str = ""
    """Why there is none; empty if all is well."""


@tool(effect="idempotent", risk="low", timeout=_AT_MOST)
def open_shop(shop: str = "") -> Opened:
    """Find the shop's database, or make one to try things with. Empty: the one in the user's cache folder."""
    try:
        return Opened(shop=str(shops.create(shop or shops.default_path())))
    except shops.ShopError as error:
        return Opened(shop=shop, problem=str(error))


class Desk:
    """The tools of one customer's desk."""

    def __init__(self, shop: str, email: str) -> None:
        self._shop, self._email = shop, email
        reads = tool(effect="read", risk="safe", timeout=_AT_MOST)
        writes = tool(effect="idempotent", risk="medium", timeout=_AT_MOST)
        # The key makes a second attempt harmless in this shop. In yours it may not: so a run that does not know whether
        # money has left asks a person.
        pays = tool(effect="once", risk="high", timeout=_AT_MOST)
        self.customer = reads(self.find_customer)
        self.orders = reads(self.list_orders)
        self.refunds = reads(self.list_refunds)
        self.order = reads(self.show_order)
        self.policy = reads(self.read_policy)
        self.refund_order = pays(self.refund)
        self.change = writes(self.change_order)
        self.reply = writes(self.send_reply)

    @property
    def lookups(self) -> tuple[Tool[..., Any], ...]:
        """What a ticket's facts come from."""
        return self.customer, self.orders, self.refunds, self.policy

    @property
    def for_the_model(self) -> tuple[Tool[..., Any], ...]:
        """What the model may use while it decides."""
        return self.order, self.policy, self.refund_order, self.change

    # --- reading ------------------------------------------------------------------------------------------------------

    def find_customer(self) -> Customer | None:
        """Who the customer is."""
        return shops.find_customer(self._shop, self._email)

    def list_orders(self) -> list[Order]:
        """All orders of the customer, newest first."""
        return shops.orders_of(self._shop, self._email)

    def list_refunds(self) -> list[Refund]:
        """All refunds that the customer has had."""
        return shops.refunds_of(self._shop, self._email)

    def show_order(self, order: int) -> Order:
        """One order of the customer as it is now: its lines, what was paid and refunded (euro cents), where it is."""
        return shops.order_of(self._shop, self._email, order)

    def read_policy(self, topic: Topic) -> str:
        """The shop's rules about a topic."""
        return shops.policy(self._shop, topic)

    # --- doing --------------------------------------------------------------------------------------------------------

    def refund(self, info: CallInfo, order: int, cents: Cents, reason: str) -> Refund:
        """Pay the customer back `cents` (euro cents) of what they paid for an order. Give the reason in one sentence."""
        return shops.refund(self._shop, self._email, order, cents, reason, info.key)

    def change_order(self, info: CallInfo, order: int, address: str) -> Order:
        """Send an order that has not been packed to another address: street, number and town on one line."""
        return shops.change_address(self._shop, self._email, order, address, info.key)

    def send_reply(self, info: CallInfo, text: str) -> int:
        """Send the customer the reply; answers its number."""
        return shops.send_reply(self._shop, self._email, text, info.key)
