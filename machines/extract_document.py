"""The invoices of one document: read, asked for, checked by code, and asked for again with what was wrong.

A machine of its own, so that a document that goes wrong does so alone. Its table is at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from statecraft import (
    Budget,
    BudgetWarning,
    Data,
    Event,
    Failure,
    Machine,
    Run,
    VisitsExhausted,
    eventually,
    minutes,
    never,
)

from .extract_files import read_text  # noqa: TID252
from .extract_prompts import SYSTEM, take  # noqa: TID252
from .extract_rows import NAMES, SURE, Findings, Invoice, Line, Quoted, Row, number_problems, quote_problems  # noqa: TID252

ROUNDS = 3
"""How often the model is asked about a document, at most."""


class Paper(Data):
    """One document."""

    folder: str = ""
    """Where it is; empty: with the documents that come with the machine."""
    file: str
    document: str = ""
    """SHA-256 of the file that is meant; empty: whatever is there."""
    model: str = ""
    """Who is asked; empty: the runtime's model."""
    pieces: list[str] = []
    rows: list[Row] = []
    reason: str = ""
    """Why nothing could be taken from it."""


class TextRead(Event):
    pieces: list[str]


class Unreadable(Event):
    reason: str


class Answered(Event):
    rows: list[Row]


class Sound(Event):
    pass


class Faulty(Event):
    rows: list[Row]


# --- pieces of one document: pure ----------------------------------------------------------------------------------------


def joined(found: Sequence[Findings]) -> list[Invoice]:
    """The invoices of neighbouring pieces as one list: an invoice that was cut is put together again."""
    whole: list[Invoice] = []
    for each in found:
        for place, invoice in enumerate(each.invoices):
            number = invoice.number.value
            if whole and ((number and number == whole[-1].number.value) or (place == 0 and not number)):
                whole[-1] = _merged(whole[-1], invoice)
            else:
                whole.append(invoice)
    return whole


def _merged(first: Invoice, second: Invoice) -> Invoice:
    changes: dict[str, object] = {}
    for name in NAMES:
        one, two = first.field(name), second.field(name)
        changes[name] = max((one, two), key=_strength)
    shared = next(n for n in range(min(len(first.lines), len(second.lines)), -1, -1) if _same(first.lines, second.lines, n))
    return first.model_copy(update={**changes, "lines": [*first.lines, *second.lines[shared:]]})


def _strength(field: Quoted) -> tuple[bool, float]:
    return bool(field.value), field.confidence


def _same(first: Sequence[Line], second: Sequence[Line], count: int) -> bool:
    """Whether the last lines of one piece are the first of the next: both pieces hold the text where they meet."""
    return [line.quote for line in first[len(first) - count :]] == [line.quote for line in second[:count]]


def checked(row: Row, pieces: Sequence[str]) -> Row:
    """A row with what code finds wrong with it. A quote that no piece holds is no quote."""
    faults = [quote_problems(row.invoice, piece) for piece in pieces]
    everywhere = [fault for fault in faults[0] if all(fault in each for each in faults[1:])] if faults else []
    return row.model_copy(update={"unquoted": everywhere, "wrong": number_problems(row.invoice)})


# --- the states ----------------------------------------------------------------------------------------------------------

document = Machine(
    "document", data=Paper, version="1", max_steps=12, deadline=minutes(30), budget=Budget(tokens=150_000, calls=200, warn_at=0.6)
)


@document.state(start=True, timeout=minutes(2), tools=[read_text])
async def reading(run: Run[Paper]) -> TextRead | Unreadable:
    """Read the file as text."""
    text = await run.tool(read_text, run.data.folder, run.data.file, run.data.document)
    return Unreadable(reason=text.problem) if text.problem else TextRead(pieces=text.pieces)


@document.state(max_visits=ROUNDS, timeout=minutes(8))
async def asking(run: Run[Paper]) -> Answered:
    """Ask for the invoices of each piece, heeding what was wrong, and put them together."""
    data, parts = run.data, len(run.data.pieces)

    async def one(part: int) -> Findings:
        prompt = take(data.file, part, parts, data.pieces[part - 1], data.rows, SURE)
        return await run.llm.ask(prompt, output=Findings, system=SYSTEM, model=data.model or None, max_tokens=6_000)

    found = await run.map(one, range(1, parts + 1), concurrency=4)
    rows = [
        Row(id=f"{data.file}#{record}", document=data.document, file=data.file, record=record, invoice=invoice)
        for record, invoice in enumerate(joined(found), 1)
    ]
    return Answered(rows=rows)


@document.state(timeout=minutes(1), per_visit=0)
async def checking(run: Run[Paper]) -> Sound | Faulty:
    """Do the sums add up, and does the document say every quote? No model has a say in this."""
    rows = [checked(row, run.data.pieces) for row in run.data.rows]
    return Faulty(rows=rows) if any(row.problems for row in rows) else Sound()


extracted = document.final("extracted", ok=True)
doubtful = document.final("doubtful", ok=True)
unreadable = document.final("unreadable")
failed = document.final("failed")

document.transitions(
    reading.on(TextRead) >> asking,
    reading.on(Unreadable) >> unreadable,
    asking.on(Answered) >> checking,
    asking.on(BudgetWarning) >> doubtful,
    asking.on(VisitsExhausted) >> doubtful,
    checking.on(Sound) >> extracted,
    checking.on(Faulty) >> asking,
    document.anywhere.on(Failure) >> failed,
    properties=[
        never(extracted, before=Sound),
        never(doubtful, before=TextRead),
        eventually(extracted, doubtful, unreadable, failed, within=10),
    ],
)
