"""A machine that reads what changed in one file and comments on it. The review agent starts one for each file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from statecraft import Budget, Data, Event, Failure, Machine, Run, eventually, minutes

from . import review_prompts as prompts  # noqa: TID252
from .changes import FileChange, lines_of  # noqa: TID252
from .review_prompts import SYSTEM, Comment, Comments  # noqa: TID252
from .review_tools import Reader, read_diff  # noqa: TID252

MOST_COMMENTS = 20
"""On one file; a model with more to say is told to choose."""
LONGEST = 1_200
"""Characters of a comment, and of a suggestion."""


class Page(Data):
    """A file of a change, and what is to be said about it."""

    snapshot: str
    tree: str
    """The new version of everything."""
    title: str
    change: FileChange
    diff: str = ""
    comments: list[Comment] = []
    reason: str = ""
    """Why it was not read."""


class Shown(Event):
    diff: str


class Unreadable(Event):
    reason: str


class Commented(Event):
    comments: list[Comment]


def problems_of(answer: Comments, diff: str) -> Sequence[str]:
    """What is wrong with the comments on a diff, as sentences for the model; empty if they can be made."""
    lines = lines_of(diff)
    problems = [] if len(answer.comments) <= MOST_COMMENTS else [f"comments: give the {MOST_COMMENTS} that matter most"]
    for place, comment in enumerate(answer.comments):
        if comment.line not in lines:
            problems.append(f"comments.{place}.line: {comment.line} is no numbered line of the diff")
        if not comment.text.strip():
            problems.append(f"comments.{place}.text: say what is wrong")
        if max(len(comment.text), len(comment.suggestion)) > LONGEST:
            problems.append(f"comments.{place}: text and suggestion have at most {LONGEST} characters each")
    return problems


file_review = Machine(
    "file_review", data=Page, version="1", max_steps=6, deadline=minutes(30), budget=Budget(tokens=60_000, calls=40)
)
OFFERED = Reader("", "", "")
"""Names the tools. A visit uses those of its own tree."""


@file_review.state(start=True, timeout=minutes(5), per_visit=Budget(calls=6), tools=[read_diff])
async def opening(run: Run[Page]) -> Shown | Unreadable:
    """Read the diff."""
    diff = await run.tool(read_diff, run.data.snapshot, run.data.change)
    if diff.problem or not lines_of(diff.text):
        return Unreadable(reason=diff.problem or "its diff shows no line")
    return Shown(diff=diff.text)


@file_review.state(timeout=minutes(15), tools=OFFERED.tools)
async def commenting(run: Run[Page]) -> Commented:
    """Let the model look around and comment; a comment on a line that the diff does not show goes back to it."""
    data = run.data
    comments = await run.llm.ask(
        prompts.read(data.title, data.change.path, data.diff),
        output=Comments,
        system=SYSTEM,
        tools=Reader(data.snapshot, data.tree, data.change.path).tools,
        max_tokens=3_000,
        max_turns=6,
        check=partial(problems_of, diff=data.diff),
    )
    return Commented(comments=comments.comments)


commented = file_review.final("commented", ok=True)
unread = file_review.final("unread")

file_review.transitions(
    opening.on(Shown) >> commenting,
    opening.on(Unreadable) >> unread,
    commenting.on(Commented) >> commented,
    file_review.anywhere.on(Failure) >> unread,
    properties=[eventually(commented, unread, within=4)],
)
