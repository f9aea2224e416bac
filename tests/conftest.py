"""Fixtures for every room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from statecraft.testing.postgres import PostgresServer


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of an empty database file that vanishes with the test."""
    return f"sqlite:///{tmp_path / 'runs.db'}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole session, started by the first test that asks. A test that restarts it starts one of its own."""
    with PostgresServer.for_tests() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that vanishes with the test."""
    database = postgres_server.create_database()
    yield database
    postgres_server.drop_database(database)
