"""The fake API's server: it listens on loopback, records every request, and picks how to answer it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from statecraft.clock import SystemClock
from statecraft.records import Json
from statecraft.testing.messages_api.exchange import Exchange, Received, Scenario, receive
from statecraft.testing.messages_api.replies import BAD, Choice, Said, as_scenario, failure, saying
from statecraft.testing.messages_api.scenarios import SCENARIOS

_CLOCK = SystemClock()
_BACKLOG = 4096
"""Connections that may wait to be accepted. With 100, a burst of 300 clients loses some, and their calls hang."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which every request meets the same trouble."""

    start: float
    """Seconds since the API was started."""
    end: float
    """Seconds since the API was started; from then on it is over."""
    scenario: Choice | tuple[Choice, ...] = "529"
    """What requests meet; of several, each request meets the next one."""

    def meets(self, received: Received) -> Choice | None:
        """What this request meets; None before and after the outage."""
        if not self.start <= received.at < self.end:
            return None
        if isinstance(self.scenario, tuple):
            return self.scenario[received.number % len(self.scenario)]
        return self.scenario


Rule = Callable[[Mapping[str, Json], int], Choice | None]
"""Picks by the request's JSON and its number (from 1); None leaves it to the rest."""


class FakeMessagesAPI:
    """A Messages API on a loopback port: `async with FakeMessagesAPI(...) as api: Claude(base_url=api.url, api_key="test")`.

    How a request is answered, first one that applies: an `Outage` of its time; the `script`, one entry a request, until it
    is used up; the `rule`; the scenario in its path (`api.url_of("529")`); `reply`, which writes an answer to the request's
    JSON; and at last `scenario`. A rule or reply that raises answers 400, and is raised again when the server is left.

    `latency` is how many seconds it thinks before every answer: a number, or a function of the seconds since the start.
    `now` and `sleep` are its clock: give those of a `ManualClock` (`clock.monotonic`, `clock.sleep`) and an outage of ten
    minutes takes no time. With a plain `with` it runs beside the caller, for code that is not async.
    """

    def __init__(
        self,
        scenario: Choice = "ok",
        *,
        script: Sequence[Choice] = (),
        rule: Rule | None = None,
        reply: Callable[[Mapping[str, Json]], Said] | None = None,
        outages: Sequence[Outage] = (),
        latency: float | Callable[[float], float] = 0.0,
        now: Callable[[], float] = _CLOCK.monotonic,
        sleep: Callable[[float], Awaitable[None]] = _CLOCK.sleep,
    ) -> None:
        for choice in (scenario, *script):
            as_scenario(choice, SCENARIOS)
        self.requests: list[Received] = []
        """Every request so far, in the order in which they were complete."""
        self._scenario, self._script, self._rule, self._reply = scenario, list(script), rule, reply
        self._outages, self._latency, self._now, self._sleep = tuple(outages), latency, now, sleep
        self._began = 0.0
        self._port = 0
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._came = asyncio.Event()
        self._failures: list[Exception] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beside: threading.Thread | None = None

    # --- for clients -------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The `base_url` of a client."""
        return f"http://127.0.0.1:{self._port}"

    def url_of(self, scenario: str) -> str:
        """The `base_url` of a client that always meets this scenario. Raises `ConfigError` for an unknown one."""
        as_scenario(scenario, SCENARIOS)
        return f"{self.url}/s/{scenario}"

    async def received(self, count: int = 1) -> None:
        """Return when at least `count` requests have come."""
        while len(self.requests) < count:
            await self._came.wait()

    # --- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, backlog=_BACKLOG)
        self._port = self._server.sockets[0].getsockname()[1]
        self._began = self._now()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        server, self._server = self._server, None
        assert server is not None
        server.close()
        while self._connections:
            for connection, writer in list(self._connections.items()):
                writer.transport.abort()
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()
        if error is None and self._failures:
            raise self._failures[0]

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._beside = threading.Thread(target=self._loop.run_forever, name="fake messages api", daemon=True)
        self._beside.start()
        return asyncio.run_coroutine_threadsafe(self.__aenter__(), self._loop).result()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        loop, beside = self._loop, self._beside
        assert loop is not None
        assert beside is not None
        try:
            asyncio.run_coroutine_threadsafe(self.__aexit__(kind, error, tb), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            beside.join()
            loop.close()

    # --- serving -----------------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine: a connection is known from its first moment, so that closing forgets none."""
        if self._server is None:
            writer.transport.abort()
            return
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections[connection] = writer
        connection.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until either side closes it."""
        try:
            while (arrived := await receive(reader)) is not None:
                exchange = Exchange(self._record(arrived), reader, writer, self._sleep)
                await self._answer(exchange)
                if not exchange.complete:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The client went away, or the test is over.
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    def _record(self, arrived: Callable[[int, float], Received]) -> Received:
        received = arrived(len(self.requests) + 1, self._now() - self._began)
        self.requests.append(received)
        came, self._came = self._came, asyncio.Event()
        came.set()
        return received

    async def _answer(self, exchange: Exchange) -> None:
        received = exchange.received
        latency = self._latency(received.at) if callable(self._latency) else self._latency
        if latency > 0:
            await self._sleep(latency)
        try:
            await self._choose(received, exchange.body)(exchange)
        except (ConnectionError, asyncio.IncompleteReadError):
            raise
        except Exception as error:  # noqa: BLE001 - a user's rule may raise anything; the client must not hang
            self._failures.append(error)
            await failure(400, BAD, f"the fake API's own rule failed: {type(error).__name__}: {error}")(exchange)

    def _choose(self, received: Received, body: Mapping[str, Json]) -> Scenario:
        for outage in self._outages:
            if (met := outage.meets(received)) is not None:
                return as_scenario(met, SCENARIOS)
        path = received.path.partition("?")[0]
        if path.endswith("/v1/messages/count_tokens"):
            return _count_tokens
        if received.method != "POST" or not path.endswith("/v1/messages"):
            return failure(404, "not_found_error", f"the fake API does not know {received.method} {path}")
        if self._script:
            return as_scenario(self._script.pop(0), SCENARIOS)
        chosen = self._rule(body, received.number) if self._rule is not None else None
        if chosen is None and path.startswith("/s/"):
            chosen = path.split("/")[2]
        if chosen is not None:
            return as_scenario(chosen, SCENARIOS)
        return saying(self._reply(body)) if self._reply is not None else as_scenario(self._scenario, SCENARIOS)


async def _count_tokens(exchange: Exchange) -> None:
    """About four characters a token."""
    counted = max(1, len(str(exchange.body.get("messages", ""))) // 4)
    await exchange.send(200, b'{"input_tokens": %d}' % counted)
