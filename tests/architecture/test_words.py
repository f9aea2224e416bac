"""One word per concept: names that mean everything, or something else here, are not used in public."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = {"manager", "helper", "helpers", "util", "utils", "common", "base", "node", "job", "workflow", "thread", "process"}
MEANT_OTHERWISE = {"MessageNode", "this_process", "pytest_configure_node"}
"""A node of the tree of messages that a transcript is; the process of the operating system; a hook of pytest-xdist."""


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def public_names(path: Path) -> Iterator[str]:
    """The module's own name, and those of its public definitions and of their public members."""
    yield path.stem
    for top in ast.parse(path.read_text()).body:
        if isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not top.name.startswith("_"):
            yield top.name
            for member in top.body if isinstance(top, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield member.name
                elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    yield member.target.id
        elif isinstance(top, ast.Assign):
            yield from (target.id for target in top.targets if isinstance(target, ast.Name))


@pytest.mark.slow
def test_public_names_use_no_empty_or_borrowed_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "statecraft").rglob("*.py"))
        for name in public_names(path)
        if not name.startswith("_") and name not in MEANT_OTHERWISE and words(name) & BANNED
    ]
    assert not found


def test_folders_use_no_empty_or_borrowed_words() -> None:
    assert not [path.name for path in (ROOT / "statecraft").rglob("*") if path.is_dir() and words(path.name) & BANNED]
