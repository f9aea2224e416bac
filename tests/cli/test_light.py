from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "anthropic",
    "httpx2",
    "sqlalchemy",
    "pydantic",
    "graphviz",
    "pygraphviz",
    "structlog",
    "transitions",
    "statecraft.runtime",
}


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["start", "--help"], ["review", "approve", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from statecraft.cli import main\n"
        "sys.argv = ['statecraft', *json.loads(sys.argv[1])]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, json.dumps(words)], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_the_package_is_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "statecraft", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("statecraft ")
