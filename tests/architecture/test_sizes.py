"""Small pieces that read top to bottom: a module, a function, and the folder of a room have bounds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "statecraft").rglob("*.py"), *(ROOT / "machines").rglob("*.py")])
MODULE_LINES = 400
FUNCTION_LINES = 45
MOST_FUNCTIONS_LINES = 30


def functions(path: Path) -> list[tuple[str, int]]:
    """(where, lines without the docstring) of each function of a module."""
    found: list[tuple[str, int]] = []
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            body = item.body[1:] if ast.get_docstring(item) is not None else item.body
            start = body[0].lineno if body else item.lineno
            found.append((f"{path.relative_to(ROOT)}:{item.lineno} {item.name}", (item.end_lineno or start) - start + 1))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_fits_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MODULE_LINES


@pytest.mark.slow
def test_a_function_fits_on_a_screen() -> None:
    assert not [(where, lines) for path in MODULES for where, lines in functions(path) if lines > FUNCTION_LINES]


@pytest.mark.slow
def test_nine_functions_in_ten_are_short() -> None:
    lengths = sorted(lines for path in MODULES for _, lines in functions(path))
    assert lengths[len(lengths) * 9 // 10] <= MOST_FUNCTIONS_LINES
