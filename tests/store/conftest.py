"""A database for tests that look at its rows."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def each_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of one sort after the other."""
    found: str = request.getfixturevalue("url" if request.param == "sqlite" else "fleet_url")
    return found
