"""The tools of one question, used for the model: checked arguments, bounded results, mistakes told instead of raised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statecraft.engine.joining import mapped
from statecraft.errors import CallError, ConfigError, ErrorKind, NotAllowed
from statecraft.llm import port
from statecraft.tools import Tool, ToolArgumentsInvalid

Use = Callable[[Tool[..., Any], Mapping[str, Any]], Awaitable[str]]
"""Calls a tool of the state with JSON arguments; answers its result as the model reads it."""

_NOT_THE_MODELS = frozenset({ErrorKind.IN_DOUBT, ErrorKind.BUDGET})
"""Failures that no other call of the model can mend: the handler meets them."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What the model may use to answer one question."""

    offered: Mapping[str, Tool[..., Any]]
    call: Use
    concurrency: int

    @property
    def specs(self) -> tuple[port.ToolSpec, ...]:
        """The tools as the model sees them."""
        specs = [tool.spec for tool in self.offered.values()]
        return tuple(port.ToolSpec(spec["name"], spec["description"], spec["input_schema"]) for spec in specs)

    async def use_all(self, uses: Sequence[port.Block]) -> list[port.Block]:
        """Run the tool calls of one reply, at most `concurrency` at once; one result for each, in order."""
        if len(uses) == 1:
            return [await self.use(uses[0])]
        return await mapped(self.use, uses, self.concurrency)

    async def use(self, block: port.Block) -> port.Block:
        """Run one tool for the model. What goes wrong is told to the model as a result, unless nobody may go on."""
        name, arguments = str(block.get("name")), block.get("input")
        tool = self.offered.get(name)
        if tool is None:
            return _failed(block, f"there is no tool {name!r}; there are: {', '.join(self.offered) or 'none'}")
        if not isinstance(arguments, dict):
            return _failed(block, f"arguments of {name} are invalid: they must be a JSON object")
        try:
            tool.validate(arguments)
            text = await self.call(tool, dict(arguments))
        except ToolArgumentsInvalid as error:
            return _failed(block, str(error))
        except CallError as error:
            if error.kind in _NOT_THE_MODELS:
                raise
            return _failed(block, error.message[: tool.max_chars])
        return _result(block, text)


def toolbox(tools: Sequence[Any], declared: Sequence[str], use: Use, state: str, concurrency: int) -> Toolbox:
    """The tools offered with a question. Raises before anybody is asked: `NotAllowed` for a tool that the state does not
    declare, `ConfigError` for two of one name."""
    if concurrency < 1:
        raise ConfigError(f"tool_concurrency is at least 1, not {concurrency}")
    offered: dict[str, Tool[..., Any]] = {}
    for tool in tools:
        if tool.name not in declared:
            names = ", ".join(declared) or "none"
            raise NotAllowed(
                f"state {state} offers the model the tool {tool.name!r}, but does not declare it (declared: {names}); "
                "add it to tools=[...]"
            )
        if tool.name in offered:
            raise ConfigError(f"state {state} offers the model two tools named {tool.name!r}; give one another name=")
        offered[tool.name] = tool
    return Toolbox(offered, use, concurrency)


def _result(block: port.Block, text: str) -> port.Block:
    return {"type": "tool_result", "tool_use_id": block.get("id"), "content": text}


def _failed(block: port.Block, text: str) -> port.Block:
    # A provider refuses an error that says nothing.
    return {**_result(block, text if text.strip() else f"{block.get('name')} failed and did not say why"), "is_error": True}
