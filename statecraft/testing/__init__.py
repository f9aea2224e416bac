"""For tests, ours and yours: a clock that stands still, a scripted model, recorded replies, a fake Messages API, ways to die at
a chosen moment, paths to drive a machine along, and crashes at every point of its runs. What is heavy loads on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from statecraft.llm.cassette import Recorder
from statecraft.llm.scripted import ScriptedLLM, json_reply, text, together, tool_use
from statecraft.machine.covering import Path
from statecraft.testing.clock import ManualClock
from statecraft.testing.crash import KillAt, PointCounter
from statecraft.testing.messages_api import EXPECTED, SCENARIOS, FakeMessagesAPI, Outage, answer, failure, in_turn, says

if TYPE_CHECKING:
    from statecraft.testing.crash_matrix import CrashReport, crash_everywhere
    from statecraft.testing.driving import Driven, drive
    from statecraft.testing.payloads import NoPayload
    from statecraft.testing.walks import state_machine_of

_HOME = {
    "CrashReport": "crash_matrix",
    "Driven": "driving",
    "NoPayload": "payloads",
    "crash_everywhere": "crash_matrix",
    "drive": "driving",
    "state_machine_of": "walks",
}
"""Where the names are that load with the engine and the store."""

__all__ = [
    "EXPECTED",
    "SCENARIOS",
    "CrashReport",
    "Driven",
    "FakeMessagesAPI",
    "KillAt",
    "ManualClock",
    "NoPayload",
    "Outage",
    "Path",
    "PointCounter",
    "Recorder",
    "ScriptedLLM",
    "answer",
    "crash_everywhere",
    "drive",
    "failure",
    "in_turn",
    "json_reply",
    "says",
    "state_machine_of",
    "text",
    "together",
    "tool_use",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'statecraft.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"statecraft.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
