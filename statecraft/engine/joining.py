"""`run.map`: all results, each as it came, or the first ones; the choice of the first ones is recorded."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from statecraft.calls import lane
from statecraft.calls.call import Call, Failure, Next, Reply, canonical
from statecraft.calls.classify import said
from statecraft.calls.visit import Visit
from statecraft.engine.children import Family
from statecraft.engine.fanout import Tasks, error_of, raise_parks, results, spread
from statecraft.errors import ErrorKind, StoreError
from statecraft.machine.joins import AnyOf, Collect, First, Join

Each = Callable[[Any], Awaitable[Any]]


async def mapped(fn: Each, items: Sequence[Any], concurrency: int) -> list[Any]:
    """All results in the order of the items. Raises the earliest park, or the first error in that order."""
    return results(await spread(lambda place: fn(items[place]), len(items), concurrency))


async def collected(fn: Each, items: Sequence[Any], concurrency: int) -> list[Any]:
    """Results and errors, each in its place. Raises the earliest park."""
    tasks = await spread(lambda place: fn(items[place]), len(items), concurrency)
    raise_parks(tasks)
    return [error if isinstance(error := error_of(task), Exception) else task.result() for task in tasks]


@dataclass(frozen=True, slots=True)
class Joining:
    """The joins of one visit."""

    visit: Visit
    stack: Next
    family: Family | None
    """None if the state declares no machine to run as a child."""

    async def map(self, fn: Each, items: Sequence[Any], concurrency: int, join: Join) -> Any:
        """What `Run.map` promises."""
        if isinstance(join, Collect):
            return await collected(fn, items, concurrency)
        if isinstance(join, First):
            return await self._first(fn, items, concurrency, join.n)
        if isinstance(join, AnyOf):
            return (await self._first(fn, items, concurrency, 1))[0]
        return await mapped(fn, items, concurrency)

    async def _first(self, fn: Each, items: Sequence[Any], concurrency: int, n: int) -> list[Any]:
        """The first `n` results, in the order of the items. Once the choice is recorded, only the chosen items run.

        Until then nobody has seen it, so after a crash it may well be made anew. If too few succeed, nothing is
        recorded: all items have ended then, and end the same way in every execution.
        """
        if n > len(items):
            raise ValueError(f"first({n}) cannot come true with {len(items)} items")
        call = self._call(n, len(items))
        lanes = [lane.below(lane.current(), call.digest, call.occurrence, place) for place in range(len(items))]

        async def one(place: int) -> Any:
            with lane.within(lanes[place]):
                return await fn(items[place])

        if self.visit.recall(call) is None:
            tasks = await spread(one, len(items), concurrency, lambda tasks: len(_won(tasks)) >= n)
            chosen = _won(tasks)[:n]
            if len(chosen) < n:
                results(tasks)  # Raises: too few of them went well.
            left = [where for place, where in enumerate(lanes) if place not in chosen]
            await self.stack(replace(call, perform=lambda _: self._choose(chosen, left)))
            return [tasks[place].result() for place in chosen]
        chosen = json.loads((await self.stack(call)).result)["chosen"]
        return results(await spread(lambda nth: one(chosen[nth]), len(chosen), concurrency))

    def _call(self, n: int, count: int) -> Call:
        """The call that records the choice."""
        request = canonical({"first": n, "items": count})
        digest, occurrence, key = self.visit.identify("join", request)
        return Call(self.visit, "join", f"first {n}", request, digest, occurrence, key, _nothing, _failure)

    async def _choose(self, chosen: list[int], left: list[str]) -> Reply:
        """Leave the other lanes: what they wait for counts no more, and their child runs end before the choice is
        recorded, so that a crash in between forgets none of them."""
        calls = self.visit.drop(left)
        try:
            if self.family is not None:
                await self.family.leave(left)
        except StoreError as error:
            self.visit.end(error)
            raise
        return Reply(canonical({"chosen": chosen, "left": [[digest.hex(), nth] for digest, nth in calls]}))


def _won(tasks: Tasks) -> list[int]:
    """Places of the tasks that have succeeded."""
    return [place for place, task in enumerate(tasks) if task.done() and error_of(task) is None]


async def _nothing(_call: Call) -> Reply:
    raise AssertionError("a recorded choice is not made again")


def _failure(error: Exception) -> Failure:
    return Failure(ErrorKind.PERMANENT, f"{type(error).__name__}: {said(error)}")
