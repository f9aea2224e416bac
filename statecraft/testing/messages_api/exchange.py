"""One request to the fake API, and the means to answer it: well, badly, or below the rules of HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from statecraft.records import Json

SECRET = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
"""Headers whose values are not kept."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it came."""

    number: int
    """From 1, in the order in which requests were complete."""
    at: float
    """Seconds since the API was started."""
    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name; of what identifies the sender only the name is kept."""
    body: Json
    """The JSON that was sent; None if it was none."""
    key_digest: str = ""
    """SHA-256 of the API key that came with it, in hex; empty without one."""

    def has_key(self, key: str) -> bool:
        """Whether the request was sent with this API key."""
        return self.key_digest == hashlib.sha256(key.encode()).hexdigest()

    @property
    def id(self) -> str:
        """What the answer gives as its `request-id`."""
        return f"req_{self.number:04}"


@dataclass(slots=True)
class Exchange:
    """A request that waits for its answer."""

    received: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sleep: Callable[[float], Awaitable[None]]
    """Lets seconds pass, by the clock of the API."""
    complete: bool = False
    """Whether the answer ended as HTTP wants it, so that the connection can take another request."""

    @property
    def body(self) -> Mapping[str, Json]:
        """What was asked, as a JSON object."""
        return self.received.body if isinstance(self.received.body, dict) else {}

    async def write(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and the headers, with a request id."""
        named = {"request-id": self.received.id, **headers}
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in named.items())]
        await self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def send(
        self, status: int, raw: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        await self.head(status, {"content-type": kind, "content-length": str(len(raw)), **(headers or {})})
        await self.write(raw)
        self.complete = True

    async def begin_stream(self) -> None:
        """Send the head of a stream of events."""
        await self.head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})

    async def chunk(self, raw: bytes) -> None:
        """Send one piece of a stream."""
        await self.write(b"%x\r\n%s\r\n" % (len(raw), raw))

    async def end_stream(self) -> None:
        """End a stream as HTTP wants it, whatever its events say."""
        await self.write(b"0\r\n\r\n")
        self.complete = True

    async def stream(self, parts: Sequence[bytes]) -> None:
        """Send a whole stream of events."""
        await self.begin_stream()
        for part in parts:
            await self.chunk(part)
        await self.end_stream()

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
"""Answers one request, in its own way. The connection is closed after an answer that is not complete."""


async def receive(reader: asyncio.StreamReader) -> Callable[[int, float], Received] | None:
    """Read one request; None when the client closed instead. The server then gives it its number and time."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    key = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
    digest = hashlib.sha256(key.encode("latin-1")).hexdigest() if key else ""
    shown = {name: "[hidden]" if name in SECRET else value for name, value in headers.items()}
    body = _json(raw)
    return lambda number, at: Received(number, at, method, path, shown, body, digest)


def _json(raw: bytes) -> Json:
    try:
        return json.loads(raw)
    except ValueError:
        return None
