"""Every test of the command line works in an empty folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import MACHINE


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the machine's file, and none of the caller's settings."""
    for name in ("STATECRAFT_URL", "STATECRAFT_MACHINES", "STATECRAFT_ACTOR", "STATECRAFT_MODEL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "post.py").write_text(MACHINE)
    return tmp_path
