"""The exported suite of behaviours, over every database that we support."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from statecraft.store import open_store
from statecraft.store.port import Store
from statecraft.testing.conformance import FleetConformance, StoreConformance

Probe = Callable[[str], None]


class TestInMemory(StoreConformance):
    @pytest.fixture
    def place(self) -> str:
        return "sqlite://"

    def open(self, place: str, probe: Probe | None = None) -> Store:
        return open_store(place, probe=probe)


class TestSqliteFile(FleetConformance):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'runs.db'}"

    def open(self, place: str, probe: Probe | None = None) -> Store:
        return open_store(place, probe=probe)


class TestPostgres(FleetConformance):
    pytestmark = pytest.mark.slow

    @pytest.fixture
    def place(self, fleet_url: str) -> str:
        return fleet_url

    def open(self, place: str, probe: Probe | None = None) -> Store:
        return open_store(place, probe=probe)
