"""Fixtures for every room."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from statecraft.testing.postgres import PostgresServer
from tests.servers import OnServer, make_tables

# Installed, the plugin is there by itself, and pytest refuses one that comes under two names.
pytest_plugins = ["pytester", *(["statecraft.testing.plugin"] if not entry_points(group="pytest11", name="statecraft") else [])]


def pytest_configure() -> None:
    """A shell starts what it puts in the background deaf to Ctrl-C; what is tested about Ctrl-C is that it is heard."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a server of PostgreSQL starts other programs, and is slow."""
    for item in items:
        if "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture(scope="session")
def _fleet_database(postgres_server: PostgresServer) -> Iterator[str]:
    database = postgres_server.template_url("statecraft", make_tables)
    yield database
    postgres_server.drop_database(database)


@pytest.fixture
def fleet_url(postgres_server: PostgresServer, _fleet_database: str) -> str:
    """The URL of a PostgreSQL database with our tables and no rows. Quicker than making them: each test wipes the same one."""
    postgres_server.wipe(_fleet_database, keep=["schema_version"])
    return _fleet_database


@pytest.fixture
def on_server(postgres_server: PostgresServer) -> Iterator[OnServer]:
    """PostgreSQL databases for worlds that a test makes and forgets."""
    with closing(OnServer(postgres_server)) as databases:
        yield databases
