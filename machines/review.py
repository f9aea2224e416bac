"""A code review agent: it reads a change of a git repository, runs the tests, comments on lines, and posts when a person agrees.

Nothing of the repository is run without a person (the policy `GATE`), and nothing is written to it. The table at the end of
this file is the whole agent. Everything above it says what its states do.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from statecraft import (
    Append,
    Ask,
    Budget,
    BudgetExhausted,
    BudgetWarning,
    CallError,
    Data,
    Event,
    Failure,
    GatePolicy,
    Machine,
    ReviewExpired,
    Run,
    Settings,
    Status,
    VisitsExhausted,
    always,
    collect,
    days,
    eventually,
    hours,
    minutes,
    never,
)
from statecraft import Rejected as Declined
from statecraft.llm import LLM, Claude

from . import review_prompts as prompts  # noqa: TID252
from .changes import FileChange, Unread  # noqa: TID252
from .file_review import Page, file_review  # noqa: TID252
from .review_offline import OfflineReview  # noqa: TID252
from .review_post import Posting, Remark, Verdict, numbered, post_review, ranked, told, verdict_on  # noqa: TID252
from .review_prompts import SYSTEM, Comment, Overview  # noqa: TID252
from .review_tools import MOST_SECONDS, cache_folder, open_change, run_tests  # noqa: TID252
from .sandbox import TestReport  # noqa: TID252

TOGETHER = 4
"""Files that are read at once."""
BATCH = 8
"""Files that are read in one visit. Between two visits the budget is looked at."""
BATCHES = 5
EDITS = 5
"""Changes that a person may make to the review before it must be posted or dropped."""

GATE = GatePolicy(max_auto_risk="medium", expires=days(2), remind_after=hours(4))
"""Running the tests is of high risk, for they are code of the repository: a person sees the command and decides."""
settings = Settings(gate=GATE)
"""What `statecraft start review` runs with. A program of your own passes it on: `Runtime(..., settings=review.settings)`."""


# --- what a run knows ------------------------------------------------------------------------------------------------


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _out(path: str) -> str:
    return _absolute(path or str(cache_folder() / "reviews"))


def _words(command: object) -> object:
    return shlex.split(command) if isinstance(command, str) else command


class PageRead(Data):
    """What was said about a file."""

    path: str
    comments: list[Comment]


class Change(Data):
    """What is to be reviewed, and everything found out about it so far."""

    repo: Annotated[str, AfterValidator(_absolute), Field(validate_default=True)] = "."
    range: str = ""
    """Such as `main..feature`, or `main...feature` from where they went apart; a commit or nothing: the working tree."""
    test: Annotated[list[str], BeforeValidator(_words)] = []
    """The command that runs the tests, such as `python -m pytest -q`; never given to a shell."""
    test_seconds: Annotated[int, Field(gt=0, le=MOST_SECONDS)] = 300
    test_megabytes: Annotated[int, Field(ge=64)] = 2_000
    """Memory of each process of the tests."""
    out: Annotated[str, AfterValidator(_out), Field(validate_default=True)] = ""
    """Where the review goes: a folder, or a file that ends in `.json` or `.md`. Not in the repository."""
    snapshot: str = ""
    head: str = ""
    commit: str = ""
    title: str = ""
    files: list[FileChange] = []
    """All that are to be read."""
    left: list[Unread] = []
    """What no comment can be made on."""
    tests: TestReport | None = None
    read: Append[list[PageRead]] = []
    unread: Append[list[Unread]] = []
    """Files whose reading failed."""
    remarks: list[Remark] = []
    summary: str = ""
    event: Verdict = "COMMENT"
    notes: list[str] = []
    """What of the last edit could not be done."""
    drop: list[int] = []
    """Numbers of remarks that the reviewer does not want."""
    text: str = ""
    """The summary as the reviewer wrote it."""
    verdict: Verdict | None = None
    """What the reviewer has the review ask for."""
    note: str = ""
    reason: str = ""
    """Why nothing was posted."""
    posted: list[str] = []
    """The files that hold the review."""


class Opened(Event):
    snapshot: str
    head: str
    commit: str
    title: str
    files: list[FileChange]
    left: list[Unread]


class Nothing(Event):
    reason: str


class Refused(Event):
    reason: str


class Tested(Event):
    tests: TestReport


class Read(Event):
    read: list[PageRead]
    unread: list[Unread]


class Summarized(Event):
    remarks: list[Remark]
    summary: str
    event: Verdict
    notes: list[str] = []


class Approved(Event):
    note: str = ""


class Rejected(Event):
    reason: str = ""


class Edited(Event):
    """Leave out remarks by number, write another summary, ask for something else; it is shown again before it is posted."""

    drop: list[int] = []
    text: str = ""
    verdict: Verdict | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Edited:
        if not self.drop and not self.text.strip() and self.verdict is None:
            raise ValueError("give drop, text or verdict")
        return self


class Posted(Event):
    posted: list[str]


class NotPosted(Event):
    reason: str


# --- guards and pieces: pure -----------------------------------------------------------------------------------------


def has_tests(event: Opened, data: Change) -> bool:  # noqa: ARG001
    """There is a command that runs the tests."""
    return bool(data.test)


def more_to_read(event: Read, data: Change) -> bool:
    """Files are left that this batch and those before it did not have."""
    return len(data.read) + len(data.unread) + len(event.read) + len(event.unread) < len(data.files)


def next_batch(data: Change) -> list[FileChange]:
    """The files to read now, in order."""
    return data.files[len(data.read) + len(data.unread) :][:BATCH]


def not_read(data: Change) -> list[Unread]:
    """Every file of the change that has not been read, and why."""
    rest = data.files[len(data.read) + len(data.unread) :]
    return [*data.unread, *(Unread(path=each.path, reason="there was no room for it") for each in rest), *data.left]


def outline(data: Change, remarks: list[Remark]) -> str:
    """A summary without a model: what was counted."""
    graves = [f"{sum(r.severity == name for r in remarks)} {name}s" for name in ("error", "warning", "note")]
    missing = len(not_read(data))
    left = f" {missing} files were not read." if missing else ""
    return (
        f"{data.title}: {len(data.read)} of {len(data.files)} files were read, with {', '.join(graves)}.{left} {told(data.tests)}"
    )


# --- the states ------------------------------------------------------------------------------------------------------

review = Machine(
    "review", data=Change, version="1", max_steps=40, deadline=days(10), budget=Budget(tokens=400_000, calls=1_600, warn_at=0.7)
)


@review.state(start=True, timeout=minutes(10), per_visit=Budget(calls=6), tools=[open_change])
async def intake(run: Run[Change]) -> Opened | Nothing | Refused:
    """Find the change and what it touches."""
    data = run.data
    found = await run.tool(open_change, data.repo, data.range, data.out)
    if found.problem:
        return Refused(reason=found.problem)
    if not found.files:
        why = "; ".join(f"{each.path}: {each.reason}" for each in found.left[:5])
        return Nothing(reason=f"no line was added ({why})" if why else "nothing changed")
    left = [
        *found.left,
        *(Unread(path=each.path, reason=f"only {BATCH * BATCHES} are read") for each in found.files[BATCH * BATCHES :]),
    ]
    files = found.files[: BATCH * BATCHES]
    return Opened(snapshot=found.snapshot, head=found.head, commit=found.commit, title=found.title, files=files, left=left)


@review.state(timeout=days(3), per_visit=Budget(calls=6), tools=[run_tests])
async def testing(run: Run[Change]) -> Tested:
    """Run the tests of the repository, if a person lets them run. However that goes, the review goes on."""
    data = run.data
    try:
        tests = await run.tool(run_tests, data.snapshot, data.head, data.test, data.test_seconds, data.test_megabytes)
    except Declined as error:  # Or nobody answered in time.
        tests = TestReport(command=data.test, outcome="refused", output=error.message)
    except CallError as error:
        tests = TestReport(command=data.test, outcome="unknown", output=error.message)
    return Tested(tests=tests)


@review.state(max_visits=BATCHES, timeout=hours(2), children=[file_review])
async def reading(run: Run[Change]) -> Read:
    """Have a few files read, each by a run of its own. One that fails is reported, and costs the others nothing."""
    data = run.data

    async def one(change: FileChange) -> PageRead | Unread:
        page = Page(snapshot=data.snapshot, tree=data.head, title=data.title, change=change)
        child = await run.child(file_review, page, ok_only=False)
        if child.status is Status.DONE:
            return PageRead(path=change.path, comments=child.data.comments)
        return Unread(
            path=change.path, reason=child.data.reason or f"child run {child.run_id} is {child.status} in {child.state}"
        )

    batch = next_batch(data)
    ended = await run.map(one, batch, concurrency=TOGETHER, join=collect)
    pages = [page for page in ended if isinstance(page, PageRead)]
    unread = [each for each in ended if isinstance(each, Unread)]
    failed = [(change, each) for change, each in zip(batch, ended, strict=True) if isinstance(each, Exception)]
    return Read(read=pages, unread=[*unread, *(Unread(path=change.path, reason=str(error)[:300]) for change, error in failed)])


@review.state(timeout=minutes(10), per_visit=Budget(tokens=60_000, calls=6))
async def summarizing(run: Run[Change]) -> Summarized:
    """Put the comments in order, and have them summed up. Without a model there is still the outline."""
    data = run.data
    remarks = ranked((page.path, page.comments) for page in data.read)
    event = verdict_on(remarks, data.tests)
    lines = [f"{each.severity} {each.path}:{each.line} {each.text}" for each in remarks[:30]]
    unread = [f"{each.path} ({each.reason})" for each in not_read(data)[:30]]
    prompt = prompts.summarize(data.title, [page.path for page in data.read], lines, told(data.tests), unread)
    try:
        summary = (await run.llm.ask(prompt, output=Overview, system=SYSTEM, max_tokens=1_000)).summary.strip()
    except CallError:
        summary = ""
    return Summarized(remarks=remarks, summary=summary or outline(data, remarks), event=event)


@review.state(max_visits=3, timeout=minutes(1), per_visit=0)
async def outlining(run: Run[Change]) -> Summarized:
    """The budget runs low: no model any more, and no more files. What was found, as it is."""
    remarks = ranked((page.path, page.comments) for page in run.data.read)
    return Summarized(remarks=remarks, summary=outline(run.data, remarks), event=verdict_on(remarks, run.data.tests))


@review.review(timeout=days(3))
async def human_review(run: Run[Change]) -> Ask[Approved | Edited | Rejected]:
    """Show the review as it would be posted."""
    data = run.data
    shown = {
        "title": data.title,
        "event": data.event,
        "summary": data.summary,
        "remarks": [f"{r.number}. {r.severity} {r.path}:{r.line} {r.text}" for r in data.remarks],
        "tests": told(data.tests),
        "not_read": [f"{each.path}: {each.reason}" for each in not_read(data)],
        "out": data.out,
    }
    shown |= {"notes": data.notes} if data.notes else {}
    return Ask(f"Post this review? Comments: {len(data.remarks)}.", show=shown)


@review.state(max_visits=EDITS, timeout=minutes(1), per_visit=0)
async def revising(run: Run[Change]) -> Summarized:
    """Change the review as the reviewer said; they see it again."""
    data = run.data
    kept = [remark for remark in data.remarks if remark.number not in data.drop]
    there = {remark.number for remark in data.remarks}
    notes = [f"there is no comment {number}" for number in dict.fromkeys(data.drop) if number not in there]
    summary, event = data.text.strip() or data.summary, data.verdict or data.event
    return Summarized(remarks=numbered(kept), summary=summary, event=event, notes=notes)


@review.state(timeout=minutes(5), per_visit=Budget(calls=6), tools=[post_review])
async def posting(run: Run[Change]) -> Posted | NotPosted:
    """Write the review down, once."""
    data = run.data
    whole = Posting(commit=data.commit, event=data.event, summary=data.summary, remarks=data.remarks, unread=not_read(data))
    receipt = await run.tool(post_review, data.out, whole)
    return NotPosted(reason=receipt.problem) if receipt.problem else Posted(posted=receipt.files)


posted = review.final("posted", ok=True)
nothing_to_review = review.final("nothing_to_review", ok=True)
unposted = review.final("unposted")
failed = review.final("failed")

# --- the table -------------------------------------------------------------------------------------------------------

review.transitions(
    intake.on(Opened.when(has_tests)) >> testing,
    intake.on(Opened) >> reading,
    intake.on(Nothing) >> nothing_to_review,
    intake.on(Refused) >> failed,
    testing.on(Tested) >> reading,
    reading.on(Read.when(more_to_read)) >> reading,
    reading.on(Read) >> summarizing,
    reading.on(BudgetWarning) >> outlining,
    summarizing.on(Summarized) >> human_review,
    summarizing.on(BudgetWarning) >> outlining,
    outlining.on(Summarized) >> human_review,
    human_review.on(Approved) >> posting,
    human_review.on(Edited) >> revising,
    human_review.on(Rejected) >> unposted,
    human_review.on(ReviewExpired) >> unposted,
    revising.on(Summarized) >> human_review,
    revising.on(VisitsExhausted) >> unposted,
    posting.on(Posted) >> posted,
    posting.on(NotPosted) >> unposted,
    review.anywhere.on(BudgetExhausted) >> outlining,
    review.anywhere.on(Failure) >> failed,
    properties=[
        always(Approved, before=posting, since=revising),
        never(posting, before=Approved),
        never(posted, before=Posted),
        eventually(posted, nothing_to_review, unposted, failed, within=30),
    ],
)


def model() -> LLM:
    """Claude if there is a key for it, else the offline model. Raises `ConfigError` for a key that cannot be one."""
    if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        return OfflineReview()
    claude = Claude()
    claude.check()
    return claude
