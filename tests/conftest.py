"""Fixtures for every room."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of an empty database file that vanishes with the test."""
    return f"sqlite:///{tmp_path / 'runs.db'}"
