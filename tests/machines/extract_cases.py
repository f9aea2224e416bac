"""Folders that take different ways through the extraction agent, and how to play one to its end."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from machines.extract import Approved, Batch, Modified, Rejected, extract
from machines.extract_document import Paper
from machines.extract_files import SHIPPED
from machines.extract_offline import OfflineExtraction
from machines.extract_rows import Edit, Invoice, Line, Quoted
from statecraft import ErrorKind, Event, RunRecord, Runtime, Settings, Status, Usage
from statecraft.calls.retry import RetryPolicy
from statecraft.llm import LLM, ModelError, Reply, Request
from statecraft.records import RunFilter, TransitionRecord
from statecraft.testing import ManualClock

SURE, COMMA, DOLLAR, TWO, WRONG = (
    "01-northwind.txt",
    "02-roesterei.txt",
    "03-hosting.html",
    "06-zwei-rechnungen.md",
    "07-contradiction.txt",
)
NONE, SCAN, TAXI, LONG, TWIN = "08-newsletter.md", "09-scan.txt", "10-taxi.txt", "11-fasteners.txt", "13-northwind-again.eml"
TO_REVIEW = "intake extracting checking human_review"


class Late(timedelta):
    """A step in which nobody decides for so long."""


class Hungry(OfflineExtraction):
    """The offline model, but each reply is said to have cost a fortune."""

    cost = 50_000

    async def complete(self, request: Request) -> Reply:
        return replace(await super().complete(request), usage=Usage(self.cost, 0))


class Ruinous(Hungry):
    """Ten replies cost all that a run may."""

    cost = 60_000


class Ravenous(Hungry):
    """One reply costs more than a document may."""

    cost = 120_000


class Silent(OfflineExtraction):
    """A model that refuses."""

    async def complete(self, request: Request) -> Reply:
        raise ModelError("no", kind=ErrorKind.PERMANENT)


class Inventive(OfflineExtraction):
    """A model that is sure of a total with words that no document has, however often it is told."""

    async def complete(self, request: Request) -> Reply:
        reply = await super().complete(request)
        text = str(reply.content[0]["text"]).replace(
            '"Total                        GBP    378.00"', '"Grand total: 378.00 pounds"'
        )
        return replace(reply, content=({"type": "text", "text": text},))


@dataclass(frozen=True)
class Case:
    """A folder of some of the shipped documents, who reads them, and what people do when they are asked."""

    files: str
    path: str
    """The states it visits, in order."""
    steps: Sequence[Event | Late] = ()
    model: Callable[[], LLM] = OfflineExtraction
    rows: int = 0
    """In the table, at the end."""
    copies: int = 0
    """More invoices like the first one."""


@dataclass(frozen=True)
class Played:
    """How it went."""

    run: RunRecord
    batch: Batch
    moves: tuple[TransitionRecord, ...]
    papers: tuple[Paper, ...]
    child_moves: tuple[TransitionRecord, ...]
    replays: bool

    @property
    def path(self) -> str:
        return " ".join(move.target for move in self.moves)


FIXED = [Edit(row=f"{WRONG}#1", total="96.48"), Edit(row=f"{TAXI}#1", date="2026-03-12")]
STOPPED = "intake extracting extracting skipping checking human_review writing partial"
CASES = {
    "sure": Case(f"{SURE} {NONE} {SCAN} blank.txt", "intake extracting checking writing complete", rows=1),
    "approved": Case(f"{SURE} {DOLLAR}", f"{TO_REVIEW} writing complete", [Approved(note="dollars")], rows=2),
    "rejected": Case(f"{SURE} {DOLLAR}", f"{TO_REVIEW} writing complete", [Rejected()], rows=1),
    "forgotten": Case(f"{SURE} {DOLLAR}", f"{TO_REVIEW} writing partial", [Late(days=2, seconds=1)], rows=1),
    "corrected": Case(f"{WRONG} {TAXI}", f"{TO_REVIEW} checking writing complete", [Modified(edits=FIXED)], rows=2),
    "corrected wrongly": Case(
        WRONG,
        f"{TO_REVIEW} checking human_review checking writing complete",
        [
            Modified(edits=[Edit(row=f"{WRONG}#1", total="1.00"), Edit(row="nobody#1", total="1.00")]),
            Modified(drop=[f"{WRONG}#1"]),
        ],
    ),
    "endlessly": Case(
        f"{SURE} {WRONG}",
        f"{TO_REVIEW} {'checking human_review ' * 5}checking writing partial",
        [Modified(edits=[Edit(row=f"{WRONG}#1", total=f"{number}.00")]) for number in range(6)],
        rows=1,
    ),
    "twins": Case(f"{SURE} {TWIN}", f"{TO_REVIEW} checking writing complete", [Modified(drop=[f"{TWIN}#1"])], rows=1),
    "empty": Case("", "intake failed"),
    "only a scan": Case(SCAN, "intake nothing_new"),
    "many": Case(SURE, "intake extracting extracting checking human_review writing complete", [Rejected()], rows=1, copies=11),
    "dear": Case(SURE, STOPPED, [Approved()], Hungry, 10, copies=11),
    "ruinous": Case(SURE, STOPPED, [Approved()], Ruinous, 10, 11),
    "too dear": Case(WRONG, f"{TO_REVIEW} writing complete", [Approved()], Ravenous, 1),
    "silent": Case(SURE, "intake extracting checking writing partial", model=Silent),
    "inventive": Case(SURE, f"{TO_REVIEW} writing complete", [Rejected()], Inventive),
}


def folder_of(place: Path, files: str, copies: int = 0) -> Path:
    """A folder with some of the shipped documents, and empty files."""
    folder = place / "documents"
    folder.mkdir()
    for name in files.split():
        if (SHIPPED / name).exists():
            shutil.copy(SHIPPED / name, folder)
        else:
            (folder / name).write_text("\n")
    for number in range(copies):
        (folder / f"copy-{number:02}.txt").write_text(f"{(SHIPPED / SURE).read_text()}\nCopy {number}\n")
    return folder


async def decide(runtime: Runtime, clock: ManualClock, run: RunRecord, steps: Sequence[Event | Late]) -> RunRecord:
    """Take each step when the run waits for a person."""
    run = await runtime.wait(run.id)
    for step in steps:
        assert run.status is Status.WAITING, run
        if isinstance(step, Late):
            await clock.advance(step)
            await runtime.resume(run.id)
        else:
            await runtime.send(run.id, step, by="ann")
        run = await runtime.wait(run.id)
    return run


async def play(case: Case, place: Path) -> Played:
    """Run the agent over the case's folder, with databases of its own."""
    clock = ManualClock()
    batch = Batch(folder=str(folder_of(place, case.files, case.copies)), database=str(place / "out.db"))
    settings = Settings(retry=RetryPolicy(first=0.0), debug=True)
    async with Runtime("sqlite://", machines=[extract], llm=case.model(), settings=settings, clock=clock) as runtime:
        run = await decide(runtime, clock, await runtime.start(extract, batch), case.steps)
        ended, papers, child_moves = await runtime.data(run.id, Batch), [], []
        replays = (await runtime.replay(run.id)).agrees
        for child in await runtime.runs(RunFilter(parent=run.id)):
            papers.append(await runtime.data(child.id, Paper))
            child_moves += await runtime.history(child.id)
            replays = replays and (await runtime.replay(child.id)).agrees
        return Played(run, ended, tuple(await runtime.history(run.id)), tuple(papers), tuple(child_moves), replays)


def table(place: Path, sql: str = "SELECT file, record FROM invoices ORDER BY 1, 2") -> list[tuple[Any, ...]]:
    """What is in the database; nothing if there is none."""
    with closing(sqlite3.connect(place / "out.db")) as db:
        there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'invoices'").fetchall()
        return db.execute(sql).fetchall() if there else []


def an_invoice(**values: str) -> Invoice:
    """An invoice whose fields quote themselves."""
    given = {"number": "A-1", "supplier": "Ann", "date": "2026-05-04", "currency": "EUR"}
    given |= {"net": "10.00", "tax": "1.90", "total": "11.90", **values}
    fields = {name: Quoted(value=value, quote=value, confidence=0.9).model_dump() for name, value in given.items()}
    return Invoice.model_validate({**fields, "lines": [Line(description="tea", amount="10.00", quote="10.00", confidence=0.9)]})
