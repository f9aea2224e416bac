"""Claude behind the port. Light to import and to build; the SDK loads with the first call."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from statecraft.clock import Clock, SystemClock
from statecraft.errors import ConfigError
from statecraft.llm.port import OutputSpec, Reply, Request, ToolSpec
from statecraft.records import Json

if TYPE_CHECKING:
    from statecraft.llm.messages_api import Connection

DEFAULT_MODEL = "claude-sonnet-5-5"
"""Used when neither the argument nor STATECRAFT_MODEL names a model."""

_STREAM_ABOVE = 16_000
"""Answers allowed to be longer than this (in tokens) travel as a stream, which a proxy or a timeout does not cut."""
_OURS = frozenset({"model", "messages", "system", "tools", "max_tokens", "stream"})
"""What options may not set: the request says it."""


class Claude:
    """Anthropic's models through the official SDK: one attempt per call, no retries, no forced tool choice.

    `model` is the default for requests that name none; without it, the environment's STATECRAFT_MODEL, else `DEFAULT_MODEL`.
    `api_key` and `base_url` default to what the SDK finds (ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL, profiles). With
    `native_output` the provider holds answers to the output schema; without it, and for a schema that it refuses as too
    complex, the schema is put into the system prompt. `clock` reads the dates in Retry-After headers.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        native_output: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._model = model or os.environ.get("STATECRAFT_MODEL") or DEFAULT_MODEL
        self._api_key = api_key
        self._base_url = base_url
        self._native_output = native_output
        self._clock = clock or SystemClock()
        self._refused: set[tuple[str, str]] = set()
        """Model and schema of outputs that only work through the prompt."""
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, Connection] = WeakKeyDictionary()
        """One per event loop: a connection pool belongs to the loop that opened it."""

    @property
    def model(self) -> str:
        """The default model id."""
        return self._model

    @property
    def label(self) -> str:
        """How it is shown to people: the model's id."""
        return self._model

    def check(self) -> None:
        """Raise `ConfigError` when there is no key. Asks nobody, so a wrong key is only found by the first call."""
        self._connect()

    async def complete(self, request: Request) -> Reply:
        """Make one attempt. Raises `ModelError`, or `ConfigError` when there is no key."""
        return await self._attempt(request, request.max_tokens > _STREAM_ABOVE, None)

    async def stream(self, request: Request, heard: Callable[[str], None]) -> Reply:
        """Make one attempt, telling `heard` each piece of the answer's text as it comes. Raises what `complete` raises."""
        return await self._attempt(request, True, heard)

    async def _attempt(self, request: Request, stream: bool, heard: Callable[[str], None] | None) -> Reply:
        connection = await self._connection()
        from statecraft.llm.messages_api import SchemaRefused

        model = request.model or self._model
        asked = (model, json.dumps(request.output.schema, sort_keys=True) if request.output else "")
        if self._native_output and asked not in self._refused:
            try:
                return await connection.send(request_body(request, model, native_output=True), stream=stream, heard=heard)
            except SchemaRefused:
                if request.output is None:
                    raise
                self._refused.add(asked)
        return await connection.send(request_body(request, model, native_output=False), stream=stream, heard=heard)

    async def close(self) -> None:
        """Close the connections of this event loop. A later call opens new ones."""
        connection = self._connections.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.close()

    async def _connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            await asyncio.to_thread(_load)
            if loop not in self._connections:
                self._connections[loop] = self._connect()
        return self._connections[loop]

    def _connect(self) -> Connection:
        from statecraft.llm.messages_api import Connection

        return Connection(self._api_key, self._base_url, self._clock)


def _load() -> None:
    """Import the SDK: long work, done beside the event loop so that heartbeats go on."""
    importlib.import_module("statecraft.llm.messages_api")


def request_body(request: Request, model: str, *, native_output: bool) -> dict[str, Any]:
    """The arguments of the SDK's call. Raises `ConfigError` for options that contradict the request."""
    clash = _OURS & request.options.keys()
    if clash:
        raise ConfigError(f"options may not set {', '.join(sorted(clash))}; the request does")
    options: dict[str, Json] = dict(request.options)
    system = request.system or ""
    if request.output is not None and native_output:
        schema = {"type": "json_schema", "schema": request.output.schema}
        options["output_config"] = {**options.get("output_config", {}), "format": schema}
    elif request.output is not None:
        system = "\n\n".join(part for part in (system, _schema_prompt(request.output)) if part)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "messages": [dict(each) for each in request.messages],
    }
    if system:
        body["system"] = system
    if request.tools:
        body["tools"] = [_tool(spec) for spec in request.tools]
    return body | ({"extra_body": options} if options else {})


def _tool(spec: ToolSpec) -> dict[str, Json]:
    described: Mapping[str, Json] = {"description": spec.description} if spec.description else {}
    return {"name": spec.name, **described, "input_schema": spec.input_schema}


def _schema_prompt(output: OutputSpec) -> str:
    schema = json.dumps(output.schema, ensure_ascii=False)
    return f"Give your final answer as one JSON object that fits this JSON schema, with no other text around it:\n{schema}"
