"""Language models behind one port, typed output, and the loop that follows one question to its answer."""

from statecraft.llm.claude import Claude
from statecraft.llm.compaction import ContextPolicy, SlidingWindow, SummarizeOld
from statecraft.llm.conversation import Answer, Limits, converse
from statecraft.llm.history import HistoryInvalid, check_history
from statecraft.llm.loops import LoopPolicy
from statecraft.llm.output import Output, OutputMismatch, repair_message
from statecraft.llm.port import LLM, Block, Message, ModelError, OutputSpec, Reply, Request, ToolSpec
from statecraft.llm.scripted import ScriptedLLM, ScriptExhausted, json_reply, text, together, tool_use

__all__ = [
    "LLM",
    "Answer",
    "Block",
    "Claude",
    "ContextPolicy",
    "HistoryInvalid",
    "Limits",
    "LoopPolicy",
    "Message",
    "ModelError",
    "Output",
    "OutputMismatch",
    "OutputSpec",
    "Reply",
    "Request",
    "ScriptExhausted",
    "ScriptedLLM",
    "SlidingWindow",
    "SummarizeOld",
    "ToolSpec",
    "check_history",
    "converse",
    "json_reply",
    "repair_message",
    "text",
    "together",
    "tool_use",
]
