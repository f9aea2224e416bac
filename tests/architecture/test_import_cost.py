"""`import statecraft`, and declaring a machine, cost little: what is heavy loads when it is first used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CPU_SECONDS = 0.35
MEGABYTES = 45.0
SLACK = 1.5
"""Machines differ, and this one may be busy; a heavy package that slips in costs far more than this."""
HEAVY = ["anthropic", "httpx2", "sqlalchemy", "graphviz", "pygraphviz", "structlog", "click", "psycopg", "genai_prices"]

PROBE = """
import json, resource, sys
unit = 1 if sys.platform == "darwin" else 1024
def peak():
    # Where there is one: the peak that getrusage tells survives exec, so a large parent would count as ours.
    try:
        line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
def spent():
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime, peak()
before = spent()
import statecraft
statecraft.Machine, statecraft.Data, statecraft.Event, statecraft.Run
after = spent()
print(json.dumps({"cpu": after[0] - before[0], "rss": after[1], "modules": sorted(sys.modules)}))
"""


def probe() -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
def test_importing_statecraft_loads_no_heavy_package() -> None:
    modules = probe()["modules"]
    assert isinstance(modules, list)
    assert not set(HEAVY) & set(modules)


@pytest.mark.slow
def test_importing_statecraft_is_quick_and_small() -> None:
    """The best of three tries, so that a busy machine is not mistaken for a slow import."""
    tries = [probe() for _ in range(3)]
    assert min(float(str(one["cpu"])) for one in tries) <= CPU_SECONDS * SLACK
    assert min(float(str(one["rss"])) for one in tries) <= MEGABYTES * SLACK
