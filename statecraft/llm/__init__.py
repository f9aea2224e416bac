"""Language models behind one port, typed output, and the loop that follows one question to its answer."""

from statecraft.llm.claude import Claude
from statecraft.llm.conversation import Answer, HistoryInvalid, Limits, check_history, converse
from statecraft.llm.output import Output, OutputMismatch, repair_message
from statecraft.llm.port import LLM, Block, Message, ModelError, OutputSpec, Reply, Request, ToolSpec
from statecraft.llm.scripted import ScriptedLLM, ScriptExhausted, json_reply, text, together, tool_use

__all__ = [
    "LLM",
    "Answer",
    "Block",
    "Claude",
    "HistoryInvalid",
    "Limits",
    "Message",
    "ModelError",
    "Output",
    "OutputMismatch",
    "OutputSpec",
    "Reply",
    "Request",
    "ScriptExhausted",
    "ScriptedLLM",
    "ToolSpec",
    "check_history",
    "converse",
    "json_reply",
    "repair_message",
    "text",
    "together",
    "tool_use",
]
