"""The static checks of `make check`, as tests, so that no build can pass without them."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(sysconfig.get_path("scripts"))
CHECKS = {
    "style": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "pyright": ["pyright"],
    "imports": ["lint-imports"],
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_the_source_passes(check: str) -> None:
    program, *arguments = CHECKS[check]
    done = subprocess.run([str(TOOLS / program), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_make_check_runs_the_same_checks() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert [command for command in CHECKS.values() if f"$(BIN)/{' '.join(command)}\n" not in makefile] == []
