"""Budgets that several processes spend from at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from statecraft.store.sql import SqlStore
from tests.store.rig import ask, begun, within

RESERVER = Path(__file__).with_name("reserver.py")
RESERVED = "SELECT meter, sum(amount) FROM reservations GROUP BY meter ORDER BY meter"


@pytest.mark.slow
def test_several_processes_never_overshoot_a_budget_together(each_url: str) -> None:
    """Each of four processes reserves, charges less, and reserves again, as fast as it can, until nothing fits."""

    async def story(store: SqlStore) -> list[str]:
        return [(await begun(store)).run_id.hex() for _ in range(4)]

    limit = 2_000 if each_url.startswith("sqlite") else 800  # asking how much is taken costs a connection each time there
    command = [sys.executable, str(RESERVER), each_url, str(limit)]
    working = [subprocess.Popen([*command, run_id], stdout=subprocess.PIPE, text=True) for run_id in within(each_url, story)]
    said = [process.communicate(timeout=120)[0] for process in working]
    assert [process.returncode for process in working] == [0] * 4
    worst, granted = zip(*(map(int, line.split()) for line in said), strict=True)
    assert max(worst) <= limit
    assert sum(granted) > 100
    assert ask(each_url, "SELECT used FROM meters WHERE meter = 'm'") == [(sum(granted) * 7,)]
    # Whoever was refused saw at most one reservation of each of the other three.
    assert limit - 40 < sum(granted) * 7 <= limit
    assert ask(each_url, RESERVED) == []
