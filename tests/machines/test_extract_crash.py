"""The extraction agent, killed just before and just after each commit: whatever died, each document is in the table once."""

from __future__ import annotations

from pathlib import Path

import pytest

from machines.extract import Approved, Batch, extract
from machines.extract_offline import OfflineExtraction
from statecraft.testing import crash_everywhere
from tests.engine.dying import DEPTH
from tests.machines.extract_cases import DOLLAR, NONE, folder_of, table


@pytest.mark.slow
def test_a_run_that_dies_anywhere_writes_each_document_once(tmp_path: Path) -> None:
    batch = Batch(folder=str(folder_of(tmp_path, f"{DOLLAR} {NONE}")), database=str(tmp_path / "out.db"))
    seen: list[list[object]] = []

    def rows() -> dict[str, int]:
        if not (tmp_path / "out.db").exists():
            return {}
        names = ("invoices", "invoices_lines", "invoices_documents")
        seen.append([*table(tmp_path)])
        return {name: int(table(tmp_path, f"SELECT count(*) FROM {name}")[0][0]) for name in names}

    report = crash_everywhere(
        extract,
        batch,
        OfflineExtraction(),
        decisions={"human_review": Approved()},
        effects=rows,
        before_each=lambda: (tmp_path / "out.db").unlink(missing_ok=True),
        most=25 if DEPTH == 1 else None,
    )
    assert report.points > 40
    assert report.deaths > len(report.tried) / 2  # two children may commit together: then there are fewer points
    assert (report.state, report.repeated.get("once", 0)) == ("complete", 0)
    assert seen
    assert all(found == [(DOLLAR, 1)] for found in seen)
