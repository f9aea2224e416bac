"""The Messages API through the anthropic SDK, one attempt at a time. The only module that imports the SDK and its HTTP stack.

It is heavy (more than a second to import), so `claude` loads it with the first call.
"""

from __future__ import annotations

import email.utils
import json
import math
import os
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx2

from statecraft.clock import Clock
from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm.port import ModelError, Reply
from statecraft.records import Json, Usage

_WHOLE = httpx2.Timeout(connect=5, read=600, write=30, pool=10)
"""Seconds. A whole answer is silent until it is finished; the caller's deadline is the real limit."""
_STREAMED = httpx2.Timeout(connect=5, read=60, write=30, pool=10)
"""Seconds. A live stream is never silent for long."""

_QUOTA_CODES = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "organization_on_hold",
        "storage_quota_exceeded",
    }
)
_TRANSIENT_CODES = frozenset(
    {
        "cmek_key_unreachable",
        "cmek_context_unavailable",
        "compaction_unavailable",
        "request_body_timeout",
        "thread_continue_in_flight",
    }
)
# The one handle on these is their text; the API gives them no code of their own.
_QUOTA_TEXTS = ("api usage limits", "credit balance is too low")
_CONTEXT_TEXTS = ("prompt is too long", "exceed context limit", "input length and `max_tokens`")
_SCHEMA_TEXTS = ("compiled grammar", "too complex", "output_config.format", "structured output")

_SILENT = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
"""Blocks that an answer without a text may consist of. Others alone are an answer that nobody here can read."""
_LONGEST = 300
"""Characters of a server's message that an error quotes."""
_KEY_FIXES = {
    401: "check the key in ANTHROPIC_API_KEY or Claude(api_key=...)",
    403: "the key is known, but may not do this: check its workspace and permissions",
}


class SchemaRefused(ModelError):
    """The model cannot be held to this output schema; the same question without it may well work."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind=ErrorKind.PERMANENT)


class _Unusable(Exception):
    """An answer with a good status that is not an answer."""


class Connection:
    """An SDK client of one event loop. Every failure leaves as a `ModelError`; a cancellation leaves untouched."""

    def __init__(self, api_key: str | None, base_url: str | None, clock: Clock) -> None:
        self._client = _client(api_key, base_url)
        self._secrets = _credentials(self._client)
        self._clock = clock

    async def send(self, body: Mapping[str, Any], *, stream: bool, heard: Callable[[str], None] | None = None) -> Reply:
        """Make one attempt. With `stream` the answer travels in pieces, but still comes back whole; `heard` is told each
        piece of its text."""
        try:
            return await (self._streamed(body, heard) if stream else self._whole(body))
        except Exception as e:
            failure = classify(e, self._clock.now() / 1_000_000)
            # Failures are journaled and shown; a server or a proxy may quote what it was sent.
            failure.args = (_hidden(str(failure), self._secrets),)
            raise failure from e

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.close()

    async def _whole(self, body: Mapping[str, Any]) -> Reply:
        message: Any = await self._client.messages.create(**body, timeout=_WHOLE)
        return _reply(message, getattr(message, "_request_id", None))

    async def _streamed(self, body: Mapping[str, Any], heard: Callable[[str], None] | None) -> Reply:
        async with self._client.messages.stream(**body, timeout=_STREAMED) as stream:
            complete = False
            try:
                async for event in stream:
                    complete = complete or event.type == "message_stop"
                    if heard is not None and event.type == "text":
                        heard(event.text)
                message = await stream.get_final_message()
            except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
                raise _Unusable(f"the stream is broken: {e}") from e  # from the SDK's own reading of the events
            if not complete:
                raise _Unusable("the stream ended early")
            return _reply(message, stream.response.headers.get("request-id"))


def _client(api_key: str | None, base_url: str | None) -> anthropic.AsyncAnthropic:
    url = base_url or os.environ.get("ANTHROPIC_BASE_URL") or ""
    # What runs on this machine is never meant for the proxy of the environment.
    # (The SDK's own client class reads the proxy settings even when told not to trust the environment.)
    direct = httpx2.AsyncClient(trust_env=False, follow_redirects=True) if _is_loopback(url) else None
    try:
        client = anthropic.AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=0, http_client=direct)
    except (ValueError, anthropic.AnthropicError) as e:
        raise ConfigError(f"the Claude client cannot be set up: {e}") from e
    keys = _credentials(client)
    if client.credentials is None and not keys:
        raise ConfigError("no API key for Claude: set ANTHROPIC_API_KEY or pass Claude(api_key=...)")
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigError("the API key for Claude holds a line break or another character no key has: set ANTHROPIC_API_KEY anew")
    return client


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(client: anthropic.AsyncAnthropic) -> tuple[str, ...]:
    """What the client identifies itself with."""
    given = {name.lower(): str(value).removeprefix("Bearer").strip(" ") for name, value in client.default_headers.items()}
    return tuple(given[name] for name in ("authorization", "x-api-key") if given.get(name, "").strip())


def _hidden(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        if len(secret) >= 8:  # no real key is shorter, and a short one would be found in ordinary words
            text = text.replace(secret, "[key]")
    return text


def _reply(message: object, request_id: str | None) -> Reply:
    """The reply in a message that really is one. The SDK also hands out texts, hollow messages and halves of messages."""
    if not isinstance(message, anthropic.types.Message):
        raise _Unusable(f"the answer is no message but a {type(message).__name__}")
    plain: dict[str, Json] = message.model_dump(mode="json", exclude_unset=True, warnings=False)
    usage, content, stop_reason = plain.get("usage"), plain.get("content"), plain.get("stop_reason")
    if plain.get("type") != "message" or not isinstance(usage, dict) or not isinstance(content, list):
        raise _Unusable("the answer is JSON, but no message")
    if not isinstance(stop_reason, str):
        raise _Unusable("the message has no stop reason")
    if not all(_is_block(block, cut=stop_reason == "max_tokens") for block in content):
        raise _Unusable("the message holds a block that is none")
    _check_text(content)
    if stop_reason in ("end_turn", "stop_sequence"):
        _check_readable(content)
    sent, cached, read = (_count(usage, f"{name}input_tokens") for name in ("", "cache_creation_", "cache_read_"))
    return Reply(
        content=tuple(content),
        stop_reason=stop_reason,
        usage=Usage(sent + cached + read, _count(usage, "output_tokens"), read, cached),
        model=str(plain.get("model", "")),
        request_id=request_id,
        stop_details=details if isinstance(details := plain.get("stop_details"), dict) else None,
    )


def _is_block(block: Json, *, cut: bool) -> bool:
    """Whether this is a content block. Of the kinds we read, the fields must be there; unknown kinds pass. What was `cut`
    off may lack the input of its last tool call: nobody executes or resends that."""
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        return False
    if block["type"] == "tool_use":
        return bool(block.get("id")) and isinstance(block.get("name"), str) and (cut or isinstance(block.get("input"), dict))
    return block["type"] != "text" or isinstance(block.get("text"), str)


def _check_readable(content: list[Json]) -> None:
    """Refuse an answer of which nothing can be read: taken for an empty text, it would pass for an answer."""
    kinds = {block["type"] for block in content}
    if content and "text" not in kinds and not kinds <= _SILENT:
        raise _Unusable(f"the answer has no text, only blocks of unknown kinds: {', '.join(sorted(kinds - _SILENT))}")


def _check_text(content: Json) -> None:
    """Refuse half characters: they could be neither recorded nor sent back."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except ValueError as e:
        raise _Unusable(f"the message is no text: {e}") from e


def _count(usage: Mapping[str, Json], name: str) -> int:
    tokens = usage.get(name) or 0
    if not isinstance(tokens, int) or tokens < 0:
        raise _Unusable(f"the message counts {tokens!r} {name}")
    return tokens


def classify(error: Exception, now: float) -> ModelError:
    """What a failure of the SDK means for the next attempt. `now`, in seconds since 1970, turns a date into a wait."""
    if isinstance(error, anthropic.APIStatusError):
        return _status(error, now)
    if isinstance(error, (_Unusable, anthropic.APIResponseValidationError, json.JSONDecodeError)):
        return ModelError(f"unusable answer: {error}", kind=ErrorKind.PROTOCOL, maybe_billed=True)
    if isinstance(error, anthropic.APIConnectionError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL)):
        return ModelError(f"the request cannot be sent: {error}", kind=ErrorKind.PERMANENT)
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)):
        return ModelError(f"no connection: {str(error) or type(error).__name__}", kind=ErrorKind.TRANSIENT)
    if isinstance(error, (httpx2.TransportError, anthropic.APIConnectionError, TimeoutError)):
        return ModelError(f"the connection broke: {type(error).__name__}", kind=ErrorKind.TRANSIENT, maybe_billed=True)
    return ModelError(f"unexpected {type(error).__name__}: {error}"[:_LONGEST], kind=ErrorKind.PERMANENT)


def _status(error: anthropic.APIStatusError, now: float) -> ModelError:
    """An error the server reported. Codes and types come before the status: a stream that fails has status 200."""
    status, code, text = error.status_code, error.error_code or error.type or "", str(error.api_message or error)
    parts = (str(status), code, text[:_LONGEST], f"(request {error.request_id})" if error.request_id else "")
    message = " ".join(" ".join(parts).split())
    if status in _KEY_FIXES:
        message = f"{message}: {_KEY_FIXES[status]}"
    if status == 400 and any(phrase in text.lower() for phrase in _SCHEMA_TEXTS):
        return SchemaRefused(message)
    kind = _kind(error, text.lower())
    # Requests that were refused are not charged; a stream that had begun, or work that took too long, may be.
    billed = status in (200, 408, 504) and kind is not ErrorKind.PERMANENT
    return ModelError(message, kind=kind, retry_after=_retry_after(error.response.headers, now), maybe_billed=billed)


def _kind(error: anthropic.APIStatusError, text: str) -> ErrorKind:
    status, of_type, code = error.status_code, str(error.type), error.error_code
    bad_request = status == 400
    if code in _QUOTA_CODES or status == 402 or of_type == "billing_error" or (bad_request and _says(text, _QUOTA_TEXTS)):
        return ErrorKind.QUOTA
    if status == 413 or of_type == "request_too_large" or (bad_request and _says(text, _CONTEXT_TEXTS)):
        return ErrorKind.CONTEXT
    if of_type == "overloaded_error" or status == 529:
        return ErrorKind.OVERLOADED
    if status == 429 or of_type == "rate_limit_error":
        return ErrorKind.RATE_LIMITED
    if status in (499, 501):
        return ErrorKind.PERMANENT
    failing = code in _TRANSIENT_CODES or of_type in ("api_error", "timeout_error") or status in (408, 409) or status >= 500
    if failing or (bad_request and error.response.headers.get("x-should-retry") == "true"):
        return ErrorKind.TRANSIENT
    return ErrorKind.PERMANENT


def _says(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in text for phrase in phrases)


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from `retry-after-ms`, or `retry-after` as seconds or as a date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    raw = headers.get("retry-after")
    seconds = _number(raw)
    if seconds is not None or raw is None:
        return seconds
    parsed = email.utils.parsedate_tz(raw)
    return None if parsed is None else max(0.0, email.utils.mktime_tz(parsed) - now)


def _number(raw: str | None) -> float | None:
    try:
        value = float(raw or "")
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
