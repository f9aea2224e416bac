"""Sends a conversation that fits the model's window: measured before each call, made shorter when it is time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from statecraft.errors import CallError, ErrorKind
from statecraft.llm.compaction import ContextPolicy, Conversation, estimate
from statecraft.llm.history import THINKING, History, blocks_in, without_thinking
from statecraft.llm.output import Output
from statecraft.llm.port import Message, Reply, Request

_AGAIN = 1.1
"""After a compaction, the next one waits until the conversation has grown by this factor, even if it is due: the one
before failed, or what must stay fills the room."""


@dataclass(slots=True)
class Room:
    """The conversation of one question, and how much of the window it takes. All decisions follow from the replies."""

    history: History
    policy: ContextPolicy | None
    send: Callable[[Request], Awaitable[Reply]]
    """Makes one call to a model."""
    summarise: Callable[[Request, Output[Any]], Awaitable[Any]]
    rewritten: int = 0
    """How often earlier messages were replaced."""
    _measured: int = 0
    """Tokens as the last reply counted them; 0 if none did."""
    _counted: int = 0
    """Messages those tokens are of."""
    _not_below: float = 0.0
    _stripped: bool = False

    async def ask(self, request: Request) -> Reply:
        """Send the conversation with everything else of `request`; make it shorter first if it is time.

        If the model refuses its length, it is made shorter and sent once more, and then it is a `CallError` of kind
        `context`. If the provider refuses the model's earlier thinking, that is left out and the rest sent once more.
        """
        self.history.check()
        tokens = self._tokens(request)
        if self.policy is not None and self.policy.due(tokens) and tokens >= self._not_below:
            await self._shrink(request, tokens, emergency=False)
        reply = await self._sent(request, may_shrink=True)
        # Nothing else is counted, so a reply without counts leaves the estimate.
        self._measured = reply.usage.total if reply.usage.input_tokens else 0
        self._counted = len(self.history)
        return reply

    def begin_again(self, messages: Sequence[Message]) -> None:
        """Go on from an earlier point of the same conversation."""
        self.history, self._measured = History(messages), 0

    async def _sent(self, request: Request, *, may_shrink: bool) -> Reply:
        try:
            reply = await self.send(replace(request, messages=tuple(self.history.messages)))
            if reply.stop_reason == "model_context_window_exceeded":
                message = "the conversation is too long for the model's context window"
                raise CallError(message, kind=ErrorKind.CONTEXT, name=request.model)
        except CallError as error:
            too_long = may_shrink and error.kind is ErrorKind.CONTEXT
            if too_long and await self._shrink(request, self._tokens(request), emergency=True):
                return await self._sent(request, may_shrink=False)
            if self._strip(error):
                return await self._sent(request, may_shrink=may_shrink)
            raise
        return reply

    def _tokens(self, request: Request) -> int:
        if self._measured:
            # What the model said itself is in the measure already.
            added = self.history.messages[self._counted :]
            return self._measured + estimate([message for message in added if message["role"] != "assistant"])
        fixed = {"role": "system", "content": [request.system or "", *(dict(tool.input_schema) for tool in request.tools)]}
        return estimate([fixed, *self.history.messages])

    async def _shrink(self, request: Request, tokens: int, *, emergency: bool) -> bool:
        """Whether the conversation is shorter now. If that fails it stays as it is, and the run goes on with it."""
        if self.policy is None:
            return False
        old = tuple(self.history.messages)
        self._not_below = tokens * _AGAIN
        try:
            new = await self.policy.shrink(Conversation(old, tokens, request.model, emergency, self.summarise))
        except CallError:
            return False
        if new is None or estimate(new) >= estimate(old):
            return False
        # The thinking that is left was bound to what came before it.
        self._replace(without_thinking(new))
        self._not_below = self._tokens(request) * _AGAIN
        return True

    def _strip(self, error: CallError) -> bool:
        """Leave the thinking out after a refusal that names it; once, since a second one is about something else."""
        told = error.message.lower()
        if self._stripped or error.kind is not ErrorKind.PERMANENT or "400" not in told or "thinking" not in told:
            return False
        if not any(block.get("type") in THINKING for message in self.history.messages for block in blocks_in(message)):
            return False
        self._stripped = True
        self._replace(without_thinking(self.history.messages))
        return True

    def _replace(self, messages: Sequence[Message]) -> None:
        fresh = History(messages)
        fresh.check()
        self.history, self._measured = fresh, 0
        self.rewritten += 1
