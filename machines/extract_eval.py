"""How well documents are read: each of `documents/`, with the records that a person took out of it.

    statecraft eval extract --model offline

The offline model does not pass all of them. What counts is the last grader: a wrong value never passes unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from statecraft.evals import Ends, Grade, Holds, Suite, Trial, Within
from statecraft.llm import LLM

from .extract_document import Paper, document  # noqa: TID252
from .extract_offline import OfflineExtraction  # noqa: TID252
from .extract_rows import NAMES, Row  # noqa: TID252

CASES = Path(__file__).with_name("extract_cases.jsonl")


def records(trial: Trial) -> Grade:
    """The values of all invoices, and how many lines each has. The score is the share of values that are right."""
    wrong = list(_wrong(trial))
    values = max(1, len(trial.case.expect["records"]) * (len(NAMES) + 1))
    said = "; ".join(f"{place} is {found!r}, not {wanted!r}" for _, place, found, wanted in wrong[:3])
    return Grade("records", not wrong, said, max(0.0, 1 - len(wrong) / values))


def nothing_wrong_unseen(trial: Trial) -> bool:
    """Every wrong value is in a row that a person will see."""
    return all(row is None or row.doubtful for row, *_ in _wrong(trial))


def _wrong(trial: Trial) -> Iterator[tuple[Row | None, str, object, object]]:
    """The values that are not as expected; the row is None where one is missing."""
    data = trial.data
    assert isinstance(data, Paper)
    rows: list[Row | None] = [*data.rows]
    wanted = trial.case.expect["records"]
    for place in range(max(len(rows), len(wanted))):
        row = rows[place] if place < len(rows) else None
        expected = wanted[place] if place < len(wanted) else {}
        for name in NAMES:
            found = row.invoice.field(name).value if row else None
            if found != expected.get(name):
                yield row, f"{place + 1}.{name}", found, expected.get(name)
        lines = len(row.invoice.lines) if row else None
        if lines != expected.get("lines"):
            yield row, f"{place + 1}.lines", lines, expected.get("lines")


suite = Suite(
    document,
    CASES,
    [
        Ends(),
        Holds(records, expects=("records",)),
        Holds(nothing_wrong_unseen, expects=("records",)),
        Within(tokens=60_000, steps=9),
    ],
    name="extract",
)


def offline() -> LLM:
    """What `--model offline` asks: labels and regular expressions, which need no key and answer alike each time."""
    return OfflineExtraction()
