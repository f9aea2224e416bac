"""The table of what can go wrong is the one that the scenarios are tested against."""

from __future__ import annotations

import re
from pathlib import Path

from statecraft.calls.retry import DEFAULT_ATTEMPTS
from statecraft.errors import ErrorKind
from statecraft.testing import EXPECTED

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_lists_every_scenario_with_what_really_becomes_of_it() -> None:
    listed = {name: kind.strip("`") for kind, names in rows("By scenario") for name in re.findall(r"`([^`]+)`", names)}
    assert listed == dict(EXPECTED)


def test_the_page_says_how_often_each_kind_is_tried() -> None:
    told = {kind.strip("`"): attempts for kind, _, attempts, _ in rows("By kind")}
    kinds = {kind.value for kind in ErrorKind}
    assert told.keys() <= kinds
    assert set(EXPECTED.values()) - {"answer"} <= told.keys()
    assert {kind: int(told[kind]) for kind in told} == {kind: DEFAULT_ATTEMPTS.get(ErrorKind(kind), 1) for kind in told}
