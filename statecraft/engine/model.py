"""`run.llm`: ask a model, let it use tools, get a validated answer. Every round is a journaled call of its own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from statecraft.calls import classify
from statecraft.calls.call import Call, Reply, Scope, canonical
from statecraft.calls.visit import Visit
from statecraft.engine import live
from statecraft.engine.services import Services
from statecraft.engine.toolbox import Use, toolbox
from statecraft.engine.transcript import Transcript, describe, size
from statecraft.errors import NotAllowed
from statecraft.llm import port
from statecraft.llm.conversation import Limits, converse
from statecraft.llm.output import Output
from statecraft.machine.context import BY_SETTINGS, Model
from statecraft.records import Json, Usage


class StepModel(Model):
    """The model as one visit's handler sees it."""

    def __init__(
        self, scope: Scope, journal: Visit, services: Services, use: Use, declared: Sequence[str], llm: port.LLM | None
    ) -> None:
        self._scope, self._journal, self._use_tool, self._declared = scope, journal, use, declared
        self._services, self._model = services, llm
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
        tool_concurrency: int = 8,
        check: Callable[[Any], Sequence[str]] | None = None,
        context: Any = BY_SETTINGS,
    ) -> Any:
        """Ask, and answer with text or with a validated `output`. See `statecraft.Run.llm`."""
        wanted: Output[Any] = Output.of(output)
        settings = self._services.settings
        box = toolbox(tools, self._declared, self._use_tool, self._scope.state, tool_concurrency)
        request = port.Request(
            model=model or self._llm().model,
            # A copy: what the handler changes afterwards was not said.
            messages=[{"role": "user", "content": prompt}] if isinstance(prompt, str) else copy.deepcopy(list(prompt)),
            system=system,
            tools=box.specs,
            output=wanted.spec,
            max_tokens=max_tokens,
        )
        answer = await converse(
            self._complete,
            box.use_all,
            request,
            output=wanted,
            limits=Limits(max_turns=max_turns, repairs=repairs),
            check=check,
            loops=settings.loops,
            context=settings.context if context == BY_SETTINGS else context,
        )
        return answer.value

    def _llm(self) -> port.LLM:
        if self._model is None:
            raise NotAllowed(
                f"state {self._scope.state} asks a model, but the runtime was given none; pass Runtime(..., llm=...)"
            )
        return self._model

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


BYTES_A_TOKEN = 3
"""Of a request, taken low: English and JSON have about four in UTF-8, most other scripts about three."""
TOOL_USE_TOKENS = 600
"""What a provider may add to a request with tools, for instructions of its own."""


def worst_case(sent: int, request: port.Request) -> Usage:
    """Most tokens that one attempt at a request of `sent` bytes may use: an estimate for the input, its cap for the output."""
    return Usage(-(-sent // BYTES_A_TOKEN) + (TOOL_USE_TOKENS if request.tools else 0), request.max_tokens)


def _dump(reply: port.Reply) -> str:
    stored: dict[str, Any] = {
        "content": [dict(block) for block in reply.content],
        "stop_reason": reply.stop_reason,
        "model": reply.model,
        "request_id": reply.request_id,
        "usage": _counted(reply.usage),
    }
    if reply.stop_details is not None:
        stored["stop_details"] = dict(reply.stop_details)
    return canonical(stored)


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
        stop_details=stored.get("stop_details"),
    )
