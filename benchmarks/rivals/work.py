"""The work that all do: runs of five steps, a state of one kilobyte that each step changes, durable after each step."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any

STEPS = 5
SIZE = 1_000
"""Characters of a run's state."""
AT_ONCE = 50
"""Runs under way at the same time, where the library does several."""


@dataclass(frozen=True)
class Measured:
    """What one contender did."""

    seconds: float
    steps: int
    how: str
    """The mode it ran in, and what is on disk when a step counts as done."""


def pad(step: int) -> str:
    """The state after a step: as long as every other one, and different from it."""
    return f"{step:04d}" + "x" * (SIZE - 4)


def contend(go: Callable[[str, int], Coroutine[Any, Any, float]], how: Callable[[str], str]) -> None:
    """Run a contender as a program: `URL RUNS`; prints one line of JSON. `go` answers the seconds that its runs took."""
    import asyncio

    url, runs = sys.argv[1], int(sys.argv[2])
    seconds = asyncio.run(go(url, runs))
    print(json.dumps(asdict(Measured(seconds, runs * STEPS, how(url)))), flush=True)


async def crowded(start: Callable[[int], Coroutine[Any, Any, object]], runs: int) -> float:
    """Seconds that `runs` runs take, at most `AT_ONCE` of them at a time."""
    import asyncio

    numbers = iter(range(runs))

    async def lane() -> None:
        for number in numbers:
            await start(number)

    begun = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return time.perf_counter() - begun
