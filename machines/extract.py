"""An extraction agent: it takes invoices out of a folder of documents, checks them, asks a person in doubt, and writes each
document into an SQLite table exactly once.

Each document is a child run of the machine `document`. The table at the end of this file is the rest of the agent.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from statecraft import (
    Append,
    Ask,
    Budget,
    BudgetWarning,
    Child,
    Data,
    Event,
    Failure,
    Machine,
    ReviewExpired,
    Run,
    Status,
    VisitsExhausted,
    always,
    days,
    eventually,
    hours,
    minutes,
    never,
)
from statecraft.llm import LLM, Claude

from .extract_document import Paper, document  # noqa: TID252
from .extract_files import MOST_FILES, Filed, Surveyed, Unread, survey  # noqa: TID252
from .extract_offline import OfflineExtraction  # noqa: TID252
from .extract_rows import NAMES, Edit, Row, edited, number_problems, plain, twins  # noqa: TID252
from .extract_table import Done, prepare, write  # noqa: TID252

CHEAP = "claude-haiku-5-5"
"""Reads what is left once half of the budget is used."""
BATCH = 10
"""Documents in each visit to extracting. Between two visits the budget is looked at."""
AT_ONCE = 4
"""Documents that are read side by side."""
REVIEWS = 6
"""How often rows are checked, and so how often a person is asked, at most."""
LINES = 15
"""Lines of an invoice that a reviewer is shown."""


# --- what a run knows ------------------------------------------------------------------------------------------------


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


class Batch(Data):
    """A folder of documents, and what became of each."""

    folder: Annotated[str, AfterValidator(_absolute)] = ""
    """A folder, a file or a glob; empty: the documents that come with the machine."""
    database: Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
    """The SQLite file to write to; made if there is none."""
    table: str = "invoices"
    waiting: list[Filed] = []
    """Documents still to be read."""
    read: Append[list[Filed]] = []
    found: Append[list[Row]] = []
    """Rows as they were taken from the documents."""
    rows: list[Row] = []
    """Rows as they were checked."""
    known: list[str] = []
    """Files whose documents the table had already."""
    unread: Append[list[Unread]] = []
    """Files that cannot be read, and why."""
    left: Append[list[Unread]] = []
    """Files that another run can deal with: start it with the same folder and table."""
    edits: list[Edit] = []
    accept: list[str] = []
    drop: list[str] = []
    notes: list[str] = []
    """What was wrong with a correction."""
    verdict: Literal["", "approved", "rejected"] = ""
    """What becomes of doubtful rows."""
    note: str = ""
    written: int = 0
    """Rows in the table by this run."""
    elsewhere: list[str] = []
    """Documents that somebody else wrote while this run was at work."""
    reason: str = ""
    """Why the run failed."""


class Listed(Event):
    waiting: list[Filed]
    known: list[str]
    unread: list[Unread]
    left: list[Unread]


class NothingNew(Event):
    known: list[str]
    unread: list[Unread]


class Unusable(Event):
    reason: str


class Extracted(Event):
    read: list[Filed]
    found: list[Row]
    unread: list[Unread]
    left: list[Unread]
    waiting: list[Filed]


class Skipped(Event):
    left: list[Unread]
    waiting: list[Filed]


class Checked(Event):
    rows: list[Row]
    notes: list[str]
    edits: list[Edit] = []
    accept: list[str] = []
    drop: list[str] = []


class Written(Event):
    written: int
    elsewhere: list[str]
    left: list[Unread]


class Approved(Event):
    """Write all doubtful rows as they stand."""

    verdict: Literal["approved"] = "approved"
    note: str = ""


class Rejected(Event):
    """Write none of the doubtful rows. Their documents count as dealt with."""

    verdict: Literal["rejected"] = "rejected"
    note: str = ""


class Modified(Event):
    """Correct, accept or drop single rows, by their ids. What is still in doubt then is asked again."""

    edits: list[Edit] = []
    accept: list[str] = []
    drop: list[str] = []
    note: str = ""

    @model_validator(mode="after")
    def _says_something(self) -> Modified:
        if not (self.edits or self.accept or self.drop):
            raise ValueError("give edits, rows to accept or rows to drop")
        return self


# --- guards and checks: pure -----------------------------------------------------------------------------------------


def more_to_read(event: Extracted, data: Batch) -> bool:  # noqa: ARG001
    """There are documents that nobody has looked at."""
    return bool(event.waiting)


def in_doubt(event: Checked, data: Batch) -> bool:  # noqa: ARG001
    """A person has to look at a row."""
    return any(row.doubtful for row in event.rows)


def all_done(event: Written, data: Batch) -> bool:
    """Nothing is left for another run."""
    return not (event.left or data.left)


def decided(rows: list[Row], data: Batch) -> tuple[list[Row], list[str]]:
    """The rows with what a person decided about them, checked again; and what is wrong with the decision."""
    by_id = {row.id: row for row in rows}
    named = [*(edit.row for edit in data.edits), *data.accept, *data.drop]
    notes = [f"there is no row {name!r}" for name in dict.fromkeys(named) if name not in by_id]
    for edit in data.edits:
        if edit.row in by_id:
            by_id[edit.row] = edited(by_id[edit.row], edit)
    left = [row for name, row in by_id.items() if name not in data.drop]
    same = twins(left)
    checked: list[Row] = []
    for row in left:
        twin = [f"number: {same[row.id]} has the same supplier and number"] if row.id in same else []
        changes = {"wrong": [*number_problems(row.invoice), *twin], "accepted": row.accepted or row.id in data.accept}
        checked.append(row.model_copy(update=changes))
    return checked, notes


def to_write(data: Batch) -> tuple[list[Done], list[Unread]]:
    """The documents to write with their rows, and those that nobody has decided about."""
    by_document: dict[str, list[Row]] = {}
    for row in data.rows:
        by_document.setdefault(row.document, []).append(row)
    done: list[Done] = []
    undecided: list[Unread] = []
    for filed in data.read:
        rows = by_document.get(filed.document, [])
        if data.verdict == "" and any(row.doubtful for row in rows):
            undecided.append(Unread(name=filed.name, reason="nobody decided about its doubtful rows"))
            continue
        kept = [row.model_copy(update={"accepted": True}) if row.doubtful else row for row in rows]
        kept = [new for new, row in zip(kept, rows, strict=True) if data.verdict == "approved" or not row.doubtful]
        done.append(Done(document=filed.document, file=filed.name, rows=kept))
    return done, undecided


def listed(found: Surveyed, known: set[str]) -> Listed | NothingNew:
    """What is to be read: each document once, and none that the table has."""
    first: dict[str, str] = {}
    copies: list[Unread] = []
    for filed in found.files:
        if filed.document in first:
            copies.append(Unread(name=filed.name, reason=f"the same as {first[filed.document]}"))
        first.setdefault(filed.document, filed.name)
    fresh = [filed for filed in found.files if filed.document not in known and first[filed.document] == filed.name]
    there = [filed.name for filed in found.files if filed.document in known]
    unread = [*found.unread, *copies]
    left = [Unread(name=name, reason=f"a run looks at {MOST_FILES} files at most") for name in found.left]
    if not fresh and not left:
        return NothingNew(known=there, unread=unread)
    return Listed(waiting=fresh, known=there, unread=unread, left=left)


# --- the states ------------------------------------------------------------------------------------------------------

extract = Machine(
    "extract", data=Batch, version="1", max_steps=60, deadline=days(7), budget=Budget(tokens=600_000, calls=3_000, warn_at=0.8)
)


@extract.state(start=True, timeout=minutes(5), tools=[survey, prepare])
async def intake(run: Run[Batch]) -> Listed | NothingNew | Unusable:
    """See which files there are, and which of them the table has already."""
    data = run.data
    found = await run.tool(survey, data.folder)
    if found.problem:
        return Unusable(reason=found.problem)
    table = await run.tool(prepare, data.database, data.table, [filed.document for filed in found.files])
    return Unusable(reason=table.problem) if table.problem else listed(found, set(table.documents))


@extract.state(max_visits=MOST_FILES // BATCH, timeout=hours(1), children=[document])
async def extracting(run: Run[Batch]) -> Extracted:
    """Have some documents read, each by a run of its own, a few side by side. One that fails does so alone."""
    data, batch = run.data, run.data.waiting[:BATCH]
    model = CHEAP if (await run.budget()).share >= 0.5 else ""

    async def one(filed: Filed) -> Child[Paper]:
        paper = Paper(folder=data.folder, file=filed.name, document=filed.document, model=model)
        return await run.child(document, paper, ok_only=False)

    done = Extracted(read=[], found=[], unread=[], left=[], waiting=data.waiting[BATCH:])
    for filed, child in zip(batch, await run.map(one, batch, concurrency=AT_ONCE), strict=True):
        if child.status is Status.DONE:
            done.read.append(filed)
            done.found.extend(child.data.rows)
        elif child.state == "unreadable":
            done.unread.append(Unread(name=filed.name, reason=child.data.reason))
        else:
            why = child.data.reason or child.reason or child.status
            done.left.append(Unread(name=filed.name, reason=f"run {child.run_id} is {child.status} in {child.state}: {why}"))
    return done


@extract.state(timeout=minutes(1), per_visit=0)
async def skipping(run: Run[Batch]) -> Skipped:
    """Go on with what there is, and say what is left."""
    left = [Unread(name=filed.name, reason="the run had to stop reading before it") for filed in run.data.waiting]
    return Skipped(left=left, waiting=[])


@extract.state(max_visits=REVIEWS, timeout=minutes(1), per_visit=0)
async def checking(run: Run[Batch]) -> Checked:
    """Put in what a person corrected, and check the rows again, one against the other. No model has a say in this."""
    rows, notes = decided(run.data.found if run.visit == 1 else run.data.rows, run.data)
    return Checked(rows=rows, notes=notes)


@extract.review(timeout=days(2))
async def human_review(run: Run[Batch]) -> Ask[Approved | Rejected | Modified]:
    """Show the doubtful rows with what is wrong and what the documents say."""
    data = run.data
    doubtful = [row for row in data.rows if row.doubtful]
    shown: dict[str, object] = {row.id: shown_row(row) for row in doubtful}
    shown["sure"] = f"{len(data.rows) - len(doubtful)} of {len(data.rows)} rows"
    for name, files in (("unread", data.unread), ("left", data.left)):
        shown |= {name: [f"{each.name}: {each.reason}" for each in files]} if files else {}
    shown |= {"notes": data.notes} if data.notes else {}
    many = len(doubtful) > 1
    count, them = (f"{len(doubtful)} rows are", "them as they stand") if many else ("One row is", "it as it stands")
    return Ask(f"{count} not sure enough to be written unseen. Write {them}?", show=shown)


@extract.state(timeout=minutes(5), tools=[write])
async def writing(run: Run[Batch]) -> Written:
    """Write what is sure or decided, each document once."""
    done, undecided = to_write(run.data)
    stored = await run.tool(write, run.data.database, run.data.table, done)
    names = {each.document: each.file for each in done}
    return Written(written=stored.rows, elsewhere=[names[document] for document in stored.elsewhere], left=undecided)


def shown_row(row: Row) -> list[str]:
    """A row as the reviewer sees it: what is wrong with it, then each value with the words it was taken from."""
    lines = [f"WRONG {problem}" for problem in row.problems]
    for name in NAMES:
        field = row.invoice.field(name)
        said = f"{field.confidence:.0%} sure, from {plain(field.quote)!r}" if field.value else "not found"
        lines.append(f"{name}: {field.value} ({'corrected' if name in row.corrected else said})".replace(":  ", ": "))
    items = [f"line {at}: {line.description}, {line.amount}" for at, line in enumerate(row.invoice.lines, 1)]
    return lines + (items if len(items) <= LINES else [*items[:LINES], f"and {len(items) - LINES} more lines"])


complete = extract.final("complete", ok=True)
nothing_new = extract.final("nothing_new", ok=True)
partial = extract.final("partial")
failed = extract.final("failed")

# --- the table -------------------------------------------------------------------------------------------------------

extract.transitions(
    intake.on(Listed) >> extracting,
    intake.on(NothingNew) >> nothing_new,
    intake.on(Unusable) >> failed,
    extracting.on(Extracted.when(more_to_read)) >> extracting,
    extracting.on(Extracted) >> checking,
    extracting.on(BudgetWarning) >> skipping,
    extracting.on(Failure) >> skipping,
    skipping.on(Skipped) >> checking,
    checking.on(Checked.when(in_doubt)) >> human_review,
    checking.on(Checked) >> writing,
    checking.on(VisitsExhausted) >> writing,
    human_review.on(Approved) >> writing,
    human_review.on(Rejected) >> writing,
    human_review.on(Modified) >> checking,
    human_review.on(ReviewExpired) >> writing,
    writing.on(Written.when(all_done)) >> complete,
    writing.on(Written) >> partial,
    extract.anywhere.on(Failure) >> failed,
    properties=[
        never(writing, before=Checked),
        always(Checked, before=human_review, since=human_review),
        never(complete, partial, before=Written),
        eventually(complete, nothing_new, partial, failed, within=45),
    ],
)


def model() -> LLM:
    """Claude if there is a key for it, else the offline model. Raises `ConfigError` for a key that cannot be one."""
    if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        return OfflineExtraction()
    claude = Claude()
    claude.check()
    return claude
