"""One question to a model, followed to its answer: tool rounds, continuations, a larger cap, repairs. Pure loop logic.

The calls themselves come in as two async callables, so that each can be journaled, retried and replayed by whoever owns them.
Everything the loop decides follows from the replies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from statecraft.errors import CallError, ErrorKind, OutputInvalid
from statecraft.llm.compaction import ContextPolicy
from statecraft.llm.history import History
from statecraft.llm.loops import LoopPolicy, Repeats
from statecraft.llm.output import Output, OutputMismatch, fresh_message, repair_message
from statecraft.llm.port import Block, Message, Reply, Request
from statecraft.llm.room import Room

T = TypeVar("T")

_ANSWERED = frozenset({"end_turn", "stop_sequence"})
_ONGOING = frozenset({"tool_use", "pause_turn", "max_tokens"})


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
    """The conversation as it was sent last, and the final answer."""
    turns: int


async def converse(
    ask: Callable[[Request], Awaitable[Reply]],
    use_all: Callable[[Sequence[Block]], Awaitable[Sequence[Block]]],
    request: Request,
    *,
    output: Output[T],
    limits: Limits = Limits(),
    check: Callable[[T], Sequence[str]] | None = None,
    loops: LoopPolicy | None = None,
    context: ContextPolicy | None = None,
) -> Answer[T]:
    """Ask until there is an answer of the declared type that `check` finds nothing wrong with.

    `ask` makes one model call. `use_all` runs the `tool_use` blocks of one reply and gives one `tool_result` for each, in
    order; a failed tool is a result with `is_error`. Cut or unknown replies never reach it. `context` keeps the
    conversation within the model's window: what it asks a model for goes through `ask` too.

    Raises `OutputInvalid` (its cause is the last `OutputMismatch`), `Looped`, `CallError` with kind `refusal`, `context`,
    `invalid` (cut off twice), `protocol` or `permanent` (too many turns or pauses), `HistoryInvalid` when the conversation
    given cannot be sent, and whatever the callables raise.
    """

    async def summarise(asked: Request, wanted: Output[Any]) -> Any:
        return (await converse(ask, _no_tools, asked, output=wanted, limits=Limits(max_turns=1, repairs=1))).value

    room = Room(History(request.messages), context, ask, summarise)
    talk = _Talk(replace(request, output=output.spec), limits, room, None if loops is None else Repeats(loops))
    while True:
        reply = await room.ask(talk.request)
        _refuse_unusable(reply, talk.request.model)
        if await talk.goes_on(reply, use_all):
            continue
        try:
            value = _sound(output.parse(talk.heard), check)
        except OutputMismatch as e:
            talk.repair(e)
        else:
            return Answer(value, talk.heard, tuple(room.history.messages), talk.turns)


async def _no_tools(uses: Sequence[Block]) -> Sequence[Block]:
    raise CallError(f"the model asks for {uses[0].get('name')!r}, but was given no tools", kind=ErrorKind.PROTOCOL)


def _sound(value: T, check: Callable[[T], Sequence[str]] | None) -> T:
    problems = () if check is None else check(value)
    if problems:
        raise OutputMismatch(problems)
    return value


@dataclass(slots=True)
class _Talk:
    """How far the conversation is."""

    request: Request
    limits: Limits
    room: Room
    repeats: Repeats | None
    turns: int = 1
    pauses: int = 0
    repairs: int = 0
    raised: bool = False
    heard: str = ""
    """The text since our last message; a paused answer continues it."""
    mismatch: tuple[str, ...] = ()
    """What was wrong with the answer before."""
    before: tuple[list[Message], int, int] = field(default_factory=lambda: ([], 0, 0))
    """The conversation without the first wrong answer, the turns it took, and how often it had been rewritten."""

    async def goes_on(self, reply: Reply, use_all: Callable[[Sequence[Block]], Awaitable[Sequence[Block]]]) -> bool:
        """Take a usable reply in. True if it is a step on the way: cut off, paused, or asking for tools, which have run."""
        if reply.stop_reason == "max_tokens":
            self.raise_cap()
            return True
        self.hear(reply)
        if reply.stop_reason == "pause_turn":
            self.count_pause()
        elif reply.stop_reason == "tool_use":
            self.count_turn()
            self.answer_calls(reply.tool_uses, await use_all(reply.tool_uses))
        else:
            return False
        return True

    def hear(self, reply: Reply) -> None:
        repeated = self.room.history.repeated([str(block.get("id")) for block in reply.tool_uses])
        if repeated is not None:
            # Every call needs a result of its own, so one with an earlier call's id must not be executed.
            raise self.failed(f"the model gave the id {repeated} to two tool calls", ErrorKind.PROTOCOL)
        # Empty text cannot be sent back: the provider refuses such blocks, which it may have sent itself.
        said = [block for block in reply.content if block.get("type") != "text" or str(block.get("text", "")).strip()]
        if said:
            self.room.history.add({"role": "assistant", "content": said})
        self.heard += reply.text

    def say(self, content: str | list[Block]) -> None:
        self.room.history.add({"role": "user", "content": content})
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

    def answer_calls(self, uses: Sequence[Block], results: Sequence[Block]) -> None:
        """Hand the results over, with a word about it if the model goes round in circles."""
        notes = [] if self.repeats is None else self.repeats.see(uses, results)
        self.say([*results, *({"type": "text", "text": note} for note in notes)])

    def repair(self, mismatch: OutputMismatch) -> None:
        tried = f"after {self.repairs} repairs" if self.repairs else "as answered"
        if self.repairs == self.limits.repairs or mismatch.errors == self.mismatch:
            message = f"the answer does not fit the declared output ({tried}): {mismatch}"
            raise OutputInvalid(message, kind=ErrorKind.INVALID, name=self.request.model, attempts=self.repairs + 1) from mismatch
        self.repairs += 1
        self.mismatch = mismatch.errors
        structured, (kept, *since) = self.request.output is not None, self.before
        if self.repairs == 1:
            self.before = (self._asked(), self.turns, self.room.rewritten)
        elif since == [self.turns, self.room.rewritten]:
            # Correcting the answer did not help: ask anew, without the answers that led astray.
            self.room.begin_again(kept)
            self.say(fresh_message(mismatch.errors, self.heard, structured=structured))
            return
        self.say(repair_message(mismatch.errors, structured=structured))

    def _asked(self) -> list[Message]:
        """The conversation up to our last message."""
        messages = list(self.room.history.messages)
        while messages[-1]["role"] == "assistant":
            messages.pop()
        return messages

    def failed(self, message: str, kind: ErrorKind) -> CallError:
        return CallError(message, kind=kind, name=self.request.model)


def _refuse_unusable(reply: Reply, model: str) -> None:
    """Fail closed on every stop that is not known to be an answer or a step towards one."""
    stop, uses = reply.stop_reason, bool(reply.tool_uses)
    if stop == "refusal":
        category = (reply.stop_details or {}).get("category")
        why = f" (category {category})" if category else ""
        raise CallError(f"the model declined to answer{why}", kind=ErrorKind.REFUSAL, name=model)
    if stop not in _ANSWERED | _ONGOING:
        raise CallError(f"the model stopped for an unknown reason: {stop}", kind=ErrorKind.REFUSAL, name=model)
    if stop != "max_tokens" and uses != (stop == "tool_use"):
        found = "tool calls" if uses else "no tool call"
        raise CallError(f"the model stopped with {stop}, but its reply has {found}", kind=ErrorKind.PROTOCOL, name=model)
