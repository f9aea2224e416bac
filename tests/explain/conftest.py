"""The recorded runs that the tests of explain and replay look at. They only look, so they share one recording."""

from __future__ import annotations

import asyncio

import pytest

from tests.explain.desk import Office


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """A database with a run of every sort."""
    made = Office(tmp_path_factory.mktemp("office"))
    asyncio.run(asyncio.wait_for(made.record(), 60))
    return made
