"""The synchronous door: run one machine to its end (or to a question) and get the data back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from statecraft.engine.settings import Settings
from statecraft.llm.port import LLM
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.records import RunRecord
from statecraft.runtime import Runtime

D = TypeVar("D", bound=Data)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[D]):
    """How a run came out."""

    run: RunRecord
    data: D


def run(
    machine: Machine[D],
    data: D,
    *,
    url: str | None = None,
    llm: LLM | None = None,
    key: str | None = None,
    machines: Sequence[Machine[Any]] = (),
    settings: Settings | None = None,
) -> Outcome[D]:
    """Start a run and block until it has ended or waits for a person.

    `settings` hold but for `take`: a script takes no runs but its own.

    Not for use inside a running event loop: use `Runtime` there. Raises what `Runtime.start` and `Runtime.wait` raise.
    """

    async def go() -> Outcome[D]:
        # A script must not begin with other runs, which its end would cut off.
        own = replace(settings or Settings(), take="own")
        async with Runtime(url, machines=[machine, *machines], llm=llm, settings=own) as runtime:
            started = await runtime.start(machine, data, key=key)
            ended = await runtime.wait(started.id)
            return Outcome(ended, await runtime.data(ended.id, type(data)))

    return asyncio.run(go())
