"""For tests, ours and yours: a clock that stands still, a scripted model, recorded replies, a fake Messages API, and ways to
die at a chosen moment."""

from __future__ import annotations

from statecraft.llm.cassette import Recorder
from statecraft.llm.scripted import ScriptedLLM, json_reply, text, together, tool_use
from statecraft.testing.clock import ManualClock
from statecraft.testing.crash import KillAt, PointCounter
from statecraft.testing.messages_api import EXPECTED, SCENARIOS, FakeMessagesAPI, Outage, answer, failure, in_turn, says

__all__ = [
    "EXPECTED",
    "SCENARIOS",
    "FakeMessagesAPI",
    "KillAt",
    "ManualClock",
    "Outage",
    "PointCounter",
    "Recorder",
    "ScriptedLLM",
    "answer",
    "failure",
    "in_turn",
    "json_reply",
    "says",
    "text",
    "together",
    "tool_use",
]
