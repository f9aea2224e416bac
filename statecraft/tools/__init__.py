"""Tools: typed functions that handlers and models call through the journal."""

from statecraft.tools.schema import CallInfo, Spec
from statecraft.tools.tool import (
    RISKS,
    AsyncTool,
    Effect,
    PlainTool,
    Risk,
    Tool,
    ToolArgumentsInvalid,
    ToolDeclaration,
    ToolResultInvalid,
    tool,
)

__all__ = [
    "RISKS",
    "AsyncTool",
    "CallInfo",
    "Effect",
    "PlainTool",
    "Risk",
    "Spec",
    "Tool",
    "ToolArgumentsInvalid",
    "ToolDeclaration",
    "ToolResultInvalid",
    "tool",
]
