"""A model that is none: it plays the support desk's model by a few rules, without a network or a key.

It finds order numbers, products and a handful of words in a message, calls the same tools that a model would, and writes a
reply from a template. It understands nothing beyond that, and gives equal answers to equal conversations.
`answer` speaks the shapes of the Messages API, so a fake server can serve it to the real client as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from statecraft import ErrorKind, Usage
from statecraft.llm import ModelError, Reply, Request

from .shop import Order, Refund, money  # noqa: TID252
from .support_prompts import Decision, Understanding, Written  # noqa: TID252

Block = dict[str, Any]

_ABUSE = re.compile(r"\b(?:idiots?|morons?|scum|crooks?|thie(?:f|ves)|go to hell|burn your|find you)\b", re.IGNORECASE)
_FAULTY = re.compile(
    r"\b(?:broken?|broke|cracked|damaged|smashed|faulty|wrong|missing|never arrived|does not work|doesn't work)\b", re.IGNORECASE
)
_REFUND = re.compile(r"\b(?:refund|money back|reimburse|pay me back)\b", re.IGNORECASE)
_ADDRESS = re.compile(
    r"\b(?:(?:send|deliver|ship)\s+(?:it|that|this|order\s+#?\d+|my order)?.*?\bto|new address(?:\s+is)?:?)\s+([^\n!?]+)",
    re.IGNORECASE | re.DOTALL,
)
_STATUS = re.compile(r"\b(?:where is|where's|track|tracking|when will|arrive|status|on its way)\b", re.IGNORECASE)
_EVERYTHING = re.compile(r"\b(?:everything|whole order|entire order|all of it|full order)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d.,€])#?(\d{4})(?![\d.,]\d)\b")
_PLAIN = re.compile(r"\b(?:i|my|the|you|your|do|can|is|have|please|hello|hi|with|for|what|how)\b", re.IGNORECASE)
_AMOUNT = re.compile(r"€?\s?(\d+)\.(\d{2})\b")


class OfflineSupport:
    """Answers the questions of the support agent (`Understanding`, `Decision`, `Written`) and no others."""

    @property
    def model(self) -> str:
        """The id under which its calls are recorded."""
        return "offline-rules"

    @property
    def label(self) -> str:
        """How it is shown to people."""
        return "offline model (a few rules, not an LLM)"

    async def complete(self, request: Request) -> Reply:
        """The answer to a request of the support agent. Raises `ModelError` for any other."""
        content = answer(request.messages, request.output.schema if request.output is not None else {})
        stop = "tool_use" if any(block["type"] == "tool_use" for block in content) else "end_turn"
        usage = Usage(_tokens([request.system, *request.messages]), _tokens(content))
        return Reply(tuple(content), stop, usage, request.model or self.model)

    async def close(self) -> None:
        """Nothing to close."""


def answer(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[Block]:
    """The blocks that answer a conversation, when an answer of `schema` is wanted. Raises `ModelError` for another one."""
    wanted = frozenset(schema.get("properties", {}))
    rules = _RULES.get(wanted)
    if rules is None:
        raise ModelError(
            f"the offline model cannot answer with {', '.join(sorted(wanted)) or 'text'}: it only plays the support agent. "
            "Set ANTHROPIC_API_KEY to use Claude",
            kind=ErrorKind.PERMANENT,
        )
    said = rules(_Talk.of(messages))
    return said if isinstance(said, list) else [{"type": "text", "text": json.dumps(said.model_dump(), ensure_ascii=False)}]


# --- the conversation so far ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Result:
    """What a tool answered."""

    tool: str
    text: str
    failed: bool

    @property
    def value(self) -> str:
        """Its JSON, which may stand behind a note on what a reviewer changed."""
        return self.text.rpartition("]\n")[2]


@dataclass(frozen=True, slots=True)
class _Talk:
    """The prompt, and the results of the tools used since."""

    prompt: str
    results: list[_Result] = field(default_factory=list)

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]]) -> _Talk:
        calls: dict[str, str] = {}
        results: list[_Result] = []
        for message in messages:
            for block in message["content"] if not isinstance(message["content"], str) else []:
                if block.get("type") == "tool_use":
                    calls[block["id"]] = block["name"]
                elif block.get("type") == "tool_result":
                    tool = calls.get(block["tool_use_id"], "")
                    results.append(_Result(tool, _text(block.get("content", "")), bool(block.get("is_error"))))
        return cls(_text(messages[0]["content"]), results)

    def last(self, tool: str) -> _Result | None:
        return next((result for result in reversed(self.results) if result.tool == tool), None)

    def all(self, tag: str) -> list[str]:
        return re.findall(rf"<{tag}>(.*?)</{tag}>", self.prompt, re.DOTALL)

    def first(self, tag: str) -> str:
        return next(iter(self.all(tag)), "")

    def orders(self) -> list[Order]:
        return [Order.model_validate_json(text) for text in self.all("order")]


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, (list, tuple)) else []
    return "\n".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


# --- understanding ----------------------------------------------------------------------------------------------------


def _understand(talk: _Talk) -> Understanding:
    message = talk.first("message")
    intent = _intent(message)
    orders = [int(number) for number in dict.fromkeys(_NUMBER.findall(message))]
    about = f" about order {', '.join(map(str, orders))}" if orders else ""
    summary = "nothing can be made of it" if intent == "none" else f"the customer asks for {intent.replace('_', ' ')}{about}"
    return Understanding(intent=intent, abusive=bool(_ABUSE.search(message)), orders=orders, summary=summary)


def _intent(message: str) -> Any:
    if _REFUND.search(message) or _FAULTY.search(message):
        return "refund"
    if _ADDRESS.search(message):
        return "change_address"
    if _STATUS.search(message):
        return "order_status"
    return "other" if len(_PLAIN.findall(message)) >= 2 else "none"


# --- deciding ---------------------------------------------------------------------------------------------------------


def _decide(talk: _Talk) -> Decision | list[Block]:
    intent = "refund" if _REFUND.search(talk.first("instructions")) else talk.first("intent")
    if talk.first("instructions") and intent != "refund":
        return Decision(outcome="answered", summary=talk.first("instructions"))
    if intent == "other":
        return Decision(outcome="hand_over", summary="it is about something that no rule covers")
    order = _order_meant(talk)
    if isinstance(order, str):
        return Decision(outcome="ask_back", summary=order)
    return {"refund": _refund, "change_address": _move, "order_status": _tell}[intent](talk, order)


def _order_meant(talk: _Talk) -> Order | str:
    """The one order that the message is about, or what to ask."""
    text, orders = f"{talk.first('instructions')} {talk.first('message')}", talk.orders()
    named = [int(number) for number in _NUMBER.findall(text)]
    if named:
        own = [order for order in orders if order.number == named[0]]
        return own[0] if own else f"We find no order {named[0]} under your address. Which order do you mean?"
    fitting = [order for order in orders if _lines_named(order, text)] or orders
    if len(fitting) == 1:
        return fitting[0]
    return "Which order do you mean? Its number is in the mail that confirmed it."


def _refund(talk: _Talk, order: Order) -> Decision | list[Block]:
    paid = talk.last("refund")
    if paid is not None:
        return _refunded(order, paid)
    shown = talk.last("show_order")
    if shown is None:
        return _calls(talk, ("show_order", {"order": order.number}), ("read_policy", {"topic": "refunds"}))
    if shown.failed:
        return Decision(outcome="hand_over", summary=f"the order cannot be read: {shown.text}")
    return _pay(talk, Order.model_validate_json(shown.value))


def _pay(talk: _Talk, order: Order) -> Decision | list[Block]:
    """The call that refunds what is concerned, or why there is none."""
    message, instructions = talk.first("message"), talk.first("instructions")
    left = order.paid - order.refunded
    lines = _lines_named(order, message) or (order.lines if _EVERYTHING.search(message) or len(order.lines) == 1 else [])
    told = _AMOUNT.search(instructions)
    cents = int(told[1]) * 100 + int(told[2]) if told else sum(line.quantity * line.cents for line in lines)
    if told is None and not _FAULTY.search(message):
        return Decision(outcome="declined", summary="A refund is made once the unopened goods are back with us.")
    if not cents:
        return Decision(outcome="ask_back", summary=f"Which item of order {order.number} do you mean?")
    if cents > left:
        return Decision(
            outcome="declined", summary=f"Of order {order.number}, {money(order.refunded)} was returned to you before."
        )
    names = " and ".join(line.product for line in lines) or f"order {order.number}"
    return _calls(talk, ("refund", {"order": order.number, "cents": cents, "reason": f"{names}: {_fault(message)}"}))


def _refunded(order: Order, result: _Result) -> Decision:
    if result.failed:
        return Decision(
            outcome="declined", summary=f"A colleague looked into it: no money goes back on order {order.number} for now."
        )
    refund = Refund.model_validate_json(result.value)
    return Decision(outcome="done", summary=f"We have refunded {money(refund.cents)} on order {refund.order}.")


def _move(talk: _Talk, order: Order) -> Decision | list[Block]:
    moved = talk.last("change_order")
    if moved is None:
        found = _ADDRESS.search(talk.first("message"))
        address = found[1].split(" instead")[0].strip(" .") if found else ""
        if not address:
            return Decision(outcome="ask_back", summary=f"Which address should order {order.number} go to?")
        return _calls(talk, ("change_order", {"order": order.number, "address": address}))
    if moved.failed:
        why = f"is {order.status}" if order.status != "paid" else "could not be changed"
        return Decision(outcome="declined", summary=f"Order {order.number} {why}, so its address stays as it is.")
    return Decision(outcome="done", summary=f"Order {order.number} now goes to {Order.model_validate_json(moved.value).address}.")


def _tell(talk: _Talk, order: Order) -> Decision:  # noqa: ARG001
    with_whom = f" with {order.carrier}, tracking number {order.tracking}" if order.tracking else ""
    return Decision(outcome="answered", summary=f"Order {order.number} is {order.status}{with_whom}.")


def _calls(talk: _Talk, *calls: tuple[str, Block]) -> list[Block]:
    """Tool calls side by side, each with an id that no other one of the conversation has."""
    first = len(talk.results)
    return [
        {"type": "tool_use", "id": f"toolu_{first + place:03d}", "name": name, "input": arguments}
        for place, (name, arguments) in enumerate(calls)
    ]


def _lines_named(order: Order, text: str) -> list[Any]:
    """The lines of an order whose product the text speaks of."""
    words = set(re.findall(r"[a-z]{3,}", text.lower()))
    return [line for line in order.lines if _nouns(line.product) & words]


def _nouns(product: str) -> set[str]:
    words = re.findall(r"[a-z]{3,}", product.lower())
    return {word for word in words if word not in {"set", "six", "hand", "green", "black", "paper", "kitchen", "travel"}}


def _fault(message: str) -> str:
    found = _FAULTY.search(message)
    return found[0].lower() if found else "as a colleague decided"


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(talk: _Talk) -> Written:
    name = talk.first("customer").partition(" ")[0] or "there"
    outcome = talk.first("outcome")
    if not outcome:  # The short reply.
        done = [
            f"We have {deed}." if deed.startswith("refunded") else f"{deed[0].upper()}{deed[1:]}." for deed in talk.all("done")
        ]
        said = " ".join(["Thank you for your message.", *done, "A colleague will answer you soon."])
        return Written(text=_mail(name, said), confidence=0.5)
    return Written(text=_mail(name, talk.first("summary")), confidence=0.9 if outcome in {"done", "answered"} else 0.4)


def _mail(name: str, text: str) -> str:
    return f"Hello {name},\n\n{text}\n\nThe support desk"


_RULES: Mapping[frozenset[str], Callable[[_Talk], Any]] = {
    frozenset(Understanding.model_fields): _understand,
    frozenset(Decision.model_fields): _decide,
    frozenset(Written.model_fields): _write,
}


def _tokens(value: object) -> int:
    """About four characters a token, as a real model would count."""
    return -(-len(json.dumps(value, ensure_ascii=False, default=str)) // 4)
