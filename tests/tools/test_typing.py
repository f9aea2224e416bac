"""What type checkers see of a tool. Checked by running them; the assertions only have to be reachable."""

from __future__ import annotations

import asyncio
from typing import Any, ParamSpec, Protocol, TypeVar, assert_type

from statecraft.tools import AsyncTool, CallInfo, PlainTool, Tool, tool

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Named(Protocol):
    @property
    def name(self) -> str: ...


class ToolLike(Protocol[P, R_co]):
    """The shape other rooms know a tool by."""

    @property
    def name(self) -> str: ...

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]: ...

    def load(self, text: str, /) -> R_co: ...


@tool
async def search(query: str, limit: int = 3) -> list[str]:
    return [query] * limit


@tool(effect="once")
def send(info: CallInfo, to: str) -> int:
    return len(to)


def call(used: ToolLike[Q, R], result: str, *args: Q.args, **kwargs: Q.kwargs) -> R:
    used.bind(*args, **kwargs)
    return used.load(result)


def names(*tools: Named) -> list[str]:
    return [each.name for each in tools]


def test_a_tool_keeps_the_types_of_its_function_without_the_call_info() -> None:
    typed: AsyncTool[[str, int], list[str]] = search
    hidden: PlainTool[..., int] = send
    base: Tool[..., list[str]] = search
    assert names(typed, hidden, base) == ["search", "send", "search"]
    assert_type(send("ann"), int)
    assert_type(asyncio.run(search("a")), list[str])
    assert_type(asyncio.run(search.invoke({"query": "a"}, CallInfo())), list[str])


def test_sync_and_async_tools_look_the_same_to_whoever_calls_through_a_run() -> None:
    assert_type(call(search, '["a"]', "a", limit=2), list[str])
    assert_type(call(send, "1", to="ann"), int)


def mistakes() -> None:
    """Never run. Each line is an error; mypy reports an ignore comment that has nothing to ignore."""
    call(search, "[]", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    call(send, "1", to="ann", info=CallInfo())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    search(limit=3)  # type: ignore[call-arg, unused-coroutine]  # pyright: ignore[reportCallIssue]
    send.dump("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tool(effect="never")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
