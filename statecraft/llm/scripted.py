"""A model that says what it is told to: for tests and examples. Same request, same reply; no clock, no chance, no network."""

from __future__ import annotations

import inspect
import json
import os
import re
import types
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Self

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from statecraft.errors import ErrorKind
from statecraft.llm.port import Block, ModelError, Reply, Request
from statecraft.records import Json, Usage

Line = str | BaseModel | Reply | ModelError
"""A reply's text, its JSON, the whole reply, or a failure to raise."""
Answerer = Callable[[Request], Line | Awaitable[Line]]
"""Answers from the request."""
Script = Sequence[Line | Answerer] | Answerer
Pattern = str | re.Pattern[str] | Callable[[Request], bool]
"""Which requests a rule is for: those whose last message contains a text, or in which an expression is found; or what a
function says of the request."""
Rule = tuple[Pattern, Line | Answerer]

_MADE = re.compile(r"toolu_\d+_\d+")
_QUOTED = 120
"""Characters of a request that an error quotes."""


class ScriptExhausted(ModelError):
    """More requests came than the script has replies."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind=ErrorKind.PERMANENT)


class ScriptedLLM:
    """Answers from a list, in the order requests come, or from a function of the request; `ScriptedLLM.rules` from
    rules, `ScriptedLLM.cassette` from a recording.

    Use a function or rules where requests run side by side: then no reply depends on who asked first. Token counts are made
    up from the length of the texts (4 characters a token), so budgets can be tested too.
    """

    def __init__(self, replies: Script, *, model: str = "scripted", label: str | None = None) -> None:
        self._answerer = replies if callable(replies) else None
        self._replies = () if callable(replies) else tuple(replies)
        self._model = model
        self._label = label or f"{model} (scripted, no model)"
        self.requests: list[Request] = []
        """Every request so far, in order."""

    @classmethod
    def rules(
        cls,
        rules: Sequence[Rule],
        default: Line | Answerer | None = None,
        *,
        model: str = "scripted",
        label: str | None = None,
    ) -> Self:
        """Answers by the first rule that fits: `[("weather", "Sunny."), (re.compile("refund [0-9]+"), "Done.")]`.

        A request that fits none is answered by `default`; without one it raises `ScriptExhausted`, naming the rules.
        """
        found = tuple(rules)

        async def answer(request: Request) -> Line:
            line = next((line for pattern, line in found if _fits(pattern, request)), default)
            if line is None:
                raise ScriptExhausted(f"no rule fits a request that says {_last_text(request)!r}; {_tried(found)}")
            said = line(request) if callable(line) else line
            return await said if inspect.isawaitable(said) else said

        return cls(answer, model=model, label=label)

    @classmethod
    def cassette(cls, path: str | os.PathLike[str], *, model: str | None = None, label: str | None = None) -> Self:
        """Answers equal requests as the recording of a `Recorder` has it; of several equal ones in their order.

        `model` defaults to the recorded one. A request that was not recorded raises `NotRecorded`, with what differs from
        the nearest recorded one. Raises `ConfigError` if the file is no cassette.
        """
        from statecraft.llm.cassette import Cassette

        tape = Cassette(path)
        name = model or tape.model
        return cls(tape.answer, model=name, label=label or f"{name} (recorded, no model)")

    @property
    def model(self) -> str:
        """The default model id."""
        return self._model

    @property
    def label(self) -> str:
        """How it is shown to people."""
        return self._label

    async def complete(self, request: Request) -> Reply:
        """The next reply. Raises the scripted `ModelError`, or `ScriptExhausted`."""
        self.requests.append(request)
        line = self._next(request, len(self.requests))
        if callable(line):
            answer = line(request)
            line = await answer if inspect.isawaitable(answer) else answer
        return _reply(line, request)

    async def stream(self, request: Request, heard: Callable[[str], None]) -> Reply:
        """The next reply, its text told word by word."""
        reply = await self.complete(request)
        for word in re.findall(r"\s*\S+\s*$|\s*\S+", reply.text):
            heard(word)
            await _turn()
        return reply

    async def close(self) -> None:
        """Nothing to close."""

    def _next(self, request: Request, number: int) -> Line | Answerer:
        if self._answerer is not None:
            return self._answerer
        if number > len(self._replies):
            asked = _last_text(request)
            raise ScriptExhausted(f"the script has {len(self._replies)} replies, but request {number} came, saying {asked!r}")
        return self._replies[number - 1]


def text(words: str) -> Reply:
    """A reply that ends with this text."""
    return _blank(({"type": "text", "text": words},), "end_turn")


def json_reply(value: object) -> Reply:
    """A reply of JSON: a model, or any value pydantic can write. What is not a JSON object is put under `value`,
    as outputs such as `list[str]` or `bool` are asked for."""
    plain = to_jsonable_python(value)
    return text(json.dumps(plain if isinstance(plain, dict) else {"value": plain}))


def tool_use(name: str, input: Mapping[str, Json], *, id: str = "") -> Reply:
    """A reply that calls one tool. Without an `id` it gets one that is unique in its conversation."""
    return _blank(({"type": "tool_use", "id": id, "name": name, "input": dict(input)},), "tool_use")


def together(*replies: Reply) -> Reply:
    """One reply with the blocks of several: text before a tool call, or tool calls side by side."""
    content = tuple(block for reply in replies for block in reply.content)
    return _blank(content, "tool_use" if any(reply.tool_uses for reply in replies) else "end_turn")


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let others run."""
    yield


def _blank(content: tuple[Block, ...], stop_reason: str) -> Reply:
    return Reply(content=content, stop_reason=stop_reason, usage=Usage(), model="")


def _reply(line: Line, request: Request) -> Reply:
    """Fill in what the script left open."""
    if isinstance(line, ModelError):
        raise line
    reply = line if isinstance(line, Reply) else text(line) if isinstance(line, str) else json_reply(line)
    turn = _number(request) if reply.tool_uses else 0
    content = tuple(_identified(block, f"toolu_{turn}_{place}") for place, block in enumerate(reply.content))
    usage = reply.usage if reply.usage != Usage() else Usage(_tokens([request.system, *request.messages]), _tokens(content))
    return replace(reply, content=content, usage=usage, model=reply.model or request.model)


def _number(request: Request) -> int:
    """A number for the tool calls of this reply that those of the conversation do not have. It is longer than the
    conversation where that was made shorter."""
    blocks = [block for each in request.messages if not isinstance(each["content"], str) for block in each["content"]]
    ids = [str(block.get("id")) for block in blocks if block.get("type") == "tool_use"]
    turns = [int(each.split("_")[1]) for each in ids if _MADE.fullmatch(each)]
    return max([len(request.messages), *(turn + 1 for turn in turns)])


def _identified(block: Block, id: str) -> Block:
    return {**block, "id": id} if block.get("type") == "tool_use" and not block.get("id") else block


def _tokens(value: object) -> int:
    return -(-len(json.dumps(to_jsonable_python(value), ensure_ascii=False)) // 4)


def _last_text(request: Request) -> str:
    content = _last_message(request)
    return content if len(content) <= _QUOTED else content[:_QUOTED] + "..."


def _last_message(request: Request) -> str:
    content = request.messages[-1]["content"] if request.messages else ""
    if isinstance(content, str):
        return content
    return " ".join(str(block.get("text", block.get("content", ""))) for block in content)


def _fits(pattern: Pattern, request: Request) -> bool:
    if isinstance(pattern, str):
        return pattern in _last_message(request)
    return bool(pattern.search(_last_message(request)) if isinstance(pattern, re.Pattern) else pattern(request))


def _tried(rules: Sequence[Rule]) -> str:
    shown = [
        repr(pattern.pattern if isinstance(pattern, re.Pattern) else pattern)
        if isinstance(pattern, str | re.Pattern)
        else getattr(pattern, "__name__", "a function")
        for pattern, _ in rules
    ]
    return f"the rules are for {', '.join(shown) or 'nothing'}; add one, or a default"
