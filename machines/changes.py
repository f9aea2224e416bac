"""What changed between two trees: which files, and which lines of a file."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel

from .git import GitError, Snapshot  # noqa: TID252

MOST_FILES = 3_000
"""Files of a change that are looked at; a larger change is refused."""
LARGEST_FILE = 1_000_000
"""Bytes of a file that is read."""
LARGEST_DIFF = 40_000
"""Characters of a diff that a model is shown."""
LONGEST_LINE = 400
_GENERATED = re.compile(
    r"(?:^|/)(?:[^/]*\.lock|package-lock\.json|[^/]*\.min\.(?:js|css)|[^/]*_pb2\.pyi?|vendor/.*|node_modules/.*)$"
)
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_SHOWN = re.compile(r"^ *(\d+) ([+ ]) ", re.MULTILINE)

Status = Literal["added", "modified", "deleted", "renamed"]


class FileChange(BaseModel):
    """A file that a change touches."""

    path: str
    """As it is called now; what is no plain text is shown escaped."""
    before: str = ""
    """As it was called, if it was renamed."""
    status: Status
    added: int = 0
    removed: int = 0
    old_blob: str = ""
    new_blob: str = ""


class Unread(BaseModel):
    """A file that was not reviewed, and why."""

    path: str
    reason: str


def list_changes(snapshot: Snapshot, base: str, head: str) -> tuple[list[FileChange], list[Unread]]:
    """The files to review, sources first, and those that no comment can be made on. Raises `GitError`."""
    listing = snapshot.git(
        "diff-tree", "-r", "-z", "-M", "-l400", "--raw", "--numstat", "--no-ext-diff", "--no-textconv", "--full-index",
        "--ignore-submodules=none", "--no-commit-id", base, head,
    )  # fmt: skip
    raw, counts = _parsed(listing.split(b"\0"))
    if len(raw) > MOST_FILES:
        raise GitError(f"the change touches {len(raw):,} files, more than {MOST_FILES:,}")
    files: list[FileChange] = []
    left: list[Unread] = []
    for change, mode, plain in raw:
        added, removed = counts.get(change.path, ("0", "0"))
        reason = _unreadable(change, mode, plain, added)
        if reason:
            left.append(Unread(path=change.path, reason=reason))
        else:
            files.append(change.model_copy(update={"added": int(added), "removed": int(removed)}))
    return sorted(files, key=_rank), left


def _parsed(parts: list[bytes]) -> tuple[list[tuple[FileChange, str, bool]], dict[str, tuple[str, str]]]:
    """The raw entries, with their new mode and whether their path is plain text; the counts of lines by path."""
    raw: list[tuple[FileChange, str, bool]] = []
    counts: dict[str, tuple[str, str]] = {}
    rest = iter(parts)
    for part in rest:
        if part.startswith(b":"):
            was, mode, old, new, status = part.decode().split(" ")
            before = next(rest) if status[0] in "RC" else b""
            path = next(rest)
            names: dict[str, Status] = {"A": "added", "D": "deleted", "R": "renamed"}
            kind: Status = names.get(status[0], "modified")
            change = FileChange(path=_text(path), before=_text(before), status=kind, old_blob=old, new_blob=new)
            if was == ":160000":  # It was another repository, of which there is nothing to compare with.
                change.old_blob = ""
            raw.append((change, mode, _text(path).encode() == path))
        elif part:
            added, removed, path = part.split(b"\t", 2)
            if not path:  # A rename: both names follow.
                next(rest)
                path = next(rest)
            counts[_text(path)] = (added.decode(), removed.decode())
    return raw, counts


def _text(path: bytes) -> str:
    """A path as it may be shown: what is no UTF-8, and what a terminal would obey, is escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _unreadable(change: FileChange, mode: str, plain: bool, added: str) -> str:
    """Why no comment can be made on a file; empty if one can."""
    if change.status == "deleted":
        return "it was deleted"
    if not plain:
        return "its name is no plain text"
    kinds = {"160000": "it is another repository", "120000": "it is a link"}
    if mode in kinds:
        return kinds[mode]
    if added == "-":
        return "it is binary"
    if added == "0":
        return "nothing was added to it"
    return "it is generated" if _GENERATED.search(change.path) else ""


def _rank(change: FileChange) -> tuple[bool, bool, str]:
    """Code before tests before everything else."""
    code = re.search(r"\.(?:py|pyi|js|jsx|ts|tsx|go|rs|c|h|cc|cpp|java|kt|rb|php|sh|sql|swift|scala|cs)$", change.path)
    return code is None, is_test(change.path), change.path


def is_test(path: str) -> bool:
    """Whether a file holds tests, by its name."""
    return bool(re.search(r"(?:^|/)(?:tests?/|test_[^/]*$|conftest\.py$)|_test\.\w+$|\.(?:test|spec)\.\w+$", path))


# --- the lines of one file --------------------------------------------------------------------------------------------


def diff_of(snapshot: Snapshot, change: FileChange) -> str:
    """The diff of a file as a model reads it: before each line its number in the new file, and `+` if it is new.

    Lines that were removed have no number. Raises `GitError` for what is too large.
    """
    old = change.old_blob if change.old_blob.strip("0") else snapshot.empty_blob
    for blob in (old, change.new_blob):
        size = int(snapshot.git("cat-file", "-s", blob))
        if size > LARGEST_FILE:
            raise GitError(f"it is larger than {LARGEST_FILE:,} bytes")
    patch = snapshot.git("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "-U3", old, change.new_blob)
    diff = _numbered(patch.decode(errors="replace"))
    if len(diff) > LARGEST_DIFF:
        raise GitError(f"its diff is longer than {LARGEST_DIFF:,} characters")
    return diff


def _numbered(patch: str) -> str:
    lines: list[str] = []
    number = 0
    for line in patch.split("\n"):
        hunk = _HUNK.match(line)
        if hunk is not None:
            number = int(hunk[1])
            lines.append(f"@@ from line {number}")
        elif number and line[:1] == "-":
            lines.append(f"      - {_cut(line[1:])}")
        elif number and line[:1] in {"+", " "} and line:
            lines.append(f"{number:>5} {line[0]} {_cut(line[1:])}")
            number += 1
    return "\n".join(lines)


def _cut(line: str) -> str:
    # What ends a line for Python but not for git would look like a line of its own.
    line = "".join(letter if letter.isprintable() or letter == "\t" else " " for letter in line)
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} [cut]"


def lines_of(diff: str) -> dict[int, bool]:
    """The lines of the new file that a diff shows, and whether each is new."""
    return {int(number): mark == "+" for number, mark in _SHOWN.findall(diff)}
