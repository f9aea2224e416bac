"""Building scenarios: a message, an error, raw bytes, several in turn; and what users may give instead of a scenario."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence

from statecraft.errors import ConfigError
from statecraft.records import Json
from statecraft.testing.messages_api.exchange import Exchange, Scenario
from statecraft.testing.messages_api.payloads import MODEL, error_body, events, message

Choice = str | Scenario | Mapping[str, Json] | Sequence[Mapping[str, Json]]
"""The name of a scenario, a scenario, a whole message, or the content blocks of one."""
Said = str | Mapping[str, Json] | Sequence[Mapping[str, Json]]
"""A text, a whole message, or the content blocks of one."""

BAD = "invalid_request_error"


def answer(*blocks: Mapping[str, Json], stop: str | None = "end_turn", **changes: Json) -> Scenario:
    """A message with these blocks, whole or as a stream, as the request asks. Its model is the request's.

    A tool call without an id is given one that is unique in its conversation.
    """

    async def act(exchange: Exchange) -> None:
        model = exchange.body.get("model") or MODEL
        told = [_identified(block, exchange.body, place) for place, block in enumerate(blocks)]
        await tell(exchange, message(*told, stop=stop, **{"model": model, **changes}))

    return act


def says(text: str) -> Scenario:
    """A message with this text."""
    return answer({"type": "text", "text": text})


def failure(status: int, kind: str, text: str = "it failed", *, code: str | None = None, **headers: str) -> Scenario:
    """An error. `kind` is its `error.type`, `code` its error code; in names of headers `_` stands for `-`."""

    async def act(exchange: Exchange) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps(error_body(kind, text, code, exchange.received.id)).encode()
        await exchange.send(status, body, headers=named)

    return act


def raw(status: int, content: bytes, kind: str = "application/json") -> Scenario:
    """A whole answer of these bytes."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(status, content, kind)

    return act


def in_turn(*scenarios: Scenario) -> Scenario:
    """One after the other, a request each; a request too many is refused for good."""
    left = list(scenarios)

    async def act(exchange: Exchange) -> None:
        await (left.pop(0) if left else failure(400, BAD, "one request too many"))(exchange)

    return act


async def tell(exchange: Exchange, whole: Mapping[str, Json]) -> None:
    """Send a message, whole or as a stream, as the request asks."""
    if exchange.body.get("stream"):
        await exchange.stream(events(whole))
    else:
        await exchange.send(200, json.dumps(whole).encode())


def as_scenario(choice: Choice, known: Mapping[str, Scenario]) -> Scenario:
    """The scenario that a user means. Raises `ConfigError` for a name that no scenario has."""
    if callable(choice):
        return choice
    if not isinstance(choice, str):
        return saying(choice)
    if choice not in known:
        near = difflib.get_close_matches(choice, known, n=3) or sorted(known)[:5]
        raise ConfigError(f"the fake API has no scenario {choice!r}; did you mean {' or '.join(near)}?")
    return known[choice]


def saying(said: Said) -> Scenario:
    """The scenario that answers with a text, with blocks, or with a whole message."""
    if isinstance(said, str):
        return says(said)
    if isinstance(said, Mapping):
        whole = dict(said)

        async def act(exchange: Exchange) -> None:
            await tell(exchange, whole)

        return act
    calls = any(block.get("type") == "tool_use" for block in said)
    return answer(*said, stop="tool_use" if calls else "end_turn")


def _identified(block: Mapping[str, Json], body: Mapping[str, Json], place: int) -> Mapping[str, Json]:
    if block.get("type") != "tool_use" or "id" in block:
        return block
    return {**block, "id": f"toolu_{len(body.get('messages', ()))}_{place}"}
