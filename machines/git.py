"""Reading a git repository without trusting it, and without writing to it.

A repository's own configuration can name programs that git then starts: filters, textconv, external diffs, a file system
monitor, hooks. So nothing but the names of commits is asked of the repository itself. Everything else is read by a
`Snapshot`: a git directory of our own in the user's cache, with a configuration of our own, that borrows the repository's
objects. It names trees and blobs by their ids, so what it answers never changes, and no link is ever followed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Timer
from typing import IO

MEGABYTE = 1_000_000
_SECONDS = 60.0
"""For each git, by default."""
_REFUSED = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "diff.external=",
    "protocol.allow=never",
    "maintenance.auto=false",
)
"""Overrides what a repository's configuration may say, for the few questions that are put to it."""


class GitError(Exception):
    """A repository that cannot be read, or not as asked."""


def run_git(
    *arguments: str, cwd: str = "", stdin: bytes = b"", limit: int = 16 * MEGABYTE, also: Mapping[str, str] | None = None
) -> bytes:
    """What a git command prints. `also` is added to its environment.

    Raises `GitError` if it fails, takes over a minute, or prints more than `limit` bytes.
    """
    command = ["git", "--no-pager", *(part for pair in _REFUSED for part in ("-c", pair)), *arguments]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as complaints:
        given.write(stdin)
        given.seek(0)
        try:
            running = subprocess.Popen(
                command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd=cwd or "/",
                env={**_environment(), **(also or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise GitError(f"git cannot be started: {error.strerror or error}") from error
        said = _read(running, limit)
        if len(said) > limit:
            raise GitError(f"git {arguments[0]} printed more than {limit:,} bytes")
        if running.returncode:
            raise GitError(_complaint(complaints) or f"git {arguments[0]} ended with {running.returncode}")
        return said


def _read(running: subprocess.Popen[bytes], limit: int) -> bytes:
    """The output, at most one byte more than the limit; the group is killed when there is more, or time is up."""
    clock = Timer(_SECONDS, _kill, [running.pid])
    clock.daemon = True
    clock.start()
    try:
        assert running.stdout is not None
        with running.stdout as out:
            said = out.read(limit + 1)
        if len(said) > limit:
            _kill(running.pid)
        running.wait()
    finally:
        clock.cancel()
    return said


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _complaint(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    lines = complaints.read(4_000).decode(errors="replace").strip().splitlines()
    return lines[0].removeprefix("fatal: ") if lines else ""


def _environment() -> dict[str, str]:
    """Nothing of ours but PATH: no keys, no configuration of the system or of the user, no network, no replaced objects."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LITERAL_PATHSPECS": "1",
    }


# --- asked of the repository itself -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository is."""

    top: str
    """The folder that holds `.git`; empty for a bare repository."""
    git_dir: str
    objects: str
    object_format: str


def find_repository(folder: str) -> Place:
    """The repository that a folder is in. Raises `GitError` if there is none."""
    if not Path(folder).is_dir():
        raise GitError(f"there is no folder {folder}")
    asked = run_git("rev-parse", "--path-format=absolute", "--git-dir", "--git-path", "objects", cwd=folder)
    names = os.fsdecode(asked).splitlines()
    if len(names) != 2:
        raise GitError("a repository with a line break in its path cannot be read")
    kind = run_git("rev-parse", "--show-object-format", cwd=folder).decode().strip()
    # Not asked of git: `core.worktree` of the configuration could name any folder as the working tree.
    real = Path(folder).resolve()
    top = next((str(place) for place in (real, *real.parents) if (place / ".git").exists()), "")
    return Place(top, names[0], names[1], kind)


def resolve(folder: str, name: str) -> str:
    """The id of the commit that a name stands for. Raises `GitError` if there is none."""
    if len(name) > 300 or not name.isprintable():
        raise GitError("that is no name of a commit")
    try:
        asked = run_git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", cwd=folder)
    except GitError as error:
        raise GitError(f"there is no commit {name!r} in {folder}") from error
    return asked.decode().strip()


def merge_base(folder: str, one: str, other: str) -> str:
    """The commit from which two commits went apart. Raises `GitError` if there is none."""
    try:
        return run_git("merge-base", one, other, cwd=folder).decode().strip()
    except GitError as error:
        raise GitError(f"{one[:12]} and {other[:12]} have no common ancestor") from error


# --- asked of our own git directory -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A git directory of our own that borrows a repository's objects."""

    folder: str

    @property
    def object_format(self) -> str:
        """How objects are named: `sha1` or `sha256`."""
        return "sha256" if "sha256" in Path(self.folder, "config").read_text() else "sha1"

    @classmethod
    def of(cls, place: Place, cache: Path) -> Snapshot:
        """The one of a repository; made, whole or not at all, if it is not there. Raises `GitError`."""
        if not place.objects.isprintable() or place.objects.startswith('"'):
            raise GitError(f"objects cannot be borrowed from {place.objects!r}")
        name = sha256(f"{place.objects}\0{place.object_format}".encode(errors="surrogateescape")).hexdigest()[:24]
        folder = cache / name
        if not folder.is_dir():
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix="new-", dir=cache))
            _lay_out(made, place)
            try:
                made.rename(folder)
            except OSError:  # Somebody else was faster.
                shutil.rmtree(made)
        return cls(str(folder))

    def git(
        self,
        *arguments: str,
        cwd: str = "",
        stdin: bytes = b"",
        limit: int = 16 * MEGABYTE,
        also: Mapping[str, str] | None = None,
    ) -> bytes:
        """What a git command says here. Raises `GitError`."""
        if not Path(self.folder).is_dir():
            raise GitError(f"the snapshot {self.folder} is gone: start the review again")
        return run_git(*arguments, cwd=cwd, stdin=stdin, limit=limit, also={"GIT_DIR": self.folder, **(also or {})})

    def blob(self, blob: str, limit: int = MEGABYTE) -> bytes:
        """The content of a file by its id. Raises `GitError` if it is larger than `limit` bytes."""
        return self.git("cat-file", "blob", blob, limit=limit)

    def tree_of(self, commit: str) -> str:
        """The tree of a commit."""
        return self.git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}").decode().strip()

    @property
    def empty_blob(self) -> str:
        """The id of no content, which is written here, for not every git knows it by heart."""
        return self.git("hash-object", "-w", "-t", "blob", "--stdin").decode().strip()


def _lay_out(folder: Path, place: Place) -> None:
    for inner in ("objects/info", "objects/pack", "refs"):
        (folder / inner).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/none\n")
    (folder / "objects/info/alternates").write_bytes(os.fsencode(place.objects) + b"\n")
    version, extension = ("1", f"[extensions]\n\tobjectformat = {place.object_format}\n")
    if place.object_format == "sha1":
        version, extension = "0", ""
    (folder / "config").write_text(f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{extension}")
