"""Group commit: many writes share one transaction, and a bad one among them fails alone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from statecraft.errors import Fenced, StoreFull, StoreUnavailable, WriteRefused
from statecraft.records import RunFilter
from statecraft.store import sqlite
from statecraft.store.port import Move, Write
from statecraft.store.sql import SqlStore
from tests.store.rig import PAPER, Story, ask, begun, opened, path_of, ready, within


class Points:
    """A probe that counts commits, and may hold the committer before one of them or fail there."""

    def __init__(self) -> None:
        self.commits = 0
        self.at: dict[str, Callable[[], None]] = {}

    def __call__(self, point: str) -> None:
        self.at.get(point, lambda: None)()
        self.commits += point == "after"


def test_writes_submitted_together_share_one_commit(url: str) -> None:
    points = Points()

    async def story(store: SqlStore) -> None:
        runs = [Story(await store.register(PAPER)) for _ in range(150)]
        before = points.commits
        await asyncio.gather(*(store.submit(run.start()) for run in runs))
        assert points.commits == before + 1
        await asyncio.gather(*(store.submit(run.move("more")) for run in runs))
        assert points.commits == before + 2

    within(url, story, points)


def test_a_lone_write_is_not_held_back_for_company(url: str) -> None:
    points = Points()

    async def story(store: SqlStore) -> None:
        run = await begun(store)
        before = points.commits
        for _ in range(5):
            await store.submit(run.move("more"))
        assert points.commits == before + 5

    within(url, story, points)


def test_what_arrives_during_a_commit_makes_up_the_next_one(url: str) -> None:
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

    within(url, story, points)


def test_more_than_the_largest_batch_is_split(url: str) -> None:
    points = Points()

    async def story(store: SqlStore) -> None:
        machine = await store.register(PAPER)
        before = points.commits
        await asyncio.gather(*(store.submit(Story(machine).start()) for _ in range(450)))
        assert points.commits == before + 3
        assert len(await store.runs(RunFilter(limit=1_000))) == 450

    within(url, story, points)


def test_a_refused_write_fails_alone_and_its_neighbours_land_in_the_same_commit(url: str) -> None:
    points = Points()

    async def story(store: SqlStore) -> None:
        runs = [await begun(store) for _ in range(9)]
        moves = [run.move("more") for run in runs]
        link = moves[2].transition
        moves[2] = Move(replace(link, epoch=9))
        moves[4] = Move(replace(moves[4].transition, target="done"))
        moves[6] = Move(replace(moves[6].transition, payload="\ud800"))
        before = points.commits
        outcomes = await asyncio.gather(*map(store.submit, moves), return_exceptions=True)
        assert points.commits == before + 1
        kinds = [type(outcome) for outcome in outcomes]
        none = type(None)
        assert kinds == [none, none, Fenced, none, WriteRefused, none, WriteRefused, none, none]
        assert [(await store.run(run.run_id)).seq for run in runs] == [1, 1, 0, 1, 0, 1, 0, 1, 1]
        assert ask(url, "SELECT count(*) FROM feed WHERE kind = 'transition'") == [(6,)]
        assert [problem for run in runs for problem in await store.verify(run.run_id)] == []

    within(url, story, points)


def test_writes_of_one_run_keep_their_order_within_a_batch(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        writes: list[Write] = [
            run.call('"a"'),
            run.call('"b"'),
            run.move("more"),
            run.call('"c"'),
            run.move("more"),
            run.sleep_until(9),
        ]
        late = replace(run).call('"late"')
        outcomes = await asyncio.gather(*map(store.submit, [*writes, late]), return_exceptions=True)
        assert outcomes[:-1] == [None] * 6
        assert isinstance(outcomes[-1], Fenced)
        assert await store.verify(run.run_id) == []
        assert [(call.seq, call.idx) for call in await store.calls(run.run_id)] == [(0, 0), (0, 1), (1, 0)]

    within(url, story)


def test_a_call_submitted_after_the_move_that_ends_its_visit_is_refused(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        straggler = replace(run, calls=[]).call('"q"')
        outcomes = await asyncio.gather(store.submit(run.move("more")), store.submit(straggler), return_exceptions=True)
        assert outcomes[0] is None
        assert isinstance(outcomes[1], Fenced)
        assert await store.verify(run.run_id) == []

    within(url, story)


def test_a_write_whose_writer_stopped_waiting_still_lands(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        waiting = asyncio.ensure_future(store.submit(run.move("more")))
        await asyncio.sleep(0)
        waiting.cancel()
        await store.submit(run.move("more"))
        assert (await store.run(run.run_id)).seq == 2

    within(url, story)


def test_closing_commits_what_was_submitted(url: str) -> None:
    async def story() -> bytes:
        async with opened(url) as store:
            run = await begun(store)
            waiting = asyncio.ensure_future(store.submit(run.move("more")))
            await asyncio.sleep(0)
        await waiting
        return run.run_id

    run_id = asyncio.run(story())
    assert ask(url, "SELECT run_id, seq FROM runs") == [(run_id, 1)]


def test_a_closed_store_takes_no_writes_and_answers_no_questions(url: str) -> None:
    async def story() -> None:
        async with opened(url) as store:
            run = await begun(store)
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.submit(run.move("more"))
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.run(run.run_id)
        await store.close()

    asyncio.run(story())


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(("point", "durable"), [("before", 0), ("after", 1)])
def test_a_crash_at_a_commit_fails_the_writers_and_everybody_after_them(url: str, point: str, durable: int) -> None:
    points = Points()

    def crash() -> None:
        raise Crash

    async def story(store: SqlStore) -> None:
        run, other = await begun(store), await begun(store)
        points.at[point] = crash
        outcomes = await asyncio.gather(*(store.submit(each.move("more")) for each in (run, other)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
        points.at.clear()
        with pytest.raises(StoreUnavailable, match=r"stopped working \(Crash"):
            await store.submit(run.move("more"))
        assert (await store.run(run.run_id)).seq == durable

    within(url, story, points)
    within(url, begun)


def test_two_stores_on_one_file_contend_without_loss(url: str) -> None:
    async def work(store: SqlStore, runs: int, moves: int) -> list[Story]:
        stories = [await begun(store) for _ in range(runs)]

        async def drive(story: Story) -> None:
            for _ in range(moves):
                await store.submit(story.call(f'"{story.seq}"'))
                await store.submit(story.move("more"))

        await asyncio.gather(*map(drive, stories))
        return stories

    async def both() -> None:
        async with opened(url) as one, opened(url) as two:
            done = await asyncio.gather(work(one, 10, 10), work(two, 10, 10))
            for story in [*done[0], *done[1]]:
                assert (await one.run(story.run_id)).seq == 10
                assert await two.verify(story.run_id) == []
            positions = [entry.pos for entry in await one.feed(0, limit=1_000)]
            assert positions == sorted(set(positions))
            assert len(positions) == 20 * (1 + 10 * 2)

    asyncio.run(both())


def test_one_key_started_by_two_stores_makes_one_run(url: str) -> None:
    async def both() -> None:
        async with opened(url) as one, opened(url) as two:
            machine = await one.register(PAPER)
            starts = [store.submit(Story(machine).start(key=str(number))) for number in range(20) for store in (one, two)]
            answers = await asyncio.gather(*starts)
            assert answers[::2] == answers[1::2]
            assert len(await one.runs(RunFilter())) == 20

    asyncio.run(both())


def test_of_two_stores_that_claim_the_same_runs_each_run_has_one_owner(url: str) -> None:
    async def both() -> None:
        async with opened(url) as one, opened(url) as two:
            runs = [await begun(one, ready()) for _ in range(20)]
            claims = [store.submit(run.claim(name)) for run in runs for name, store in (("one", one), ("two", two))]
            outcomes = await asyncio.gather(*claims, return_exceptions=True)
            assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 20
            assert {(await one.run(run.run_id)).epoch for run in runs} == {1}

    asyncio.run(both())


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


def test_everything_works_in_memory_too() -> None:
    async def story(store: SqlStore) -> None:
        runs = [await begun(store) for _ in range(20)]

        async def drive(run: Story) -> None:
            for _ in range(5):
                await store.submit(run.move("more"))
                assert (await store.load(run.run_id)).run.seq == run.seq

        await asyncio.gather(*map(drive, runs))
        assert [problem for run in runs for problem in await store.verify(run.run_id)] == []

    within("sqlite://", story)


def test_two_stores_in_memory_share_nothing() -> None:
    async def both() -> None:
        async with opened("sqlite://") as one, opened("sqlite://") as two:
            await begun(one)
            assert len(await one.runs(RunFilter())) == 1
            assert await two.runs(RunFilter()) == []

    asyncio.run(both())
