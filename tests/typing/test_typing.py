"""The declaration is typed: both checkers refuse twenty kinds of mistake on the very line, without any plugin."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARK = "# mistake"
Errors = set[tuple[str, int]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The two files away from the project's settings for the checkers."""
    for name in ("good.py", "bad.py"):
        shutil.copy(HERE / name, tmp_path / name)
    return tmp_path


def marked() -> Errors:
    lines = (HERE / "bad.py").read_text().splitlines()
    return {("bad.py", number) for number, line in enumerate(lines, start=1) if f"{MARK}:" in line}


def checked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments, "good.py", "bad.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_there_are_twenty_mistakes() -> None:
    assert len(marked()) == 20


@pytest.mark.slow
def test_mypy_refuses_each_mistake_and_nothing_else(folder: Path) -> None:
    done = checked(folder, "mypy", "--strict", "--config-file=", "--no-error-summary")
    found = {(match[1], int(match[2])) for match in re.finditer(r"^(\w+\.py):(\d+): error:", done.stdout, re.MULTILINE)}
    assert found == marked(), done.stdout + done.stderr


@pytest.mark.slow
def test_pyright_refuses_each_mistake_and_nothing_else(folder: Path) -> None:
    done = checked(folder, "pyright", "--outputjson", "--pythonpath", sys.executable)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.skip(f"pyright cannot start on this machine: {(done.stderr or done.stdout).strip()[-300:]}")
    errors = [item for item in report["generalDiagnostics"] if item["severity"] == "error"]
    found = {(Path(item["file"]).name, item["range"]["start"]["line"] + 1) for item in errors}
    assert found == marked(), done.stdout
