"""Servers, poolers and processes that are not as expected."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from statecraft.errors import StoreUnavailable
from statecraft.store.postgres import arrays
from statecraft.store.postgres.link import Link
from statecraft.store.sql import SqlStore
from statecraft.testing.postgres import PostgresServer
from tests.store.rig import LONG, begun, opened, within
from tests.store.test_postgres_failures import Broken, lost_question, opened_with


def test_a_commit_that_never_arrived_is_found_behind_a_pooler_too(fleet_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the server's process that a pooler tells is one of its own."""

    async def story(store: SqlStore, link: Link, _: list[float]) -> None:
        run = await begun(store)
        cut = link.sql
        Broken(link, "COMMIT", lost_question)
        drop = link._drop
        link._drop = lambda: setattr(link, "_sql", None)  # type: ignore[method-assign]
        monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: 1))
        with pytest.raises(StoreUnavailable, match="nothing of it was kept"):
            await store.submit(run.move("more"))
        link._drop = drop  # type: ignore[method-assign]
        cut.invalidate()
        cut.close()

    asyncio.run(opened_with(fleet_url, story))


@pytest.fixture
def many_files() -> Iterator[None]:
    """Every file opened now gets a number above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_400
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("this user may not open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with ExitStack() as files:
        number = 0
        while number < 1_024:
            number = os.open(os.devnull, os.O_RDONLY)
            files.callback(os.close, number)
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_program_with_many_open_files_still_hears_that_something_is_due(fleet_url: str, many_files: None) -> None:
    async def story(store: SqlStore) -> None:
        woken = asyncio.Event()
        store.listen(woken.set)
        await asyncio.wait_for(woken.wait(), 10)
        while woken.is_set():
            woken.clear()
            await asyncio.sleep(0)
        with psycopg.connect(fleet_url, autocommit=True) as raw:
            raw.execute("SELECT pg_notify('statecraft.public', '')")
        await asyncio.wait_for(woken.wait(), 10)

    within(fleet_url, story)


def test_a_batch_that_is_too_large_for_one_statement_is_sent_in_parts(fleet_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGEST", 3 * len(LONG))

    async def story(store: SqlStore) -> None:
        runs = [await begun(store) for _ in range(10)]
        texts = [f'{{"{number}":{LONG}}}' for number in range(len(runs))]
        await asyncio.gather(*(store.submit(run.call('"q"', text)) for run, text in zip(runs, texts, strict=True)))
        moves = [run.move("more", payload=text) for run, text in zip(runs, texts, strict=True)]
        assert await asyncio.gather(*map(store.submit, moves)) == [None] * len(runs)
        assert [await store.verify(run.run_id) for run in runs] == [[]] * len(runs)
        assert [(await store.calls(run.run_id))[0].result for run in runs] == [json.loads(text) for text in texts]

    within(fleet_url, story)


def test_a_database_that_lacks_characters_is_refused_when_it_is_opened(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url(), autocommit=True) as raw:
        raw.execute("CREATE DATABASE statecraft_test_latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")

    async def go() -> Any:
        async with opened(postgres_server.url("statecraft_test_latin")):
            pass

    try:
        with pytest.raises(StoreUnavailable, match=r"keeps texts as LATIN1.*createdb -E UTF8"):
            asyncio.run(go())
    finally:
        postgres_server.drop_database("statecraft_test_latin")
