"""Two hosts, one database: what happens while one of them is cut off, and when it comes back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from statecraft import Runtime, Settings
from statecraft.testing.postgres import PostgresServer
from tests.fleet.cargo import Cargo, cargo
from tests.fleet.networks import SERVER, Networks, Refused
from tests.fleet.soak import LEASE, Judge, Outcome

RUNS = 160


@contextmanager
def host(networks: Networks, name: str, url: str, notes: Path) -> Iterator[None]:
    """A worker in a namespace of its own."""
    program = f"from tests.fleet.soak import work; work({url!r}, {str(notes)!r}, {name!r})"
    process = subprocess.Popen(networks.command(name, sys.executable, "-c", program), env={**os.environ, "PYTHONPATH": "."})
    try:
        yield
    finally:
        process.kill()
        process.wait()


def effects(notes: Path, where: str) -> list[float]:
    """When a host began its effects."""
    lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    return [float(line[1]) for line in lines if line[0] == where and line[2] == "effect"]


def until(what: str, is_so: Callable[[], bool], seconds: float = 60) -> None:
    gave_up = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < gave_up, f"waited {seconds} s in vain: {what}"
        time.sleep(0.05)  # Real processes on real networks take real time.


def ended(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as sql:
        row = sql.execute("SELECT count(finished_at) FROM runs").fetchone()
    assert row is not None
    return int(row[0])


async def start(url: str) -> None:
    async with Runtime(url, machines=[cargo], settings=Settings(take="none")) as rt:
        await asyncio.gather(*(rt.start(cargo, Cargo(seconds=0.2)) for _ in range(RUNS)))


@pytest.mark.slow
def test_a_host_that_is_cut_off_starts_nothing_more_its_runs_are_finished_elsewhere_and_it_works_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    notes = tmp_path / "notes"
    with ExitStack() as stack:
        try:
            networks = stack.enter_context(Networks("a", "b"))
        except Refused as refused:
            pytest.skip(f"no network namespaces here: {refused}")
        server = stack.enter_context(PostgresServer(listen=SERVER))
        url = server.create_database()
        asyncio.run(start(url))
        for name in "ab":
            stack.enter_context(host(networks, name, url, notes))
        until("both hosts work", lambda: all(len(effects(notes, name)) > 10 for name in "ab"))

        networks.cut("a")
        cut, before = time.monotonic(), ended(url)
        until("the lease of the lost host passes", lambda: time.monotonic() > cut + 3 * LEASE.total_seconds())
        until("the other host goes on alone", lambda: ended(url) > before + 8)
        mended = time.monotonic()
        networks.mend("a")

        until("the lost host works again", lambda: any(at > mended for at in effects(notes, "a")))
        until("everything ends", lambda: ended(url) == RUNS, 120)
        outcome = Outcome()
        asyncio.run(Judge(url, notes, outcome).judge())
    print(outcome)
    assert outcome.wrong == []
    assert outcome.recovered > 0
    assert outcome.ended == Counter({"done": RUNS})
    late = [at - cut for at in effects(notes, "a") if cut + LEASE.total_seconds() < at < mended]
    assert late == [], "a host that cannot renew its leases starts nothing after they have ended"
