"""The exported suite of behaviours, over every database that we support.

In the fast part: memory, and what only a file or a server can do differently. The whole suite over both is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from statecraft.store import open_store
from statecraft.store.port import Store
from statecraft.testing.conformance import FleetConformance, StoreConformance
from statecraft.testing.conformance.batches import Batches
from statecraft.testing.conformance.crashes import Crashes
from statecraft.testing.conformance.races import Races
from statecraft.testing.conformance.suite import Suite
from statecraft.testing.conformance.together import Together

Probe = Callable[[str], None]


class OfUrl(Suite):
    """Opens our store; a place is a URL."""

    def open(self, place: str, probe: Probe | None = None) -> Store:
        return open_store(place, probe=probe)


class InMemory(OfUrl):
    @pytest.fixture
    def place(self) -> str:
        return "sqlite://"


class SqliteFile(OfUrl):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'runs.db'}"


class Postgres(OfUrl):
    @pytest.fixture
    def place(self, fleet_url: str) -> str:
        return fleet_url


class TestInMemory(InMemory, StoreConformance):
    pass


class TestFilesTogether(SqliteFile, Together, Races):
    pass


class TestFilesAfterCrashes(SqliteFile, Crashes):
    pass


class TestPostgresBatches(Postgres, Batches):
    pass


@pytest.mark.slow
class TestSqliteFile(SqliteFile, StoreConformance):
    pass


@pytest.mark.slow
class TestPostgres(Postgres, FleetConformance):
    pass
