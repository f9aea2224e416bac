"""`run.llm`: ask a model, let it use tools, get a validated answer. Every round is a journaled call of its own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from statecraft.calls import classify
from statecraft.calls.call import Call, Reply, Scope, canonical
from statecraft.calls.visit import Visit
from statecraft.engine.services import Services
from statecraft.engine.toolbox import Use, toolbox
from statecraft.engine.transcript import Transcript, describe
from statecraft.errors import NotAllowed
from statecraft.llm import port
from statecraft.llm.conversation import Limits, converse
from statecraft.llm.output import Output
from statecraft.machine.context import BY_SETTINGS, Model
from statecraft.records import Usage


class StepModel(Model):
    """The model as one visit's handler sees it."""

    def __init__(self, scope: Scope, journal: Visit, services: Services, use: Use, declared: Sequence[str]) -> None:
        self._scope, self._journal, self._use_tool, self._declared = scope, journal, use, declared
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
        tool_concurrency: int = 8,
        check: Callable[[Any], Sequence[str]] | None = None,
        context: Any = BY_SETTINGS,
    ) -> Any:
        """Ask, and answer with text or with a validated `output`. See `statecraft.Run.llm`."""
        wanted: Output[Any] = Output.of(output)
        settings = self._services.settings
        box = toolbox(tools, self._declared, self._use_tool, self._scope, self._journal.seq, tool_concurrency)
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

        async def perform(_call: Call) -> Reply:
            reply = await llm.complete(request)
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
            classify=classify.of_model,
            timeout=self._services.settings.call_timeout.total_seconds(),
            nodes=nodes,
            blobs=blobs,
            dependency=f"model:{request.model}",
            scope=self._scope,
        )
        reply = await self._services.stack(call)
        self._transcript.stored(nodes)
        return _load(reply)


def _dump(reply: port.Reply) -> str:
    stored: dict[str, Any] = {
        "content": [dict(block) for block in reply.content],
        "stop_reason": reply.stop_reason,
        "model": reply.model,
        "request_id": reply.request_id,
        "usage": {"input_tokens": reply.usage.input_tokens, "output_tokens": reply.usage.output_tokens},
    }
    if reply.stop_details is not None:
        stored["stop_details"] = dict(reply.stop_details)
    return canonical(stored)


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
