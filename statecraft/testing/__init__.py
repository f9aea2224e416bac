"""For tests, ours and yours: a clock that stands still or skips what nobody needs to wait for, a scripted model, recorded
replies, a fake Messages API, the path a run took, paths to drive a machine along, and ways to die at a chosen moment or at
every one. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statecraft.llm.cassette import Recorder
    from statecraft.llm.scripted import ScriptedLLM, json_reply, text, together, tool_use
    from statecraft.machine.covering import Path
    from statecraft.testing.clock import ManualClock
    from statecraft.testing.crash import KillAt, PointCounter
    from statecraft.testing.crash_matrix import CrashReport, crash_everywhere
    from statecraft.testing.driving import Driven, drive
    from statecraft.testing.fixtures import MakeAPI, MakeLLM, MakeRuntime
    from statecraft.testing.messages_api import EXPECTED, SCENARIOS, FakeMessagesAPI, Outage, answer, failure, in_turn, says
    from statecraft.testing.payloads import NoPayload
    from statecraft.testing.running import run_async
    from statecraft.testing.skipping import SkippingClock
    from statecraft.testing.taken import TakenPath, assert_path, path_of
    from statecraft.testing.walks import state_machine_of

_HOME = {
    "statecraft.llm.cassette": "Recorder",
    "statecraft.llm.scripted": "ScriptedLLM json_reply text together tool_use",
    "statecraft.machine.covering": "Path",
    "statecraft.testing.clock": "ManualClock",
    "statecraft.testing.crash": "KillAt PointCounter",
    "statecraft.testing.crash_matrix": "CrashReport crash_everywhere",
    "statecraft.testing.driving": "Driven drive",
    "statecraft.testing.fixtures": "MakeAPI MakeLLM MakeRuntime",
    "statecraft.testing.messages_api": "EXPECTED SCENARIOS FakeMessagesAPI Outage answer failure in_turn says",
    "statecraft.testing.payloads": "NoPayload",
    "statecraft.testing.running": "run_async",
    "statecraft.testing.skipping": "SkippingClock",
    "statecraft.testing.taken": "TakenPath assert_path path_of",
    "statecraft.testing.walks": "state_machine_of",
}
"""Where each name comes from. The pytest plugin lives in this package too and must cost nothing where it is not used."""
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "EXPECTED",
    "SCENARIOS",
    "CrashReport",
    "Driven",
    "FakeMessagesAPI",
    "KillAt",
    "MakeAPI",
    "MakeLLM",
    "MakeRuntime",
    "ManualClock",
    "NoPayload",
    "Outage",
    "Path",
    "PointCounter",
    "Recorder",
    "ScriptedLLM",
    "SkippingClock",
    "TakenPath",
    "answer",
    "assert_path",
    "crash_everywhere",
    "drive",
    "failure",
    "in_turn",
    "json_reply",
    "path_of",
    "run_async",
    "says",
    "state_machine_of",
    "text",
    "together",
    "tool_use",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'statecraft.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
