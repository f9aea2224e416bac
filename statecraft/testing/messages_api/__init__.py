"""A fake of Anthropic's Messages API on a loopback port: real sockets, real HTTP, and every way it can go wrong.

Standard library only. `FakeMessagesAPI` is the server; `SCENARIOS` are the ways, `EXPECTED` what comes of each.
"""

from __future__ import annotations

from statecraft.testing.messages_api.exchange import Exchange, Received, Scenario
from statecraft.testing.messages_api.payloads import error_body, events, message, sse
from statecraft.testing.messages_api.replies import answer, failure, in_turn, raw, says
from statecraft.testing.messages_api.scenarios import EXPECTED, SCENARIOS
from statecraft.testing.messages_api.server import FakeMessagesAPI, Outage

__all__ = [
    "EXPECTED",
    "SCENARIOS",
    "Exchange",
    "FakeMessagesAPI",
    "Outage",
    "Received",
    "Scenario",
    "answer",
    "error_body",
    "events",
    "failure",
    "in_turn",
    "message",
    "raw",
    "says",
    "sse",
]
