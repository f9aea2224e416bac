"""What the review agent can do, as tools: read a change, run the tests, write the review down.

The tools that read are bound to the trees that the review is about. No argument names a repository, a tree or a folder.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from statecraft import Tool, tool

from .changes import LARGEST_FILE, FileChange, Unread, diff_of, list_changes  # noqa: TID252
from .git import GitError, Place, Snapshot, find_repository, merge_base, resolve  # noqa: TID252
from .sandbox import TestReport, run_command  # noqa: TID252
from .worktree import snapshot_tree  # noqa: TID252

MOST_LINES = 200
"""Lines that `show_lines` shows at once."""
MOST_HITS = 40
MOST_SECONDS = 900
"""The longest that tests may take."""


def cache_folder() -> Path:
    """Where snapshots, and reviews without an `out`, are kept: below `$XDG_CACHE_HOME` or `~/.cache`."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if Path(named).is_absolute() else Path.home() / ".cache") / "statecraft"


class Opened(BaseModel):
    """A change that can be reviewed, or why there is none."""

    problem: str = ""
    """Empty if all is well."""
    snapshot: str = ""
    base: str = ""
    head: str = ""
    """Trees."""
    commit: str = ""
    """The commit that comments are made on; for the working tree, the one it is based on."""
    title: str = ""
    files: list[FileChange] = []
    left: list[Unread] = []


@tool(effect="read", risk="safe", timeout=timedelta(minutes=5))
def open_change(repo: str, range: str, out: str) -> Opened:
    """Find the change that a range names, or that the working tree holds, and what it touches."""
    try:
        place = find_repository(repo)
        if _inside(out, place):
            return Opened(problem=f"{out} is in the repository, which is never written to: choose another place for the review")
        return _opened(place, repo, range.strip())
    except GitError as error:
        return Opened(problem=str(error))
    except OSError as error:
        return Opened(problem=f"{repo} cannot be read: {error.strerror or error}")


def _opened(place: Place, repo: str, range: str) -> Opened:
    snapshot = Snapshot.of(place, cache_folder() / "review")
    if ".." in range:
        dots = "..." if "..." in range else ".."
        first, _, last = range.partition(dots)
        base, commit = resolve(repo, first or "HEAD"), resolve(repo, last or "HEAD")
        base = snapshot.tree_of(merge_base(repo, base, commit) if dots == "..." else base)
        head, title = snapshot.tree_of(commit), range
    else:
        commit = resolve(repo, range or "HEAD")
        base, title = snapshot.tree_of(commit), f"the working tree against {range or 'HEAD'}"
        head = snapshot_tree(place, snapshot, base)
    files, left = list_changes(snapshot, base, head)
    return Opened(snapshot=snapshot.folder, base=base, head=head, commit=commit, title=_plain(title), files=files, left=left)


def _inside(out: str, place: Place) -> bool:
    real = Path(out).resolve()
    return any(real.is_relative_to(Path(folder).resolve()) for folder in (place.top, place.git_dir, place.objects) if folder)


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


# Foreign code may do anything, so each run of it is a new effect: one that got lost is asked about, not made again.
@tool(effect="once", risk="high", timeout=timedelta(seconds=MOST_SECONDS + 300), max_chars=12_000)
async def run_tests(
    snapshot: str,
    tree: str,
    command: Annotated[list[str], Field(min_length=1)],
    seconds: Annotated[int, Field(gt=0, le=MOST_SECONDS)],
    megabytes: Annotated[int, Field(ge=64)],
) -> TestReport:
    """Run the repository's own tests in a copy of it: code that somebody else wrote."""
    return await run_command(Snapshot(snapshot), tree, command, seconds, megabytes)


class Diff(BaseModel):
    """What changed in a file, with the numbers of its lines."""

    text: str = ""
    problem: str = ""
    """Why it cannot be shown; empty if all is well."""


@tool(effect="read", risk="safe", timeout=timedelta(minutes=2))
def read_diff(snapshot: str, change: FileChange) -> Diff:
    """The diff of one file."""
    try:
        return Diff(text=diff_of(Snapshot(snapshot), change))
    except GitError as error:
        return Diff(problem=str(error))


class Hit(BaseModel):
    """A line that holds a text."""

    path: str
    line: int
    text: str


class Reader:
    """What a model may look up while it reads a file: anything in the new tree, and nothing else."""

    def __init__(self, snapshot: str, tree: str, path: str) -> None:
        self._snapshot, self._tree, self._path = Snapshot(snapshot), tree, path
        reads = tool(effect="read", risk="safe", timeout=timedelta(minutes=1), max_chars=12_000)
        self.show = reads(self.show_lines)
        self.find = reads(self.find_text)

    @property
    def tools(self) -> tuple[Tool[..., Any], ...]:
        """All of them."""
        return self.show, self.find

    def show_lines(self, first: int, last: int, path: str = "") -> str:
        """Lines of a file as it is after the change, with their numbers; of the file under review if no path is given."""
        name = (path or self._path).rstrip("/")  # With a slash, git would list what is in the folder.
        if first < 1 or last < first:
            raise ValueError(f"lines {first} to {last} cannot be: count from 1, and give the first one first")
        try:
            listing = self._snapshot.git("ls-tree", "-z", "--full-tree", self._tree, "--", name)
            mode, kind, blob = listing.partition(b"\t")[0].decode().split(" ") if listing else ("", "", "")
            if kind != "blob" or mode == "120000":
                raise ValueError(f"there is no file {name!r} in the new version")
            lines = self._snapshot.blob(blob, LARGEST_FILE).decode(errors="replace").split("\n")
        except GitError as error:
            raise ValueError(f"{name!r} cannot be shown: {error}") from error
        chosen = lines[first - 1 : min(last, first + MOST_LINES - 1)]
        return "\n".join(f"{number:>5}   {line[:400]}" for number, line in enumerate(chosen, first)) or f"{name!r} is shorter"

    def find_text(self, text: str) -> list[Hit]:
        """Lines of any file of the new version that hold a text, word for word; at most 40."""
        if not text.strip() or "\n" in text:
            raise ValueError("give the words of one line to look for")
        try:
            options = ("-z", "-n", "-I", "-F", "--no-textconv", "--no-color", "--full-name", f"-m{MOST_HITS}")
            said = self._snapshot.git("grep", *options, "-e", text, self._tree)
        except GitError as error:
            if "ended with 1" in str(error):  # That is how it says that there is none.
                return []
            raise ValueError(f"that cannot be looked for: {error}") from error
        return [hit for line in said.split(b"\n")[:MOST_HITS] if (hit := _hit(line)) is not None]


def _hit(line: bytes) -> Hit | None:
    parts = line.split(b"\0", 2)
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    path = parts[0].partition(b":")[2].decode("utf-8", "backslashreplace")
    return Hit(path=path, line=int(parts[1]), text=parts[2].decode(errors="replace")[:400])
