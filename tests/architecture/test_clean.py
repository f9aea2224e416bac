"""What is published says nothing of the machine it was written on, and holds no secret."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:home|Users|root|work|private)/\w"),
    "an API key": re.compile(r"\bsk-ant-[A-Za-z0-9_-]{12,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "an access token": re.compile(r"\b(?:ghp|gho|github_pat|glpat|xox[bp])[_-][A-Za-z0-9_]{16,}"),
    "a package registry": re.compile(r"(?:--(?:extra-)?index-url|--find-links)\b|pypi\.org/simple|files\.pythonhosted\.org"),
}


def published() -> list[Path]:
    """The files git knows or would add; without git, every file that is not in a hidden or built folder."""
    try:
        asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        inside = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        listed = [str(path) for path in inside if not path.parts[0].startswith(".venv")]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_published_file_contains(what: str) -> None:
    found: list[str] = []
    for path in published():
        if path.resolve() == Path(__file__).resolve() or path.suffix in {".png", ".pdf"}:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if FORBIDDEN[what].search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found


def test_no_database_or_build_product_is_published() -> None:
    assert not [path for path in published() if path.suffix in {".db", ".db-wal", ".pyc", ".whl"} or ".venv" in path.parts]
