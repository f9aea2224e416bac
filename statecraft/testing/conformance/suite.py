"""How a behaviour is written and run: an async method that is given an open store on an empty database."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from statecraft.clock import stamp
from statecraft.errors import StatecraftError
from statecraft.records import RunFilter, RunRecord
from statecraft.store.port import Store, Write
from statecraft.testing.conformance.stories import Story

Probe = Callable[[str], None]
"""Called with `before` just before and `after` just after each commit. What it raises ends the store's work, like a crash."""


class Suite:
    """What every behaviour needs: a place, and stores that open there."""

    @pytest.fixture
    def place(self) -> Any:
        """Where a database may be: whatever `open` takes, empty and new for each test. Override this fixture."""
        raise NotImplementedError("override the fixture `place`: it answers what `open` takes, empty and new for each test")

    def open(self, place: Any, probe: Probe | None = None) -> Store:
        """A store on the database at this place, not opened yet, that calls `probe` around each commit. Override this."""
        raise NotImplementedError("override `open(place, probe)`: it answers your store, not opened yet")

    @asynccontextmanager
    async def opened(self, place: Any, probe: Probe | None = None) -> AsyncIterator[Store]:
        """A store on this place, open for the block."""
        store = self.open(place, probe)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def two(self, place: Any) -> AsyncIterator[tuple[Store, Store]]:
        """Two stores on this place, each of which stands for a program of its own."""
        async with self.opened(place) as one, self.opened(place) as two:
            yield one, two


def behaviour(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test that pytest runs of an async method of a `Suite`.

    A method that takes `store` is given an open one; one that takes `place` opens as many there as it likes. What else
    it takes is fixtures and parameters, as usual.
    """
    wanted = inspect.signature(test).parameters
    asked = [wanted[name] for name in wanted if name not in {"store", "place"}]
    place = inspect.Parameter("place", inspect.Parameter.KEYWORD_ONLY)

    def run(self: Suite, *, place: Any, **given: Any) -> None:
        async def go() -> None:
            if "place" in wanted:
                given["place"] = place
            if "store" not in wanted:
                await test(self, **given)
                return
            async with self.opened(place) as store:
                await test(self, store=store, **given)

        asyncio.run(go())

    run.__name__, run.__qualname__, run.__module__, run.__doc__ = test.__name__, test.__qualname__, test.__module__, test.__doc__
    first, *rest = (parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in asked)
    me = first.replace(kind=inspect.Parameter.POSITIONAL_ONLY)
    run.__signature__ = inspect.Signature([me, place, *rest])  # type: ignore[attr-defined]  # pytest reads it
    return run


async def seen(store: Store) -> list[object]:
    """All that readers are told about every run."""
    whole: list[object] = [await store.feed(0, limit=100_000), await store.reviews()]
    for run in await store.runs(RunFilter(limit=100_000)):
        run_id = bytes.fromhex(run.id)
        whole += [await store.load(run_id), await store.history(run_id), await store.diagnosis(run_id)]
        whole += [await store.calls(run_id), await store.attempts(run_id)]
    return whole


async def refused(store: Store, write: Write, error: type[StatecraftError], *words: str) -> str:
    """The write fails so, says so in one line with these words, and leaves nothing. Answers the line."""
    before = await seen(store)
    with pytest.raises(error) as told:
        await store.submit(write)
    said = str(told.value)
    assert "\n" not in said
    assert [word for word in words if word not in said] == []
    assert await seen(store) == before
    return said


async def heads(store: Store, *stories: Story) -> list[RunRecord]:
    """Where the runs stand."""
    return [await store.run(story.run_id) for story in stories]


def due(run: RunRecord) -> int | None:
    """When time wakes the run, in microseconds."""
    return None if run.due_at is None else stamp(run.due_at)


async def taken(store: Store, write: Write) -> RunRecord:
    """The run that a claim answers."""
    answer = await store.submit(write)
    assert isinstance(answer, RunRecord)
    return answer
