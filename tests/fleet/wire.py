"""A wire to a PostgreSQL server that breaks in the middle of a COMMIT of our choice.

It reads what the client says, by the frontend/backend protocol 3.0 (PostgreSQL documentation, "Message Formats"), no further
than to know a COMMIT, sent as text (`Q`) or as a prepared statement (`P` once, then `B`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

Cut = Literal["before", "after", "meanwhile", "unheard"]
"""Where a connection breaks: before the COMMIT is passed on; after the server has answered it, which the client never hears;
right behind the COMMIT, on both sides; or before it, and the server is not told that the client is gone."""


class Wire:
    """Stands between a client and the server of `url`, on loopback. `cuts`: by number of the commit, from 0, how it goes."""

    def __init__(self, url: str, cuts: Mapping[int, Cut]) -> None:
        self._server = urlsplit(url)
        self._cuts = dict(cuts)
        self.commits = 0
        """How many were seen."""
        self.cut: list[Cut] = []
        """What was done, in order."""
        self._loop = asyncio.new_event_loop()
        self._left: list[asyncio.StreamWriter] = []
        """Connections whose other end is gone without a word."""

    def __enter__(self) -> Self:
        listening: Future[int] = Future()
        threading.Thread(target=self._serve, args=(listening,), name="wire", daemon=True).start()
        self._port = listening.result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread_ended.wait(10)

    @property
    def url(self) -> str:
        """The server through this wire."""
        who, _, _ = self._server.netloc.rpartition("@")
        return urlunsplit(
            self._server._replace(netloc=f"{who}@127.0.0.1:{self._port}", query="sslmode=disable&gssencmode=disable")
        )

    def _serve(self, listening: Future[int]) -> None:
        self._thread_ended = threading.Event()
        self._ending = asyncio.Event()
        try:
            self._loop.run_until_complete(self._listen(listening))
        finally:
            self._loop.close()
            self._thread_ended.set()

    async def _listen(self, listening: Future[int]) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        listening.set_result(server.sockets[0].getsockname()[1])
        await self._ending.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        for left in self._left:
            left.transport.abort()
        await asyncio.sleep(0)

    async def _connected(self, here: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        there, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        line = _Line(here, to_client, there, to_server)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            answers = asyncio.ensure_future(line.answers())
            try:
                await self._questions(line)
            finally:
                answers.cancel()
        to_client.transport.abort()
        if line.told:
            to_server.transport.abort()
        else:
            self._left.append(to_server)

    async def _questions(self, line: _Line) -> None:
        await line.first()
        commits: set[bytes] = set()
        while True:
            kind, body = await line.question()
            if kind == b"P" and body.split(b"\0")[1] == b"COMMIT":
                commits.add(body.split(b"\0")[0])
            asked = body.split(b"\0")
            if (kind == b"Q" and asked[0] == b"COMMIT") or (kind == b"B" and asked[1] in commits):
                how, self.commits = self._cuts.get(self.commits), self.commits + 1
                if how is not None:
                    self.cut.append(how)
                    await line.end(how, kind, body)
                    return
            line.pass_on(kind, body)


class _Line:
    """One connection."""

    def __init__(
        self,
        here: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._here, self._to_client, self._there, self._to_server = here, to_client, there, to_server
        self._deaf = False
        """Whether the client hears no more."""
        self._answered = asyncio.Event()
        self.told = True
        """Whether the server is told of the end."""

    async def first(self) -> None:
        """The one message without a kind."""
        head = await self._here.readexactly(4)
        self._to_server.write(head + await self._here.readexactly(int.from_bytes(head) - 4))

    async def question(self) -> tuple[bytes, bytes]:
        head = await self._here.readexactly(5)
        return head[:1], await self._here.readexactly(int.from_bytes(head[1:]) - 4)

    def pass_on(self, kind: bytes, body: bytes) -> None:
        self._to_server.write(kind + (len(body) + 4).to_bytes(4) + body)

    async def answers(self) -> None:
        with suppress(OSError):
            while said := await self._there.read(65536):
                if self._deaf:
                    if said[-6:-1] == b"Z\0\0\0\5":
                        self._answered.set()
                else:
                    self._to_client.write(said)
        self._answered.set()
        if not self._deaf:
            self._to_client.close()

    async def end(self, how: Cut, kind: bytes, body: bytes) -> None:
        """Break the connection around this COMMIT."""
        self.told = how != "unheard"
        if how in ("before", "unheard"):
            return
        self._deaf = True
        self.pass_on(kind, body)
        while kind not in (b"Q", b"S"):
            kind, body = await self.question()
            self.pass_on(kind, body)
        await self._to_server.drain()
        if how == "after":
            await self._answered.wait()
