"""What the tests of the shipped machines share: one index for the whole session, and a run without an engine."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from machines.research import Brief
from statecraft import Run
from statecraft.llm import LLM, Output, Request


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the session's own, so that the index is built once and nobody's home is touched."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small folder of text."""
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "tea.md").write_text(
        "# Brewing tea\n\nGreen tea is brewed at seventy degrees for two minutes.\n\nBlack tea takes longer.\n"
    )
    (folder / "deep" / "coffee.txt").write_text("Coffee is brewed with water just below boiling.\n\nGrind the beans first.\n")
    (folder / "deep" / "kettle.rst").write_text("A kettle heats the water for tea and for coffee alike.\n")
    return folder


class FakeModel:
    """A handler's model without an engine: one request to a port, the answer validated, no repairs."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.prompts: list[str] = []

    async def ask(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        output: type[Any] = str,
        system: str | None = None,
        tools: Sequence[Any] = (),
        model: str | None = None,
        max_tokens: int = 4096,
        repairs: int = 2,
        max_turns: int = 8,
        tool_concurrency: int = 8,
        check: Callable[[Any], Sequence[str]] | None = None,
        context: Any = None,
    ) -> Any:
        assert isinstance(prompt, str)
        self.prompts.append(prompt)
        wanted = Output[Any].of(output)
        request = Request(model or "", [{"role": "user", "content": prompt}], system=system, output=wanted.spec)
        return wanted.parse((await self.llm.complete(request)).text)


class FakeRun(Run[Brief]):
    """A visit without an engine: tools are simply called."""

    def __init__(self, data: Brief, llm: LLM, visit: int) -> None:
        self.data = data
        self.model = FakeModel(llm)
        self.llm = self.model
        self.visit = visit
        self.called: list[tuple[str, tuple[Any, ...]]] = []

    async def tool(self, tool: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.called.append((tool.name, args))
        return tool(*args, **kwargs)

    async def map(
        self, fn: Callable[[Any], Awaitable[Any]], items: Iterable[Any], *, concurrency: int = 8, join: object = None
    ) -> Any:
        assert concurrency > 0
        return [await fn(item) for item in items]


Visits = Callable[..., FakeRun]


@pytest.fixture
def visit() -> Visits:
    """`visit(data, llm, number)`: a visit to try a handler with."""

    def make(data: Brief, llm: LLM, number: int = 1) -> FakeRun:
        return FakeRun(data, llm, number)

    return make
