"""For tests, ours and yours: a clock that stands still, a scripted model, and ways to die at a chosen moment."""

from __future__ import annotations

from statecraft.llm.scripted import ScriptedLLM, json_reply, text, together, tool_use
from statecraft.testing.clock import ManualClock
from statecraft.testing.crash import KillAt, PointCounter

__all__ = ["KillAt", "ManualClock", "PointCounter", "ScriptedLLM", "json_reply", "text", "together", "tool_use"]
