"""Every way the API can answer that a client must survive, by name, and what this library makes of each.

Names are stable: users' tests are written in them. A name that begins with `sse_` is about streamed requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from statecraft.testing.messages_api.exchange import Exchange, Scenario
from statecraft.testing.messages_api.payloads import PARIS, ROME, TEXT, THINKING, UNKNOWN, error_body, events, message, sse
from statecraft.testing.messages_api.replies import BAD, answer, failure, raw

_WHOLE = json.dumps(message(TEXT)).encode()
_PARTS = events(message(TEXT, PARIS, stop="tool_use"))
_GOOD = json.dumps({"name": "Ada", "score": 7})
_HTML = b"<html>captive portal</html>"


def _text(words: str, stop: str = "end_turn", **changes: object) -> Scenario:
    return answer({"type": "text", "text": words}, stop=stop, **changes)


def _refusal(category: str) -> dict[str, str]:
    return {"type": "refusal", "category": category, "explanation": "no"}


# --- answers that depend on the conversation -------------------------------------------------------------------------


def _calls(*blocks: Mapping[str, object]) -> Scenario:
    """Asks for tools, and is content with their results."""

    async def act(exchange: Exchange) -> None:
        last = exchange.body["messages"][-1]["content"]
        answered = isinstance(last, list) and any(block.get("type") == "tool_result" for block in last)
        await (answer(TEXT) if answered else answer(*blocks, stop="tool_use"))(exchange)

    return act


async def _pause(exchange: Exchange) -> None:
    """Pauses once; goes on when the conversation comes back with what it said."""
    paused = exchange.body["messages"][-1]["role"] == "assistant"
    await (answer(TEXT) if paused else answer(TEXT, stop="pause_turn"))(exchange)


async def _schema_refused(exchange: Exchange) -> None:
    """Refuses constrained output, and only that."""
    native = "format" in exchange.body.get("output_config", {})
    refusal = failure(400, BAD, "output_config.format.schema: compiled grammar is too large")
    await (refusal if native else answer(TEXT))(exchange)


# --- bodies and connections that break -------------------------------------------------------------------------------


async def _half(exchange: Exchange, headers: Mapping[str, str]) -> None:
    await exchange.head(200, {"content-type": "application/json", **headers})
    await exchange.write(_WHOLE[: len(_WHOLE) // 2])


async def _cut_length(exchange: Exchange) -> None:
    await _half(exchange, {"content-length": str(len(_WHOLE))})


async def _cut_chunked(exchange: Exchange) -> None:
    await exchange.head(200, {"content-type": "application/json", "transfer-encoding": "chunked"})
    await exchange.chunk(_WHOLE[: len(_WHOLE) // 2])


async def _cut_until_close(exchange: Exchange) -> None:
    """A body that ends where the connection does: HTTP cannot see that it was cut."""
    await _half(exchange, {"connection": "close"})


async def _close(_exchange: Exchange) -> None:
    """Says nothing; the connection is closed."""


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _reset_in_body(exchange: Exchange) -> None:
    await _half(exchange, {"content-length": str(len(_WHOLE))})
    await exchange.sleep(0.05)
    exchange.reset()


async def _not_http(exchange: Exchange) -> None:
    await exchange.write(b"\x16\x03\x01 garbage, not http\r\n\r\n")


async def _slow_headers(exchange: Exchange) -> None:
    await exchange.sleep(3)
    await answer(TEXT)(exchange)


async def _drip(exchange: Exchange) -> None:
    """Each gap is short, the whole is long: a read timeout never sees it."""
    await exchange.head(200, {"content-type": "application/json", "content-length": str(len(_WHOLE))})
    size = max(1, len(_WHOLE) // 8)
    for place in range(0, len(_WHOLE), size):
        await exchange.write(_WHOLE[place : place + size])
        await exchange.sleep(0.2)
    exchange.complete = True


async def _never(exchange: Exchange) -> None:
    await exchange.hung_up()


# --- streams that break ----------------------------------------------------------------------------------------------


async def _part(exchange: Exchange, left_out: int) -> None:
    """A stream without its last events, and without its end."""
    await exchange.begin_stream()
    for part in _PARTS[:-left_out]:
        await exchange.chunk(part)


async def _stream_cut(exchange: Exchange) -> None:
    await _part(exchange, 4)


async def _stream_reset(exchange: Exchange) -> None:
    await _part(exchange, 4)
    await exchange.sleep(0.05)
    exchange.reset()


async def _stream_early(exchange: Exchange) -> None:
    await _part(exchange, 4)
    await exchange.end_stream()


async def _stream_unstopped(exchange: Exchange) -> None:
    await _part(exchange, 1)
    await exchange.end_stream()


async def _stream_stalls(exchange: Exchange) -> None:
    await _part(exchange, 4)
    await exchange.hung_up()


async def _pings(exchange: Exchange) -> None:
    """Nothing but signs of life: only a limit on the whole call ends it."""
    await exchange.begin_stream()
    while True:
        await exchange.chunk(sse("ping", {"type": "ping"}))
        await exchange.sleep(0.1)


def _stream_error(kind: str, text: str) -> Scenario:
    async def act(exchange: Exchange) -> None:
        await exchange.stream([*_PARTS[:-4], sse("error", error_body(kind, text))])

    return act


async def _stream_error_first(exchange: Exchange) -> None:
    await exchange.stream([sse("error", error_body("overloaded_error", "before the message"))])


async def _stream_garbled(exchange: Exchange) -> None:
    await exchange.stream([*_PARTS[:4], b'event: content_block_delta\ndata: {"type": "content_block_del\n\n'])


async def _stream_disordered(exchange: Exchange) -> None:
    await exchange.stream(_PARTS[3:])


async def _stream_unknown_event(exchange: Exchange) -> None:
    first, *rest = events(message(TEXT))
    await exchange.stream([first, sse("sparkle", {"type": "sparkle", "x": 1}), *rest])


_ANSWERS: Mapping[str, Scenario] = {
    "ok": answer(TEXT),
    "thinking": answer(THINKING, TEXT),
    "tool_use": _calls(TEXT, PARIS),
    "parallel_tool_use": _calls(PARIS, ROME),
    "pause_turn": _pause,
    "unknown_stop_reason": answer(TEXT, stop="brand_new_reason"),
    "unknown_block": answer(UNKNOWN),
    "unknown_block_beside_text": answer(UNKNOWN, TEXT),
    "max_tokens": answer(TEXT, stop="max_tokens"),
    "tool_truncated": answer({**PARIS, "input": {}}, stop="max_tokens"),
    "context_exceeded": answer(TEXT, stop="model_context_window_exceeded"),
    "refusal": answer(stop="refusal", stop_details=_refusal("cyber")),
    "json_good": _text(_GOOD),
    "json_bad_value": _text(json.dumps({"name": "A", "score": 99})),
    "json_truncated": _text(_GOOD[:-6], "max_tokens"),
    "json_not_json": _text("Sure! Here it is: {}"),
    "json_refusal": _text("I can't help.", "refusal", stop_details=_refusal("bio")),
    "schema_refused": _schema_refused,
}

_RATE = "rate_limit_error"
_ERRORS: Mapping[str, Scenario] = {
    "400": failure(400, BAD),
    "400_should_retry": failure(400, BAD, x_should_retry="true"),
    "400_on_hold": failure(400, BAD, code="organization_on_hold"),
    "400_usage_limit": failure(400, BAD, "You have reached your specified API usage limits."),
    "400_too_long": failure(400, BAD, "prompt is too long: 210000 tokens > 200000 maximum"),
    "401": failure(401, "authentication_error", "invalid bearer token"),
    "402": failure(402, "billing_error"),
    "402_linked": failure(402, "billing_error", code="linked_organization_spend_limit_reached"),
    "403": failure(403, "permission_error"),
    "404": failure(404, "not_found_error"),
    "408": failure(408, "timeout_error"),
    "409": failure(409, "conflict_error"),
    "412": failure(412, BAD),
    "413": failure(413, "request_too_large"),
    "413_html": raw(413, b"<html>413 Request Entity Too Large</html>", "text/html"),
    "418": failure(418, BAD),
    "422": failure(422, BAD),
    "429_no_header": failure(429, _RATE),
    "429_retry_after": failure(429, _RATE, retry_after="7", anthropic_ratelimit_requests_remaining="0"),
    "429_retry_after_1": failure(429, _RATE, retry_after="1"),
    "429_retry_after_ms": failure(429, _RATE, retry_after_ms="350", retry_after="9"),
    "429_http_date": failure(429, _RATE, retry_after="Wed, 21 Oct 2099 07:28:00 GMT"),
    "429_nonsense": failure(429, _RATE, retry_after="inf"),
    "429_no_retry_flag": failure(429, _RATE, x_should_retry="false"),
    "429_ramp": failure(429, _RATE, code="ramp_limit_exceeded", retry_after="30"),
    "429_spend_limit": failure(429, _RATE, code="enforced_spend_limit_reached"),
    "429_contract_spend_limit": failure(429, _RATE, code="contract_spend_limit_reached"),
    "499": failure(499, "api_error"),
    "500": failure(500, "api_error"),
    "500_malformed_json": raw(500, b'{"type": "error", "err'),
    "501": failure(501, "api_error"),
    "502_html": raw(502, b"<html>bad gateway</html>", "text/html"),
    "503": failure(503, "api_error"),
    "504": failure(504, "timeout_error"),
    "529": failure(529, "overloaded_error"),
    "529_retry_after": failure(529, "overloaded_error", retry_after="2"),
    "529_compaction": failure(529, "overloaded_error", code="compaction_unavailable"),
    "599": failure(599, "api_error"),
}

_BROKEN: Mapping[str, Scenario] = {
    "200_malformed_json": raw(200, b'{"id": "msg_1", "content": ['),
    "200_html": raw(200, _HTML, "text/html"),
    "200_empty": raw(200, b""),
    "200_wrong_schema": raw(200, b'{"hello": "world"}'),
    "200_error_envelope": raw(200, json.dumps(error_body("overloaded_error", "wrapped in a 200")).encode()),
    "no_stop_reason": answer(TEXT, stop=None),
    "truncated_content_length": _cut_length,
    "truncated_chunked": _cut_chunked,
    "truncated_until_close": _cut_until_close,
    "close_before_response": _close,
    "reset_before_response": _reset,
    "reset_mid_body": _reset_in_body,
    "not_http": _not_http,
    "slow_headers": _slow_headers,
    "slow_drip": _drip,
    "never": _never,
    "sse_cut_fin": _stream_cut,
    "sse_cut_rst": _stream_reset,
    "sse_clean_end_no_stop": _stream_early,
    "sse_no_message_stop": _stream_unstopped,
    "sse_stall": _stream_stalls,
    "sse_ping_forever": _pings,
    "sse_error_overloaded": _stream_error("overloaded_error", "mid-stream overload"),
    "sse_error_api": _stream_error("api_error", "mid-stream 500"),
    "sse_error_first": _stream_error_first,
    "sse_bad_json": _stream_garbled,
    "sse_disordered": _stream_disordered,
    "sse_html_200": raw(200, _HTML, "text/html"),
    "sse_unknown_event": _stream_unknown_event,
}

SCENARIOS: Mapping[str, Scenario] = {**_ANSWERS, **_ERRORS, **_BROKEN}
"""By name."""

_KINDS: Mapping[str, str] = {
    "answer": "ok thinking tool_use parallel_tool_use pause_turn unknown_block_beside_text json_good schema_refused "
    "sse_unknown_event",
    "refusal": "refusal json_refusal unknown_stop_reason",
    "invalid": "max_tokens tool_truncated json_bad_value json_truncated json_not_json",
    "context": "context_exceeded 400_too_long 413 413_html",
    "permanent": "400 401 403 404 412 418 422 499 501",
    "quota": "400_on_hold 400_usage_limit 402 402_linked 429_spend_limit 429_contract_spend_limit",
    "rate_limited": "429_no_header 429_retry_after 429_retry_after_1 429_retry_after_ms 429_http_date 429_nonsense "
    "429_no_retry_flag 429_ramp",
    "overloaded": "529 529_retry_after 529_compaction sse_error_overloaded sse_error_first",
    "transient": "400_should_retry 408 409 500 500_malformed_json 502_html 503 504 599 truncated_content_length "
    "truncated_chunked close_before_response reset_before_response reset_mid_body not_http sse_cut_fin sse_cut_rst "
    "sse_stall sse_error_api",
    "timeout": "slow_headers slow_drip never sse_ping_forever",
    "protocol": "unknown_block 200_malformed_json 200_html 200_empty 200_wrong_schema 200_error_envelope no_stop_reason "
    "truncated_until_close sse_clean_end_no_stop sse_no_message_stop sse_bad_json sse_disordered sse_html_200",
}

EXPECTED: Mapping[str, str] = {name: kind for kind, names in _KINDS.items() for name in names.split()}
"""What `run.llm.ask` makes of each scenario when it is met for good: `answer`, or the kind of the error that the call ends
with. The ones named `json_` are about a question for an object `{name: str, score: int up to 10}`; `timeout` is the
runtime's `call_timeout`, where it is shorter than the scenario."""
