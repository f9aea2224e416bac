"""Group commit as our own store does it; what every store promises is in the exported suite."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from statecraft.errors import StoreFull, StoreUnavailable
from statecraft.records import RunFilter
from statecraft.store import sqlite
from statecraft.store.port import Write
from statecraft.store.sql import SqlStore
from tests.store.rig import PAPER, Story, ask, begun, opened, path_of, within


class Points:
    """A probe that counts commits, and may hold the committer before one of them or fail there."""

    def __init__(self) -> None:
        self.commits = 0
        self.at: dict[str, Callable[[], None]] = {}

    def __call__(self, point: str) -> None:
        self.at.get(point, lambda: None)()
        self.commits += point == "after"


def test_what_arrives_during_a_commit_makes_up_the_next_one(each_url: str) -> None:
    points = Points()

    async def story(store: SqlStore) -> None:
        runs = [await begun(store) for _ in range(50)]
        entered, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold() -> None:
            del points.at["before"]
            loop.call_soon_threadsafe(entered.set)
            go_on.wait()

        points.at["before"] = hold
        before = points.commits
        first = asyncio.ensure_future(store.submit(runs[0].move("more")))
        await entered.wait()
        rest: list[asyncio.Future[object]] = []
        for run in runs[1:]:
            rest.append(asyncio.ensure_future(store.submit(run.move("more"))))
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, *rest)
        assert points.commits == before + 2

    within(each_url, story, points)


def test_more_than_the_largest_batch_is_split(each_url: str) -> None:
    points = Points()

    async def story(store: SqlStore) -> None:
        machine = await store.register(PAPER)
        before = points.commits
        await asyncio.gather(*(store.submit(Story(machine).start()) for _ in range(450)))
        assert points.commits == before + 3
        assert len(await store.runs(RunFilter(limit=1_000))) == 450

    within(each_url, story, points)


class Crash(BaseException):
    """Stands for the end of the process."""


def test_a_full_disk_refuses_writes_whole_and_the_store_goes_on_when_there_is_space_again(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        link = store._link
        assert link is not None
        (pages,) = ask(url, "PRAGMA page_count")[0]
        link.execute(f"PRAGMA max_page_count = {pages + 10}")
        kept, refusal = 0, None
        while refusal is None and kept < 50:
            tried = replace(run)
            try:
                await store.submit(tried.move("more", payload='"' + "x" * 3_000 + '"'))
            except StoreFull as error:
                refusal = str(error)
            else:
                run, kept = tried, kept + 1
        assert refusal is not None
        assert str(path_of(url)) in refusal
        assert "\n" not in refusal
        assert (await store.run(run.run_id)).seq == kept
        large = '"' + "x" * 90_000 + '"'
        writes: list[Write] = [replace(run).move("more", payload=large), Story(run.machine).start(payload=large)]
        outcomes = await asyncio.gather(*map(store.submit, writes), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreFull] * 2
        assert await store.verify(run.run_id) == []
        assert ask(url, "PRAGMA integrity_check") == [("ok",)]
        link.execute("PRAGMA max_page_count = 1000000")
        await store.submit(run.move("more"))
        assert (await store.run(run.run_id)).seq == kept + 1
        assert await store.verify(run.run_id) == []

    within(url, story)


def test_a_database_locked_for_too_long_refuses_and_the_store_goes_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)

    async def story(store: SqlStore) -> None:
        runs = [await begun(store) for _ in range(3)]
        raw = sqlite3.connect(path_of(url), isolation_level=None)
        raw.execute("BEGIN IMMEDIATE")
        moves = [run.move("more") for run in runs]
        outcomes = await asyncio.gather(*map(store.submit, moves), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
        assert "locked by another process" in str(outcomes[0])
        raw.execute("ROLLBACK")
        raw.close()
        assert await asyncio.gather(*map(store.submit, moves)) == [None] * 3

    within(url, story)


def test_two_stores_in_memory_share_nothing() -> None:
    async def both() -> None:
        async with opened("sqlite://") as one, opened("sqlite://") as two:
            await begun(one)
            assert len(await one.runs(RunFilter())) == 1
            assert await two.runs(RunFilter()) == []

    asyncio.run(both())
