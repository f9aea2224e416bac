"""Small repositories, changes that take different ways through the review agent, and how to play one to its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from machines.review import Approved, Change, Edited, Rejected, review, settings
from machines.review_offline import OfflineReview
from statecraft import Approve, ErrorKind, Event, Modify, Reject, RunRecord, Runtime, Usage
from statecraft.decisions import Decision
from statecraft.llm import LLM, ModelError, Reply, Request
from statecraft.records import TransitionRecord
from statecraft.testing import ManualClock

QUIET = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}
OLD = "def price(cents):\n    return cents\n"
NEW = """\
def price(cents, seen=[]):
    try:
        seen.append(cents)
    except:
        raise
    return eval("cents")
"""
TEST = "import cart\n\nassert cart.price(3) == 3\n"
BROKEN = "def price(cents):\n    raise SystemExit(3)  # TODO\n"

Files = Mapping[str, str | bytes | None]


class Repo:
    """A repository in a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", *options)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env={**os.environ, **QUIET}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def write(self, files: Files) -> None:
        for name, content in files.items():
            file = self.folder / name
            if content is None:
                file.unlink()
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Files) -> str:
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a commit")
        return self.git("rev-parse", "HEAD")

    def everything(self) -> dict[str, bytes]:
        """Every file below the folder, those of git too."""
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


class Late(timedelta):
    """A step in which nobody decides for so long."""


class Hungry(OfflineReview):
    """The offline model, but its comments on a file are said to have cost so many tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    async def complete(self, request: Request) -> Reply:
        reply = await super().complete(request)
        about_file = request.output is not None and request.output.name == "Comments"
        return replace(reply, usage=Usage(self.tokens, 0)) if about_file and not reply.tool_uses else reply


class Silent(OfflineReview):
    """A model that fails for good."""

    async def complete(self, request: Request) -> Reply:
        raise ModelError("no such model", kind=ErrorKind.PERMANENT)


class Wrong(OfflineReview):
    """The offline model, but its first comments are on lines that are not there; with `stubborn`, all of them are."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.stubborn = stubborn
        self.told: list[str] = []

    async def complete(self, request: Request) -> Reply:
        if request.output is None or request.output.name != "Comments":
            return await super().complete(request)
        if len(request.messages) > 1:
            self.told.append(str(request.messages[-1]["content"]))
        line = 1 if len(request.messages) > 1 and not self.stubborn else 900 + len(self.told)
        text = f'{{"comments": [{{"line": {line}, "severity": "note", "text": "odd", "suggestion": ""}}]}}'
        return Reply(({"type": "text", "text": text},), "end_turn", Usage(10, 10), self.model)


Step = Event | Decision | Late


@dataclass(frozen=True)
class Case:
    """A change, and what people do when they are asked."""

    path: str
    """The states it visits, in order."""
    steps: Sequence[Step] = ()
    new: Files = field(default_factory=lambda: {"cart.py": NEW})
    test: Sequence[str] = ()
    model: Callable[[], LLM] = OfflineReview
    range: str = "HEAD~1..HEAD"
    out: str = "out"


@dataclass(frozen=True)
class Played:
    """How it went."""

    run: RunRecord
    change: Change
    moves: tuple[TransitionRecord, ...]
    out: Path
    problems: list[str]
    """What the replay and the verification of the record complained about."""

    @property
    def path(self) -> str:
        return " ".join(move.target for move in self.moves)

    @property
    def files(self) -> list[Path]:
        """What was posted."""
        return sorted(self.out.rglob("*.*")) if self.out.is_dir() else [self.out] if self.out.exists() else []


SEEN = "intake reading summarizing human_review"
POSTED = f"{SEEN} posting posted"
TESTED = "intake testing reading summarizing human_review unposted"
MANY = {f"part{number}.py": "x = 1\n" for number in range(9)}
RUN = ("python", "test_cart.py")
DROP = Edited(drop=[1])

CASES = {
    "approved": Case(POSTED, [Approved(note="fine")]),
    "rejected": Case(f"{SEEN} unposted", [Rejected(reason="too picky")]),
    "forgotten": Case(f"{SEEN} unposted", [Late(days=3, seconds=1)]),
    "edited": Case(
        f"{SEEN} revising human_review posting posted", [Edited(drop=[2, 99], text="All well.", verdict="COMMENT"), Approved()]
    ),
    "edited forever": Case(f"{SEEN} {'revising human_review ' * 5}revising unposted", [DROP] * 6),
    "endless": Case(
        f"{SEEN} {'revising human_review ' * 3}failed", [step for _ in "abcd" for step in (Late(days=2.7), DROP)][:-1]
    ),
    "tests pass": Case(TESTED, [Approve(), Rejected()], {"cart.py": NEW, "test_cart.py": TEST}, RUN),
    "tests fail": Case(TESTED, [Approve(), Rejected()], {"cart.py": BROKEN, "test_cart.py": TEST}, RUN),
    "tests changed": Case(
        TESTED,
        [Modify({"command": ["true"]}), Rejected()],
        test=RUN,
    ),
    "tests refused": Case(TESTED, [Reject("not on my machine"), Rejected()], test=RUN),
    "tests unanswered": Case(TESTED, [Late(days=2, seconds=1), Rejected()], test=RUN),
    "many": Case("intake reading reading summarizing human_review posting posted", [Approved()], MANY),
    "nothing": Case("intake nothing_to_review", new={"cart.py": None}),
    "no commit": Case("intake failed", range="nowhere..HEAD"),
    "out inside": Case("intake failed", out="repo/reviews"),
    "taken": Case(f"{SEEN} posting unposted", [Approved()], out="taken.json"),
    "dear": Case(
        "intake reading reading outlining human_review posting posted", [Approved()], MANY, model=lambda: Hungry(40_000)
    ),
    "dear in the end": Case(
        "intake reading summarizing outlining human_review posting posted", [Approved()], model=lambda: Hungry(300_000)
    ),
    "broke": Case(
        "intake reading summarizing outlining human_review posting posted", [Approved()], model=lambda: Hungry(500_000)
    ),
    "silent": Case(f"{SEEN} unposted", [Rejected()], model=Silent),
    "huge": Case(POSTED, [Approved()], {"cart.py": NEW, "huge.py": "x = 1\n" * 20_000}),
    "wrong": Case(POSTED, [Approved()], model=Wrong),
    "stubborn": Case(f"{SEEN} unposted", [Rejected()], model=lambda: Wrong(stubborn=True)),
}


def make(case: Case, folder: Path) -> Change:
    """The repository of a case, and the change to review."""
    repo = Repo(folder / "repo")
    repo.commit({"cart.py": OLD})
    repo.commit(case.new)
    (folder / "taken.json").write_text("mine\n")
    return Change(repo=str(repo.folder), range=case.range, test=list(case.test), out=str(folder / case.out), test_seconds=20)


async def play(case: Case, folder: Path) -> Played:
    """Start the review in a database of its own, and take each step when the run waits for a person."""
    clock, change = ManualClock(), make(case, folder)
    url = f"sqlite:///{folder / 'runs.db'}"
    async with Runtime(url, machines=[review], llm=case.model(), settings=settings, clock=clock) as runtime:
        run = await runtime.wait((await runtime.start(review, change)).id)
        for step in case.steps:
            if isinstance(step, Late):
                await clock.advance(step)
                await runtime.resume(run.id)
            elif isinstance(step, Event):
                await runtime.send(run.id, step, by="ann")
            else:
                (asked,) = await runtime.reviews(run.id, open_only=True)
                fits = Modify({**(asked.arguments or {}), **step.arguments}, approve=True) if isinstance(step, Modify) else step
                await runtime.decide(run.id, fits, by="ann")
            run = await runtime.wait(run.id)
        ended = await runtime.data(run.id, Change)
        problems = [str(found) for found in await runtime.verify(run.id)]
        if (difference := (await runtime.replay(run.id)).divergence) is not None:
            problems.append(str(difference))
        return Played(run, ended, tuple(await runtime.history(run.id)), Path(change.out), problems)
