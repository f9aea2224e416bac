"""A fleet under fire on a real PostgreSQL: everything ends, nothing is lost, and nothing happens twice unseen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from statecraft.testing.postgres import PostgresServer
from tests.fleet.soak import Soak


@pytest.mark.slow
def test_a_fleet_that_is_killed_stopped_and_cut_off_finishes_every_run_exactly_as_if_nothing_had_happened(tmp_path: Path) -> None:
    with PostgresServer() as server:
        outcome = asyncio.run(Soak(server, server.create_database(), tmp_path).run())
    print(outcome)
    assert outcome.wrong == []
    assert outcome.kills >= 30
    assert outcome.stops >= 20
    assert outcome.restarts >= 1
    assert outcome.fenced > 0, "a soak in which nobody writes too late proves nothing"
    assert outcome.runs >= 600
