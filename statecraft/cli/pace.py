"""`--pace`: a model that waits before each call, so that people can watch a run that would be over too soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from statecraft.clock import SystemClock

if TYPE_CHECKING:
    from statecraft.llm.port import LLM, Reply, Request


class Paced:
    """Another model, slowed down. Its answers, its name and its label stay the same."""

    def __init__(self, llm: LLM, seconds: float) -> None:
        self._llm = llm
        self._seconds = seconds
        self._clock = SystemClock()

    @property
    def model(self) -> str:
        return self._llm.model

    @property
    def label(self) -> str:
        return self._llm.label

    async def complete(self, request: Request) -> Reply:
        await self._clock.sleep(self._seconds)
        return await self._llm.complete(request)

    async def close(self) -> None:
        await self._llm.close()
