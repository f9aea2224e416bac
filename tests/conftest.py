"""Fixtures for every room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database file that vanishes with the test."""
    server = os.environ.get("STATECRAFT_TRY_POSTGRES")
    if not server:
        yield f"sqlite:///{tmp_path / 'runs.db'}"
        return
    import uuid

    import psycopg

    name = f"t{uuid.uuid4().hex[:10]}"
    with psycopg.connect(server, autocommit=True) as raw:
        raw.execute(f"CREATE SCHEMA {name}")
        yield f"{server}&options=-csearch_path%3D{name}"
        raw.execute(f"DROP SCHEMA {name} CASCADE")
