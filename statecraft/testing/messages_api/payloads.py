"""What the Messages API says, as JSON and as server-sent events. Shapes as in the API reference of version 2026-10-21."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from statecraft.records import Json

MODEL = "claude-fake-1"
"""The model of a message when the request names none."""
USAGE = {"input_tokens": 12, "output_tokens": 5, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 400}

TEXT = {"type": "text", "text": "hello world"}
THINKING = {"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}
PARIS = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
ROME = {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {"city": "Rome"}}
UNKNOWN = {"type": "hologram", "data": {"depth": 3}, "new": True}
"""A content block of a kind that nobody knows yet."""


def message(*blocks: Mapping[str, Json], stop: str | None = "end_turn", **changes: Json) -> dict[str, Json]:
    """A whole message with these content blocks; `changes` put other fields in place."""
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": list(blocks)}
    return {**head, "stop_reason": stop, "stop_sequence": None, "usage": dict(USAGE), **changes}


def error_body(kind: str, text: str, code: str | None = None, request_id: str | None = None) -> dict[str, Json]:
    """The body of an error: `kind` is its `error.type`, `code` its `error.details.error_code`."""
    details: dict[str, Json] = {"details": {"error_code": code}} if code else {}
    return {"type": "error", "error": {"type": kind, "message": text, **details}, "request_id": request_id}


def sse(event: str, data: Mapping[str, Json]) -> bytes:
    """One server-sent event."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def events(whole: Mapping[str, Json]) -> list[bytes]:
    """The message as the events of a stream, in order, the last one `message_stop`. Text comes word by word."""
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    found = [sse("message_start", {"type": "message_start", "message": begun}), sse("ping", {"type": "ping"})]
    for place, block in enumerate(whole["content"]):
        found += _block_events(place, block)
    delta = {key: whole.get(key) for key in ("stop_reason", "stop_sequence", "stop_details") if key in whole}
    usage = {"output_tokens": whole["usage"]["output_tokens"]}
    found.append(sse("message_delta", {"type": "message_delta", "delta": delta, "usage": usage}))
    return [*found, sse("message_stop", {"type": "message_stop"})]


def _block_events(place: int, block: Mapping[str, Json]) -> list[bytes]:
    empty, pieces = _pieces(block)
    start = sse("content_block_start", {"type": "content_block_start", "index": place, "content_block": empty})
    deltas = [sse("content_block_delta", {"type": "content_block_delta", "index": place, "delta": piece}) for piece in pieces]
    return [start, *deltas, sse("content_block_stop", {"type": "content_block_stop", "index": place})]


def _pieces(block: Mapping[str, Json]) -> tuple[Mapping[str, Json], list[dict[str, Json]]]:
    """A block as it begins, and the deltas that complete it."""
    if block["type"] == "text":
        words = re.findall(r"\s*\S+\s*$|\s*\S+", block["text"]) or [block["text"]]
        return {**block, "text": ""}, [{"type": "text_delta", "text": word} for word in words]
    if block["type"] == "thinking":
        thought = {"type": "thinking_delta", "thinking": block["thinking"]}
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [thought, signed]
    if isinstance(block.get("input"), dict):
        text = json.dumps(block["input"])
        half = max(1, len(text) // 2)
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in (text[:half], text[half:])]
    return block, []
