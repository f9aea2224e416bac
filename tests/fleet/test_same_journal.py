"""The same script is the same journal, on every database and by however many workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.script import SCRIPT, Stage, outside

Performance = tuple[dict[str, Any], list[str]]


def performed(stage: Stage) -> Performance:
    """What was written, and what was done outside."""
    return asyncio.run(stage.perform()), outside.effects


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    return performed(Stage("sqlite://", tmp_path_factory.mktemp("memory") / "here"))


def same(one: Performance, other: Performance) -> None:
    for table, rows in one[0].items():
        assert other[0][table] == rows, table
    assert other[1] == one[1]


@pytest.mark.slow
def test_the_script_uses_all_there_is(in_memory: Performance) -> None:
    rows, effects = in_memory
    ends = {dict(row)["run"]: (dict(row)["status"], dict(row)["state"]) for row in rows["runs"]}
    assert ends == {
        **dict.fromkeys(("plan", "plan again", "write", "nest", "rest", "try", "ship", "yes"), ("done", "done")),
        **dict.fromkeys(("refuse", "heavy", "no"), ("failed", "failed")),
        "spend": ("failed", "spent"),
        "a child": ("done", "carried"),
    }
    assert len(ends) == len(SCRIPT) + 1
    assert Counter(dict(row)["kind"] for row in rows["calls"]) == Counter(
        {"tool": 22, "llm": 4, "now": 2, "child": 1, "sleep": 1, "random": 1, "redrive": 1}
    )
    assert Counter(dict(row)["kind"] for row in rows["attempts"]) == Counter({"begun": 4, "overloaded": 2})
    assert sorted(dict(row)["decision"] for row in rows["questions"]) == ["approve", "approve", "modify"]
    assert sorted(dict(row)["decision"] for row in rows["reviews"]) == ["refused", "yes"]
    assert rows["reservations"] == []
    assert Counter(dict(row)["kind"] for row in rows["outbox"])["run.dead_lettered"] == 1
    assert [effect.rpartition(":")[0] for effect in effects] == ["fly:Oslo", "fly:Rome", "tell:ann", "tell:home-7"]


@pytest.mark.slow
def test_a_file_is_as_memory(in_memory: Performance, tmp_path: Path, url: str) -> None:
    same(in_memory, performed(Stage(url, tmp_path / "here")))


@pytest.mark.slow
@pytest.mark.parametrize("runtimes", [1, 4])
def test_a_server_is_as_memory(in_memory: Performance, tmp_path: Path, fleet_url: str, runtimes: int) -> None:
    same(in_memory, performed(Stage(fleet_url, tmp_path / "here", runtimes)))


@pytest.mark.slow
def test_four_processes_on_a_server_are_as_one_in_memory(in_memory: Performance, tmp_path: Path, fleet_url: str) -> None:
    same(in_memory, performed(Stage(fleet_url, tmp_path / "here", runtimes=0, processes=4)))
