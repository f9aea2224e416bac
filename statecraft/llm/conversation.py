"""One question to a model, followed to its answer: tool rounds, continuations, a larger cap, repairs. Pure loop logic.

The calls themselves come in as two async callables, so that each can be journaled, retried and replayed by whoever owns them.
Everything the loop decides follows from the replies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from statecraft.errors import CallError, ErrorKind, OutputInvalid, StatecraftError
from statecraft.llm.output import Output, OutputMismatch, repair_message
from statecraft.llm.port import Block, Message, Reply, Request

T = TypeVar("T")

_ANSWERED = frozenset({"end_turn", "stop_sequence"})
_ONGOING = frozenset({"tool_use", "pause_turn", "max_tokens"})


class HistoryInvalid(StatecraftError):
    """A conversation that a provider would refuse: a tool call without exactly one result, or a result without its call."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one question may go."""

    max_turns: int = 8
    """Answers taken from the model: every round of tools is one, and so is the final answer."""
    repairs: int = 2
    """Further tries at an answer that does not fit the declared type."""
    pauses: int = 5
    """Continuations of answers that the provider paused."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """Where a conversation ended."""

    value: T
    text: str
    """The answer's text, as written."""
    messages: tuple[Message, ...]
    """The whole conversation, the final answer included."""
    turns: int


async def converse(
    ask: Callable[[Request], Awaitable[Reply]],
    use_all: Callable[[Sequence[Block]], Awaitable[Sequence[Block]]],
    request: Request,
    *,
    output: Output[T],
    limits: Limits = Limits(),
) -> Answer[T]:
    """Ask until there is an answer of the declared type.

    `ask` makes one model call. `use_all` runs the `tool_use` blocks of one reply and gives one `tool_result` for each, in
    order; a failed tool is a result with `is_error`. Cut or unknown replies never reach it.

    Raises `OutputInvalid` (its cause is the last `OutputMismatch`), `CallError` with kind `refusal`, `context`, `invalid`
    (cut off twice), `protocol` or `permanent` (too many turns or pauses), and whatever the callables raise.
    """
    talk = _Talk(replace(request, output=output.spec), limits, list(request.messages))
    while True:
        check_history(talk.messages)
        reply = await ask(replace(talk.request, messages=tuple(talk.messages)))
        _refuse_unusable(reply, talk.request.model)
        if reply.stop_reason == "max_tokens":
            talk.raise_cap()
            continue
        talk.hear(reply)
        if reply.stop_reason == "pause_turn":
            talk.count_pause()
        elif reply.stop_reason == "tool_use":
            talk.count_turn()
            talk.refuse_repeated_calls()
            talk.say(list(await use_all(reply.tool_uses)))
        else:
            try:
                return Answer(output.parse(talk.heard), talk.heard, tuple(talk.messages), talk.turns)
            except OutputMismatch as e:
                talk.repair(e)


@dataclass(slots=True)
class _Talk:
    """How far the conversation is."""

    request: Request
    limits: Limits
    messages: list[Message]
    turns: int = 1
    pauses: int = 0
    repairs: int = 0
    raised: bool = False
    heard: str = ""
    """The text since our last message; a paused answer continues it."""
    mismatch: tuple[str, ...] = ()
    """What was wrong with the answer before."""

    def hear(self, reply: Reply) -> None:
        # A reply of nothing but empty text cannot be sent back: the provider refuses empty blocks.
        if reply.text.strip() or any(block.get("type") != "text" for block in reply.content):
            self.messages.append({"role": "assistant", "content": list(reply.content)})
        self.heard += reply.text

    def say(self, content: str | list[Block]) -> None:
        self.messages.append({"role": "user", "content": content})
        self.heard = ""

    def raise_cap(self) -> None:
        cap = self.request.max_tokens
        if self.raised:
            raise self.failed(f"the answer was cut off twice, last at {cap} tokens; raise max_tokens", ErrorKind.INVALID)
        self.raised = True
        self.request = replace(self.request, max_tokens=2 * cap)

    def count_pause(self) -> None:
        if self.pauses == self.limits.pauses:
            raise self.failed(f"the provider paused the answer more than {self.limits.pauses} times", ErrorKind.PERMANENT)
        self.pauses += 1

    def count_turn(self) -> None:
        if self.turns >= self.limits.max_turns:
            raise self.failed(f"no answer after {self.turns} turns; the model still asks for tools", ErrorKind.PERMANENT)
        self.turns += 1

    def refuse_repeated_calls(self) -> None:
        """Every call needs a result of its own, so one with an earlier call's id must not be executed."""
        calls = [str(block.get("id")) for message in self.messages for block in _calls(message)]
        repeated = next((call for call, times in Counter(calls).items() if times > 1), None)
        if repeated is not None:
            raise self.failed(f"the model gave the id {repeated} to two tool calls", ErrorKind.PROTOCOL)

    def repair(self, mismatch: OutputMismatch) -> None:
        tried = f"after {self.repairs} repairs" if self.repairs else "as answered"
        if self.repairs == self.limits.repairs or mismatch.errors == self.mismatch:
            message = f"the answer does not fit the declared output ({tried}): {mismatch}"
            raise OutputInvalid(message, kind=ErrorKind.INVALID, name=self.request.model, attempts=self.repairs + 1) from mismatch
        self.repairs += 1
        self.mismatch = mismatch.errors
        self.say(repair_message(mismatch.errors))

    def failed(self, message: str, kind: ErrorKind) -> CallError:
        return CallError(message, kind=kind, name=self.request.model)


def _refuse_unusable(reply: Reply, model: str) -> None:
    """Fail closed on every stop that is not known to be an answer or a step towards one."""
    stop, uses = reply.stop_reason, bool(reply.tool_uses)
    if stop == "refusal":
        raise CallError("the model declined to answer", kind=ErrorKind.REFUSAL, name=model)
    if stop == "model_context_window_exceeded":
        raise CallError("the conversation is too long for the model's context window", kind=ErrorKind.CONTEXT, name=model)
    if stop not in _ANSWERED | _ONGOING:
        raise CallError(f"the model stopped for an unknown reason: {stop}", kind=ErrorKind.REFUSAL, name=model)
    if stop != "max_tokens" and uses != (stop == "tool_use"):
        found = "tool calls" if uses else "no tool call"
        raise CallError(f"the model stopped with {stop}, but its reply has {found}", kind=ErrorKind.PROTOCOL, name=model)


def check_history(messages: Sequence[Message]) -> None:
    """Raise `HistoryInvalid` unless every tool call is answered exactly once, first thing in the next user message."""
    if not messages or messages[0].get("role") == "assistant":
        raise HistoryInvalid("a conversation starts with a user message")
    seen: set[str] = set()
    waiting: list[str] = []
    for place, message in enumerate(messages):
        blocks = _blocks(message, place)
        if message["role"] == "assistant":
            calls = [str(block.get("id")) for block in _calls(message)]
            if len(set(calls)) < len(calls) or seen & set(calls):
                raise HistoryInvalid(f"message {place}: a tool call repeats the id of an earlier one")
            seen.update(calls)
            waiting.extend(calls)
        else:
            _check_results(blocks, waiting, place)
            waiting = []
    if waiting:
        raise HistoryInvalid(f"tool call {waiting[0]} has no result")


def _calls(message: Message) -> Sequence[Block]:
    content = message["content"]
    return [] if isinstance(content, str) else [block for block in content if block.get("type") == "tool_use"]


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
