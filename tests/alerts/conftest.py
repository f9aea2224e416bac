"""The databases that the outbox is tested on."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of each sort."""
    return str(request.getfixturevalue("url" if request.param == "sqlite" else "postgres_url"))
