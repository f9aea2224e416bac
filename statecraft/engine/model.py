"""`run.llm`: ask a model, let it use tools, get a validated answer. Every round is a journaled call of its own."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from statecraft.calls import classify
from statecraft.calls.call import Call, Reply, Scope, canonical
from statecraft.calls.visit import Visit
from statecraft.engine import live
from statecraft.engine.fanout import together
from statecraft.engine.services import Services
from statecraft.engine.transcript import Transcript, describe, size
from statecraft.errors import CallError, ErrorKind, NotAllowed
from statecraft.llm import port
from statecraft.llm.conversation import Limits, converse
from statecraft.llm.output import Output
from statecraft.machine.context import Model
from statecraft.records import Json, Usage
from statecraft.tools import Tool, ToolArgumentsInvalid

Use = Callable[[Tool[..., Any], Mapping[str, Any]], Awaitable[str]]
"""Calls a tool of the state with JSON arguments; answers its result as JSON text."""


class StepModel(Model):
    """The model as one visit's handler sees it."""

    def __init__(self, scope: Scope, journal: Visit, services: Services, use: Use) -> None:
        self._scope, self._journal, self._use_tool = scope, journal, use
        self._services = services
        self._transcript: Transcript | None = None

    async def ask(
        self,
        prompt: str | Sequence[port.Message],
        *,
        output: Any = str,
        system: str | None = None,
        tools: Sequence[Any] = (),
        model: str | None = None,
        max_tokens: int = 4096,
        repairs: int = 2,
        max_turns: int = 8,
    ) -> Any:
        """Ask, and answer with text or with a validated `output`. See `statecraft.Run.llm`."""
        wanted: Output[Any] = Output.of(output)
        messages: list[port.Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        request = port.Request(
            model=model or self._llm().model,
            messages=messages,
            system=system,
            tools=tuple(_spec(tool) for tool in tools),
            output=wanted.spec,
            max_tokens=max_tokens,
        )
        offered = {tool.name: tool for tool in tools}

        async def use_all(blocks: Sequence[port.Block]) -> list[port.Block]:
            return await together([self._use(offered, block) for block in blocks])

        limits = Limits(max_turns=max_turns, repairs=repairs)
        answer = await converse(self._complete, use_all, request, output=wanted, limits=limits)
        return answer.value

    def _llm(self) -> port.LLM:
        if self._services.llm is None:
            raise NotAllowed(
                f"state {self._scope.state} asks a model, but the runtime was given none; pass Runtime(..., llm=...)"
            )
        return self._services.llm

    async def _complete(self, request: port.Request) -> port.Reply:
        """One round with the model: one journaled call."""
        visit, llm = self._journal, self._llm()
        self._transcript = self._transcript or Transcript()
        head, nodes = self._transcript.head(request)
        text, blobs = describe(request, head)
        digest, occurrence, key = visit.identify("llm", text)
        sent = self._transcript.size(head) + size(text) + sum(size(blob.body) for blob in blobs)

        async def perform(call: Call) -> Reply:
            reply = await live.complete(self._services.live, llm, request, call, self._scope.state)
            return Reply(_dump(reply), reply.usage, reply.model)

        call = Call(
            visit=visit,
            kind="llm",
            name=request.model,
            request=text,
            digest=digest,
            occurrence=occurrence,
            key=key,
            perform=perform,
            classify=partial(classify.of_model, errors=self._services.settings.errors),
            timeout=self._services.settings.call_timeout.total_seconds(),
            nodes=nodes,
            blobs=blobs,
            dependency=f"model:{request.model}",
            scope=self._scope,
            worst=worst_case(sent, request),
        )
        reply = await self._services.stack(call)
        self._transcript.stored(nodes)
        return _load(reply)

    async def _use(self, offered: dict[str, Tool[..., Any]], block: port.Block) -> port.Block:
        """Run one tool for the model. What goes wrong is told to the model as a result, unless nobody may go on."""
        name, arguments = str(block.get("name")), block.get("input")
        tool = offered.get(name)
        if tool is None:
            return _result(block, f"there is no tool {name!r}; there are: {', '.join(offered) or 'none'}", failed=True)
        try:
            tool.validate(arguments if isinstance(arguments, dict) else {})
            text = await self._use_tool(tool, dict(arguments) if isinstance(arguments, dict) else {})
        except ToolArgumentsInvalid as error:
            return _result(block, str(error), failed=True)
        except CallError as error:
            if error.kind is ErrorKind.IN_DOUBT:
                raise
            return _result(block, error.message, failed=True)
        return _result(block, tool.render(tool.load(text)), failed=False)


BYTES_A_TOKEN = 3
"""Of a request, taken low: English and JSON have about four in UTF-8, most other scripts about three."""
TOOL_USE_TOKENS = 600
"""What a provider may add to a request with tools, for instructions of its own."""


def worst_case(sent: int, request: port.Request) -> Usage:
    """Most tokens that one attempt at a request of `sent` bytes may use: an estimate for the input, its cap for the output."""
    return Usage(-(-sent // BYTES_A_TOKEN) + (TOOL_USE_TOKENS if request.tools else 0), request.max_tokens)


def _spec(tool: Tool[..., Any]) -> port.ToolSpec:
    spec = tool.spec
    return port.ToolSpec(spec["name"], spec["description"], spec["input_schema"])


def _result(block: port.Block, text: str, *, failed: bool) -> port.Block:
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": block.get("id"), "content": text}
    return {**result, "is_error": True} if failed else result


def _dump(reply: port.Reply) -> str:
    return canonical(
        {
            "content": [dict(block) for block in reply.content],
            "stop_reason": reply.stop_reason,
            "model": reply.model,
            "request_id": reply.request_id,
            "usage": _counted(reply.usage),
        }
    )


def _counted(usage: Usage) -> dict[str, Json]:
    counts: dict[str, Json] = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    cached = {"cache_read_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
    return counts | {name: tokens for name, tokens in cached.items() if tokens}


def _load(reply: Reply) -> port.Reply:
    stored = json.loads(reply.result)
    return port.Reply(
        content=tuple(stored["content"]),
        stop_reason=stored["stop_reason"],
        usage=Usage(**stored["usage"]),
        model=stored["model"],
        request_id=stored["request_id"],
    )
