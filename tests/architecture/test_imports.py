"""Rules about imports that the layer contracts cannot say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOWN = sorted([*(ROOT / "machines").rglob("*.py"), *(ROOT / "examples").glob("*.py")])
PUBLIC = {
    "statecraft",
    "statecraft.alerts",
    "statecraft.diagram",
    "statecraft.evals",
    "statecraft.llm",
    "statecraft.testing",
    "statecraft.tools",
}

CLOCKS = {("asyncio", "sleep"), ("datetime", "now")}


def imported(path: Path) -> Iterator[str]:
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module:
            yield item.module


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_people_copy_uses_only_the_public_face(path: Path) -> None:
    inside = {name for name in imported(path) if name.split(".")[0] == "statecraft"}
    assert inside <= PUBLIC


@pytest.mark.slow
def test_only_the_clock_reads_the_time_or_sleeps() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "statecraft").rglob("*.py"))
        if path.name != "clock.py"
        for item in ast.walk(ast.parse(path.read_text()))
        if (isinstance(item, ast.Import) and any(alias.name == "time" for alias in item.names))
        or (isinstance(item, ast.Attribute) and item.attr in {"utcnow", "today"})
        or (isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name) and (item.value.id, item.attr) in CLOCKS)
    ]
    assert not found


@pytest.mark.slow
def test_only_ids_draws_random_numbers() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "statecraft").rglob("*.py"))
        if path.name != "ids.py" and {"random", "secrets", "uuid"} & set(imported(path))
    ]
    assert not found
