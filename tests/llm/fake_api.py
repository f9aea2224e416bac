"""A Messages API that misbehaves on request, on a loopback port.

The first part of the path picks the scenario: a client with `base_url=api.url("reset")` always meets that one. It speaks
HTTP by hand, because several scenarios break the rules below it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

Json = Any
REQUEST_ID = "req_0042"


@dataclass
class Exchange:
    """One request and the means to answer it."""

    body: Mapping[str, Json]
    headers: Mapping[str, str]
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [
            f"HTTP/1.1 {status} Status",
            f"request-id: {REQUEST_ID}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        await self.write("\r\n".join([*lines, "", ""]).encode())

    async def write(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def send(
        self, status: int, raw: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        await self.head(status, {"content-type": kind, "content-length": str(len(raw)), **(headers or {})})
        await self.write(raw)

    async def chunk(self, raw: bytes) -> None:
        await self.write(b"%x\r\n%s\r\n" % (len(raw), raw))

    async def hung_up(self) -> None:
        """Return when the client has closed the connection."""
        while await self.reader.read(1024):
            pass

    def reset(self) -> None:
        """Close with a TCP reset."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Scenario = Callable[[Exchange], Awaitable[None]]


def message(*blocks: Mapping[str, Json], stop: str | None = "end_turn", **changes: Json) -> dict[str, Json]:
    usage = {"input_tokens": 12, "output_tokens": 5, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 400}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-fake-1", "content": list(blocks)}
    return {**head, "stop_reason": stop, "stop_sequence": None, "usage": usage, **changes}


TEXT = {"type": "text", "text": "hello world"}
THINKING = {"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}
PARIS = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
ROME = {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {"city": "Rome"}}
UNKNOWN = {"type": "hologram", "data": {"depth": 3}, "new": True}


def answer(*blocks: Mapping[str, Json], stop: str | None = "end_turn", **changes: Json) -> Scenario:
    """A whole message, or the same as a stream when the request asks for one."""

    async def act(exchange: Exchange) -> None:
        whole = message(*blocks, stop=stop, **changes)
        if exchange.body.get("stream"):
            await stream(exchange, events(whole))
            await exchange.write(b"0\r\n\r\n")
        else:
            await exchange.send(200, json.dumps(whole).encode())

    return act


def failure(status: int, kind: str, text: str = "it failed", *, code: str | None = None, **headers: str) -> Scenario:
    async def act(exchange: Exchange) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await exchange.send(status, json.dumps(error_body(kind, text, code)).encode(), headers=named)

    return act


def error_body(kind: str, text: str, code: str | None = None) -> dict[str, Json]:
    details: dict[str, Json] = {"details": {"error_code": code}} if code else {}
    return {"type": "error", "error": {"type": kind, "message": text, **details}, "request_id": REQUEST_ID}


def in_turn(*scenarios: Scenario) -> Scenario:
    """One after the other, a request each; a request too many is refused for good."""
    left = list(scenarios)

    async def act(exchange: Exchange) -> None:
        await (left.pop(0) if left else failure(400, BAD, "one request too many"))(exchange)

    return act


def raw(status: int, content: bytes, kind: str = "application/json") -> Scenario:
    async def act(exchange: Exchange) -> None:
        await exchange.send(status, content, kind)

    return act


def sse(event: str, data: Mapping[str, Json]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def events(whole: Mapping[str, Json]) -> list[bytes]:
    begun = {**whole, "content": [], "stop_reason": None}
    found = [sse("message_start", {"type": "message_start", "message": begun}), sse("ping", {"type": "ping"})]
    for place, block in enumerate(whole["content"]):
        found += _block_events(place, block)
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    found.append(sse("message_delta", {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}))
    return [*found, sse("message_stop", {"type": "message_stop"})]


def _block_events(place: int, block: Mapping[str, Json]) -> list[bytes]:
    empty: Mapping[str, Json]
    if block["type"] == "text":
        empty = {"type": "text", "text": ""}
        pieces = [{"type": "text_delta", "text": part} for part in block["text"].split(" ")]
    else:
        text = json.dumps(block["input"])
        empty = {**block, "input": {}}
        pieces = [{"type": "input_json_delta", "partial_json": part} for part in (text[:5], text[5:])]
    deltas = [sse("content_block_delta", {"type": "content_block_delta", "index": place, "delta": piece}) for piece in pieces]
    start = sse("content_block_start", {"type": "content_block_start", "index": place, "content_block": empty})
    return [start, *deltas, sse("content_block_stop", {"type": "content_block_stop", "index": place})]


async def stream(exchange: Exchange, parts: Sequence[bytes]) -> None:
    await exchange.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
    for part in parts:
        await exchange.chunk(part)


_TOOL_STREAM = events(message(TEXT, PARIS, stop="tool_use"))


async def _truncated(exchange: Exchange) -> None:
    whole = json.dumps(message(TEXT)).encode()
    await exchange.head(200, {"content-type": "application/json", "content-length": str(len(whole))})
    await exchange.write(whole[:40])


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _stream_cut(exchange: Exchange) -> None:
    await stream(exchange, _TOOL_STREAM[:-4])


async def _stream_early(exchange: Exchange) -> None:
    await stream(exchange, _TOOL_STREAM[:-4])
    await exchange.write(b"0\r\n\r\n")


async def _stream_unstopped(exchange: Exchange) -> None:
    await stream(exchange, _TOOL_STREAM[:-1])
    await exchange.write(b"0\r\n\r\n")


async def _stream_garbled(exchange: Exchange) -> None:
    await stream(exchange, [*_TOOL_STREAM[:3], b'event: content_block_delta\ndata: {"type": "content\n\n'])
    await exchange.write(b"0\r\n\r\n")


async def _stream_disordered(exchange: Exchange) -> None:
    await stream(exchange, _TOOL_STREAM[3:])
    await exchange.write(b"0\r\n\r\n")


async def _stream_error(exchange: Exchange) -> None:
    await stream(exchange, [*_TOOL_STREAM[:-4], sse("error", error_body("overloaded_error", "too busy"))])
    await exchange.write(b"0\r\n\r\n")


async def _never(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def _complex(exchange: Exchange) -> None:
    """Refuses constrained output, and only that."""
    native = "format" in exchange.body.get("output_config", {})
    refusal = failure(400, "invalid_request_error", "output_config.format.schema: compiled grammar is too large")
    await (refusal if native else answer(TEXT))(exchange)


BAD = "invalid_request_error"
SCENARIOS: Mapping[str, Scenario] = {
    "ok": answer(TEXT),
    "thinking": answer(THINKING, TEXT),
    "unknown_block": answer(UNKNOWN, TEXT, container=None),
    "tool_use": answer(TEXT, PARIS, stop="tool_use"),
    "parallel_tools": answer(PARIS, ROME, stop="tool_use"),
    "refusal": answer(stop="refusal", stop_details={"type": "refusal", "category": "cyber", "explanation": "no"}),
    "max_tokens": answer(TEXT, stop="max_tokens"),
    "new_stop": answer(TEXT, stop="brand_new_reason"),
    "complex": _complex,
    "400": failure(400, BAD),
    "400_retry": failure(400, BAD, x_should_retry="true"),
    "400_usage_limit": failure(400, BAD, "You have reached your specified API usage limits."),
    "400_too_long": failure(400, BAD, "prompt is too long: 210000 tokens > 200000 maximum"),
    "400_on_hold": failure(400, BAD, code="organization_on_hold"),
    "401": failure(401, "authentication_error", "invalid bearer token"),
    "402": failure(402, "billing_error"),
    "403": failure(403, "permission_error"),
    "404": failure(404, "not_found_error"),
    "408": failure(408, "timeout_error"),
    "409": failure(409, "conflict_error"),
    "413": raw(413, b"<html>Request Entity Too Large</html>", "text/html"),
    "429": failure(429, "rate_limit_error"),
    "429_seconds": failure(429, "rate_limit_error", retry_after="7"),
    "429_milliseconds": failure(429, "rate_limit_error", retry_after_ms="350", retry_after="9"),
    "429_date": failure(429, "rate_limit_error", retry_after="Thu, 01 Jan 2026 00:00:30 GMT"),
    "429_nonsense": failure(429, "rate_limit_error", retry_after="inf"),
    "429_ramp": failure(429, "rate_limit_error", code="ramp_limit_exceeded", retry_after="30"),
    "429_spend": failure(429, "rate_limit_error", code="enforced_spend_limit_reached"),
    "429_contract": failure(429, "rate_limit_error", code="contract_spend_limit_reached"),
    "500": failure(500, "api_error"),
    "501": failure(501, "api_error"),
    "502_html": raw(502, b"<html>bad gateway</html>", "text/html"),
    "504": failure(504, "timeout_error"),
    "529": failure(529, "overloaded_error", retry_after="2"),
    "html": raw(200, b"<html>captive portal</html>", "text/html"),
    "wrong_envelope": raw(200, b'{"hello": "world"}'),
    "wrapped_error": raw(200, json.dumps(error_body("overloaded_error", "in a 200")).encode()),
    "broken_json": raw(200, b'{"id": "msg_1", "content": ['),
    "empty": raw(200, b""),
    "no_stop_reason": answer(TEXT, stop=None),
    "truncated": _truncated,
    "reset": _reset,
    "never": _never,
    "stream_cut": _stream_cut,
    "stream_early": _stream_early,
    "stream_unstopped": _stream_unstopped,
    "stream_garbled": _stream_garbled,
    "stream_disordered": _stream_disordered,
    "stream_error": _stream_error,
}


@dataclass
class FakeApi:
    """`async with FakeApi() as api`: listens, records what it is sent, and stops."""

    scenario: Scenario | None = None
    """Meets every request, if given; the path then picks nothing."""
    requests: list[Exchange] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first request."""
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, scenario: str = "scenario") -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/{scenario}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection: simple, and a cut connection never spoils the next request."""
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        exchange = Exchange(body, headers, writer, reader)
        self.requests.append(exchange)
        self.arrived.set()
        await (self.scenario or SCENARIOS[first.split(" ")[1].split("/")[1]])(exchange)
