from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("anthropic", "httpx2", "sqlalchemy")


@pytest.mark.slow
@pytest.mark.parametrize("room", ["statecraft.llm", "statecraft.tools", "statecraft.llm.claude"])
def test_importing_the_room_does_not_load_heavy_packages(room: str) -> None:
    program = f"import sys, {room}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.slow
def test_building_and_labelling_claude_does_not_load_the_sdk() -> None:
    program = "import sys; from statecraft.llm import Claude; Claude('m').label; print('anthropic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]
