"""The messages of a conversation, and the rules that every provider holds them to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from statecraft.errors import StatecraftError
from statecraft.llm.port import Block, Message

THINKING = frozenset({"thinking", "redacted_thinking"})
"""Blocks that a provider binds to the model and to every message before them."""


class HistoryInvalid(StatecraftError):
    """A conversation that a provider would refuse: a tool call without exactly one result, or a result without its call."""


class History:
    """A conversation that is checked as it grows, so that a turn costs the same however many came before it.

    The rules: a user message comes first; every tool call has an id of its own and is answered exactly once, first thing
    in the next user message; every result answers a call of the message before it.
    """

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.messages: list[Message] = []
        self._called: set[str] = set()
        self._waiting: list[str] = []
        for message in messages:
            self.add(message)

    def __len__(self) -> int:
        return len(self.messages)

    def add(self, message: Message) -> None:
        """Append a message. Raises `HistoryInvalid`; then the conversation is as it was."""
        place = len(self.messages)
        blocks = _blocks(message, place)
        if place == 0 and message["role"] == "assistant":
            raise HistoryInvalid("a conversation starts with a user message")
        if message["role"] == "assistant":
            calls = calls_in(message)
            repeated = self.repeated(calls)
            if repeated is not None:
                raise HistoryInvalid(f"message {place}: a tool call repeats the id of an earlier one ({repeated})")
            self._called.update(calls)
            self._waiting.extend(calls)
        else:
            _check_results(blocks, self._waiting, place)
            self._waiting = []
        self.messages.append(message)

    def repeated(self, calls: Sequence[str]) -> str | None:
        """The first of these ids of tool calls that another call has; None if all are new."""
        new: set[str] = set()
        for call in calls:
            if call in self._called or call in new:
                return call
            new.add(call)
        return None

    def check(self) -> None:
        """Raise `HistoryInvalid` if the conversation cannot be sent as it stands: it is empty, or a result is missing."""
        if not self.messages:
            raise HistoryInvalid("a conversation starts with a user message")
        if self._waiting:
            raise HistoryInvalid(f"tool call {self._waiting[0]} has no result")


def check_history(messages: Sequence[Message]) -> None:
    """Raise `HistoryInvalid` unless every tool call is answered exactly once, first thing in the next user message."""
    History(messages).check()


def calls_in(message: Message) -> list[str]:
    """The ids of a message's tool calls, in order."""
    return [str(block.get("id")) for block in blocks_in(message) if block.get("type") == "tool_use"]


def blocks_in(message: Message) -> Sequence[Block]:
    """The content blocks of a message; a plain text is one block."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def is_answer(message: Message) -> bool:
    """Whether a message answers tool calls, so that it must directly follow them."""
    return message["role"] == "user" and any(block.get("type") == "tool_result" for block in blocks_in(message))


def without_thinking(messages: Sequence[Message]) -> list[Message]:
    """The conversation without the model's thinking. A message that holds nothing else is left out."""
    kept: list[Message] = []
    for message in messages:
        blocks = blocks_in(message)
        rest = [block for block in blocks if block.get("type") not in THINKING]
        if len(rest) == len(blocks):
            kept.append(message)
        elif rest:
            kept.append({**message, "content": rest})
    return kept


def _blocks(message: Message, place: int) -> Sequence[Block]:
    if message.get("role") not in ("user", "assistant", "system"):
        raise HistoryInvalid(f"message {place}: role {message.get('role')!r} is not user, assistant or system")
    content = message.get("content")
    if isinstance(content, str):
        return ()
    if not isinstance(content, (list, tuple)) or not all(isinstance(block, Mapping) and "type" in block for block in content):
        raise HistoryInvalid(f"message {place}: content is neither text nor a list of blocks")
    return content


def _check_results(blocks: Sequence[Block], waiting: Sequence[str], place: int) -> None:
    kinds = [block["type"] == "tool_result" for block in blocks]
    if kinds != sorted(kinds, reverse=True):
        raise HistoryInvalid(f"message {place}: tool results must come before everything else")
    answered = [str(block.get("tool_use_id")) for block in blocks if block["type"] == "tool_result"]
    for missing in set(waiting) - set(answered):
        raise HistoryInvalid(f"message {place}: tool call {missing} has no result")
    for stray in set(answered) - set(waiting):
        raise HistoryInvalid(f"message {place}: result {stray} answers no tool call of the message before")
    if len(answered) > len(waiting):
        raise HistoryInvalid(f"message {place}: a tool call is answered twice")
