"""A working tree as a tree of git, made without asking git about any file in it.

`git add` and `git diff` would run the filters that the repository names, and look into repositories nested in it. Here
git lists the paths, by a configuration of our own; the files are read by us, each step of the path without following a link.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import zlib
from pathlib import Path

from .git import MEGABYTE, GitError, Place, Snapshot  # noqa: TID252

MOST_FILES = 20_000
"""A larger working tree is refused."""
MOST_CHANGED = 500
LARGEST = 20 * MEGABYTE
"""Bytes of a file that is read."""


def snapshot_tree(place: Place, snapshot: Snapshot, base: str) -> str:
    """The id of a tree with what the working tree holds now: tracked files, and new ones that are not ignored.

    Raises `GitError` for a working tree that is too large or cannot be read.
    """
    if not place.top:
        raise GitError("a bare repository has no working tree: give a range such as main..feature")
    before = _entries(snapshot, base)
    paths = _paths(place, snapshot, base)
    if len(paths) > MOST_FILES:
        raise GitError(f"the working tree has more than {MOST_FILES:,} files")
    changes: list[bytes] = []
    for path in sorted({*paths, *before}):
        known, found = before.get(path), _found(place, path)
        if found is None and known is not None and known[0] == b"160000":
            continue  # Another repository: only its commit is known here, and it stays as it is.
        whole = b"" if found is None else b"blob %d\0" % len(found[1]) + found[1]
        entry = None if found is None else (found[0], _name(snapshot, whole))
        if entry == known:
            continue
        if entry is not None:
            _keep(snapshot, entry[1], whole)
        mode, blob = entry or (b"0", b"0" * len(base))
        changes.append(mode + b" " + blob + b"\t" + path + b"\0")
        if len(changes) > MOST_CHANGED:
            raise GitError(f"more than {MOST_CHANGED} files were changed: review a range of commits")
    return _written(snapshot, base, b"".join(changes))


def _entries(snapshot: Snapshot, tree: str) -> dict[bytes, tuple[bytes, bytes]]:
    """Mode and id of each file of a tree."""
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for entry in snapshot.git("ls-tree", "-r", "-z", "--full-tree", tree).split(b"\0"):
        about, tab, path = entry.partition(b"\t")
        if tab:
            mode, _, blob = about.split(b" ")
            found[path] = (mode, blob)
    return found


def _paths(place: Place, snapshot: Snapshot, base: str) -> list[bytes]:
    """New files that are not ignored. The `.gitignore` files of the tree say which are, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        also = {"GIT_INDEX_FILE": f"{folder}/index", "GIT_WORK_TREE": place.top}
        snapshot.git("read-tree", base, also=also)
        listing = snapshot.git(
            "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore", "--full-name", cwd=place.top, also=also
        )
    # What ends with a slash is a repository of its own.
    return [path for path in listing.split(b"\0") if path and not path.endswith(b"/")]


def _found(place: Place, path: bytes) -> tuple[bytes, bytes] | None:
    """Mode and content of what stands at a path now; None if nothing that git would track does."""
    *folders, name = path.split(b"/")
    inside = os.open(place.top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            deeper = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=inside)
            os.close(inside)
            inside = deeper
        seen = os.stat(name, dir_fd=inside, follow_symlinks=False)
        if stat.S_ISLNK(seen.st_mode):
            return b"120000", os.readlink(name, dir_fd=inside)
        if not stat.S_ISREG(seen.st_mode):
            return None
        return (b"100755" if seen.st_mode & 0o100 else b"100644"), _content(name, inside)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # A folder that is a link now: what git tracked below it is gone.
            return None
        raise GitError(f"{os.fsdecode(path)!r} cannot be read: {error.strerror}") from error
    finally:
        os.close(inside)


def _content(name: bytes, inside: int) -> bytes:
    # Not blocking: a pipe may have taken the file's place since.
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=inside), "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise GitError(f"{os.fsdecode(name)!r} is larger than {LARGEST:,} bytes: review a range of commits")
    return content


def _name(snapshot: Snapshot, whole: bytes) -> bytes:
    """The id of an object."""
    kind = "sha256" if snapshot.object_format == "sha256" else "sha1"
    return hashlib.new(kind, whole, usedforsecurity=False).hexdigest().encode()


def _keep(snapshot: Snapshot, blob: bytes, whole: bytes) -> None:
    """Write an object among our own."""
    name = blob.decode()
    target = Path(snapshot.folder, "objects", name[:2], name[2:])
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        handle, made = tempfile.mkstemp(dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(zlib.compress(whole))
        Path(made).replace(target)


def _written(snapshot: Snapshot, base: str, changes: bytes) -> str:
    """The tree that differs from `base` by these changes."""
    with tempfile.TemporaryDirectory() as folder:
        also = {"GIT_INDEX_FILE": f"{folder}/index"}
        snapshot.git("read-tree", base, also=also)
        snapshot.git("update-index", "-z", "--index-info", stdin=changes, also=also)
        return snapshot.git("write-tree", also=also).decode().strip()
