"""Databases of a PostgreSQL server, for tests that want one after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg

from statecraft.store import open_store
from statecraft.testing.postgres import PostgresServer


class OnServer:
    """Databases with our tables, one for each world that a test makes, and a look into them.

    The first world, the calm one, keeps its own; those after it share one, which is wiped for each.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._urls: list[str] = []
        self._links: dict[str, psycopg.Connection[tuple[Any, ...]]] = {}

    def __call__(self, _folder: Path) -> str:
        if len(self._urls) < 2:
            self._urls.append(self._server.template_url("statecraft", make_tables))
        else:
            self._forget(self._urls[1])
            self._server.wipe(self._urls[1], keep=["schema_version"])
        return self._urls[-1]

    def ask(self, url: str, sql: str) -> list[tuple[Any, ...]]:
        """A query."""
        if url not in self._links:
            self._links[url] = psycopg.connect(url, autocommit=True)
        return self._links[url].execute(sql.encode()).fetchall()

    def close(self) -> None:
        """Drop them."""
        for url in self._urls:
            self._forget(url)
            self._server.drop_database(url)

    def _forget(self, url: str) -> None:
        if url in self._links:
            self._links.pop(url).close()


def make_tables(url: str) -> None:
    """Open the database once, which makes it ours."""

    async def go() -> None:
        store = open_store(url)
        await store.open()
        await store.close()

    asyncio.run(go())
