"""Which failures of a tool are the model's business, and which end its question."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from statecraft import tool
from statecraft.engine.toolbox import Toolbox, toolbox
from statecraft.errors import CallError, ConfigError, ErrorKind, InDoubt, OverBudget, Rejected
from statecraft.llm import Block
from statecraft.tools import Tool


@tool
async def look(number: int) -> str:
    """Look."""
    return str(number)


def box(error: Exception | None = None, concurrency: int = 8) -> Toolbox:
    async def call(tool: Tool[..., Any], arguments: Mapping[str, Any]) -> str:
        if error is not None:
            raise error
        return str(arguments["number"])

    return toolbox([look], ["look"], call, "work", concurrency)


def use(number: int, id: str = "t") -> Block:
    return {"type": "tool_use", "id": id, "name": "look", "input": {"number": number}}


@pytest.mark.parametrize(
    "error",
    [
        Rejected("ann refused it: too much", kind=ErrorKind.REJECTED, name="look"),
        CallError("out of order", kind=ErrorKind.TOOL, name="look"),
        CallError("look took longer than 30 s", kind=ErrorKind.TIMEOUT, name="look"),
        CallError("breaker", kind=ErrorKind.OVERLOADED, name="look"),
    ],
)
def test_a_call_that_failed_or_was_refused_has_a_result_that_says_so(error: CallError) -> None:
    (result,) = asyncio.run(box(error).use_all([use(1)]))
    assert result == {"type": "tool_result", "tool_use_id": "t", "content": error.message, "is_error": True}


def test_a_failure_that_says_nothing_is_still_an_answer_that_a_provider_takes() -> None:
    (result,) = asyncio.run(box(CallError("", kind=ErrorKind.TOOL, name="look")).use_all([use(1)]))
    assert (result["is_error"], result["content"]) == (True, "look failed and did not say why")


@pytest.mark.parametrize(
    "error",
    [
        InDoubt("nobody knows", kind=ErrorKind.IN_DOUBT, name="look"),
        OverBudget("spent", kind=ErrorKind.BUDGET, name="look"),
    ],
)
def test_what_no_other_call_can_mend_ends_the_question(error: CallError) -> None:
    with pytest.raises(type(error)):
        asyncio.run(box(error).use_all([use(1), use(2, "u")]))


def test_results_name_their_calls_in_order() -> None:
    results = asyncio.run(box(concurrency=2).use_all([use(number, f"t{number}") for number in range(5)]))
    assert [(each["tool_use_id"], each["content"]) for each in results] == [(f"t{number}", str(number)) for number in range(5)]


def test_a_bound_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="tool_concurrency is at least 1, not 0"):
        box(concurrency=0)
