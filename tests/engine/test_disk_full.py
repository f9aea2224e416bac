"""A disk that is full at any write of a run: whoever waits is told, nothing is half-written, and with space it goes on."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from statecraft import Append, Ask, Data, Event, Failure, Machine, Run, Runtime, Settings, tool
from statecraft.errors import RunClosed, StoreFull
from statecraft.records import RunRecord, Status
from statecraft.store import open_store
from statecraft.store.sql import SqlStore
from statecraft.store.sqlite import Link
from tests.engine.dying import HANGS, FirstIsFixed, Row

R = TypeVar("R")
PLENTY = 1_000_000
SETTINGS = Settings(poll=timedelta(milliseconds=10))


class Page(Data):
    text: str = ""
    parts: Append[list[str]] = []


class Collected(Event):
    parts: list[str]


class Refined(Event):
    text: str


class Approved(Event): ...


class Closed(Event):
    text: str


made: Counter[int] = Counter()
"""How often each number was fetched."""


@tool(effect="read")
async def fetch(n: int) -> str:
    """A text whose length is anything from a few bytes to several pages."""
    made[n] += 1
    return str(n) * (1 if n % 2 else 3_000)


def is_long(refined: Refined, page: Page) -> bool:
    return len(refined.text) > 4_000


def paper() -> Machine[Page]:
    machine = Machine("paper", data=Page, max_steps=10)

    @machine.state(start=True, tools=[fetch])
    async def collecting(run: Run[Page]) -> Collected:
        return Collected(parts=await run.map(lambda n: run.tool(fetch, n), range(10, 16)))

    @machine.state(max_visits=3, tools=[fetch])
    async def refining(run: Run[Page]) -> Refined:
        try:
            more = await run.tool(fetch, 20 + run.visit)
        except Exception:
            more = "made up, since the fetching failed"  # What a store does to a call is not the handler's to decide.
        return Refined(text=more * run.visit)

    @machine.review(timeout=timedelta(days=2))
    async def question(run: Run[Page]) -> Ask[Approved]:
        return Ask("Print it?", show={"text": run.data.text})

    @machine.state(tools=[fetch])
    async def closing_up(run: Run[Page]) -> Closed:
        first, second = await run.gather(run.tool(fetch, 30), run.tool(fetch, 31))
        return Closed(text=first + second)

    printed, failed = machine.final("printed", ok=True), machine.final("failed")
    machine.transitions(
        collecting.on(Collected) >> refining,
        refining.on(Refined.when(is_long)) >> question,
        refining.on(Refined) >> refining,
        question.on(Approved) >> closing_up,
        closing_up.on(Closed) >> printed,
        machine.anywhere.on(Failure) >> failed,
    )
    return machine


PAPER = paper()


@dataclass
class Printing:
    """One run of the paper over a store whose space may end."""

    path: Path
    begun: Callable[[Link], None]
    """Called when the machine is known and the run is about to start."""
    freed: Callable[[Link], None]
    """Makes space again."""
    told: list[str] = field(default_factory=list)
    """Which of the actions were answered with `StoreFull`."""

    def __call__(self) -> RunRecord:
        made.clear()
        return asyncio.run(self._print())

    async def _print(self) -> RunRecord:
        url = f"sqlite:///{self.path}"
        store = open_store(url)
        assert isinstance(store, SqlStore)
        await store.open()
        assert isinstance(store._link, Link)
        self.link = store._link
        self.link.gate = threading.Lock()  # The committing thread holds it around each batch, and we when we change the limit.
        async with (
            asyncio.timeout(HANGS),
            Runtime(url, machines=[PAPER], store=store, settings=SETTINGS, ids=FirstIsFixed(1)) as runtime,
        ):
            with self.link.gate:
                self.begun(self.link)
            run = await self._with_space("start", lambda: runtime.start(PAPER, Page(), key="paper"))
            run = await self._settle(runtime, run.id)
            assert run.status is Status.WAITING, run
            await self._with_space("send", lambda: self._approve(runtime, run.id))
            ended = await self._settle(runtime, run.id)
            assert await runtime.verify(run.id) == []
            assert (await runtime.replay(run.id)).agrees
            return ended

    async def _approve(self, runtime: Runtime, run_id: str) -> None:
        """As a person does who is told of an error: look again before deciding again."""
        if (await runtime.get(run_id)).status is Status.WAITING:
            await runtime.send(run_id, Approved(), by="ann")
        else:
            with suppress(RunClosed):
                await runtime.resume(run_id)

    async def _settle(self, runtime: Runtime, run_id: str) -> RunRecord:
        try:
            return await runtime.wait(run_id)
        except StoreFull as error:
            # Looked at while there is no space: with it, who looks for due runs may be faster than we are, here and below.
            assert await runtime.verify(run_id) == []
            assert not (await runtime.get(run_id)).status.closed
            self._full("wait", error)
        with suppress(RunClosed):
            await self._with_space("resume", lambda: runtime.resume(run_id))
        return await runtime.wait(run_id)

    async def _with_space(self, what: str, action: Callable[[], Awaitable[R]]) -> R:
        try:
            return await action()
        except StoreFull as error:
            self._full(what, error)
        return await action()

    def _full(self, what: str, error: StoreFull) -> None:
        assert str(self.path) in str(error)
        assert self.ask("PRAGMA integrity_check") == [("ok",)]
        assert self.ask("PRAGMA foreign_key_check") == []
        self.told.append(what)
        with self.link.gate:
            self.freed(self.link)

    def ask(self, sql: str) -> list[Row]:
        with closing(sqlite3.connect(self.path)) as raw:
            return raw.execute(sql).fetchall()

    @property
    def journal(self) -> list[Row]:
        return self.ask(
            "SELECT seq, source, event, target, actor, calls, coalesce(payload, hex(payload_hash)) FROM transitions ORDER BY 1"
        )

    @property
    def calls(self) -> list[Row]:
        return self.ask("SELECT seq, hex(digest), occurrence, ok, coalesce(result, hex(result_hash)) FROM calls ORDER BY 1, 2, 3")


def nothing(_: Link) -> None: ...


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Printing, int, int]:
    """(a run with space, pages before it, pages after it)."""
    before: list[int] = []
    printing = Printing(
        tmp_path_factory.mktemp("calm") / "runs.db", lambda _: before.append(printing.ask("PRAGMA page_count")[0][0]), nothing
    )
    assert printing().state == "printed"
    assert printing.told == []
    return printing, before[0], printing.ask("PRAGMA page_count")[0][0]


def same(calm: Printing, printing: Printing, ended: RunRecord) -> None:
    assert (ended.status, ended.state, ended.owner) == (Status.DONE, "printed", None)
    assert (printing.journal, printing.calls) == (calm.journal, calm.calls)
    assert max(made.values()) <= 1 + len(printing.told)
    assert printing.ask("PRAGMA integrity_check") == [("ok",)]
    assert printing.ask("PRAGMA foreign_key_check") == []


def fill(calm: tuple[Printing, int, int], folder: Path, step: int) -> Counter[str]:
    """Print once for every limit (or every `step`th) between no page at all and as many as the run needs."""
    expected, first, last = calm
    told: Counter[str] = Counter()
    for pages in range(first, last, step):

        def limit(link: Link, pages: int = pages) -> None:
            link.execute(f"PRAGMA max_page_count = {pages}")

        printing = Printing(folder / f"{pages}.db", limit, lambda link: link.execute(f"PRAGMA max_page_count = {PLENTY}"))
        same(expected, printing, printing())
        assert len(printing.told) == 1, pages
        told.update(printing.told)
    return told


@pytest.mark.slow
def test_a_disk_that_is_full_at_some_pages_stops_the_run_until_there_is_space(
    calm: tuple[Printing, int, int], tmp_path: Path
) -> None:
    assert fill(calm, tmp_path, 4)["wait"] > 3


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_page_stops_the_run_until_there_is_space(
    calm: tuple[Printing, int, int], tmp_path: Path
) -> None:
    assert fill(calm, tmp_path, 1)["wait"] > 10


class FullFrom:
    """Refuses every statement of the hot path from number `at` on, as a full disk does, until there is space.

    A commit of nothing is none: how often somebody looks for due runs, or gives a sign of life, depends on the time it takes.
    """

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.at, self.count, self.on, self.wrote = at, 0, False, False
        self._begin, self._run, self._commit = Link.begin, Link._run, Link.commit

        def begin(link: Link) -> None:
            self.wrote = False
            self._begin(link)

        patch.setattr(Link, "begin", begin)
        patch.setattr(Link, "_run", lambda link, statement, rows: self._ran(lambda: self._run(link, statement, rows)))
        patch.setattr(Link, "commit", lambda link: self._or_full(lambda: self._commit(link)))

    def begin(self, _: Link) -> None:
        self.on, self.count = True, 0

    def end(self, _: Link) -> None:
        self.on = False

    def _ran(self, do: Callable[[], R]) -> R:
        self.wrote = True
        return self._or_full(do)

    def _or_full(self, do: Callable[[], R]) -> R:
        if self.on and self.wrote:
            self.count += 1
            if self.count > self.at:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
        return do()


def statements(patch: pytest.MonkeyPatch, folder: Path) -> int:
    with patch.context() as patched:
        full = FullFrom(patched, PLENTY)
        Printing(folder / "count.db", full.begin, full.end)()
        return full.count


def attempt(patch: pytest.MonkeyPatch, calm: Printing, folder: Path, numbers: Sequence[int]) -> Counter[str]:
    told: Counter[str] = Counter()
    for at in numbers:
        with patch.context() as patched:
            full = FullFrom(patched, at)
            printing = Printing(folder / f"{at}.db", full.begin, full.end)
            same(calm, printing, printing())
            told.update(printing.told)
    return told


@pytest.mark.slow
def test_a_disk_that_is_full_at_some_statements_leaves_nothing_half_written(
    calm: tuple[Printing, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = attempt(monkeypatch, calm[0], tmp_path, range(0, statements(monkeypatch, tmp_path), 4))
    assert set(told) == {"start", "wait", "send"}


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_statement_leaves_nothing_half_written(
    calm: tuple[Printing, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = statements(monkeypatch, tmp_path)
    told = attempt(monkeypatch, calm[0], tmp_path, range(count))
    assert told.total() >= count - 4  # Parallel calls share statements as they happen to meet.
