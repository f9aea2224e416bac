"""Files that people name, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from statecraft.errors import ConfigError


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file by way of `whole`. Raises `ConfigError` if it cannot be written."""
    with whole(path) as out, writing(path):
        out.write(content)


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A neighbour that takes the name of a file when the block ends well, so that nobody ever reads half of it.

    A link stays a link. What is no file, such as a pipe or `/dev/null`, is given all of it in the end: a neighbour would take its
    place. Raises `ConfigError` if it cannot be written.
    """
    place = Path(path)
    with writing(place):
        special = place.exists() and not stat.S_ISREG(place.stat().st_mode)
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # What is no file is opened by the name it was given: `/dev/stdout` leads to a pipe that has no name of its own.
        target = place if special else place.resolve()
        number, name = tempfile.mkstemp(dir=None if special else target.parent, prefix=f".{target.name}.")
    part, out = Path(name), os.fdopen(number, "wb")
    try:
        yield out
        with writing(place):
            out.close()
            _hand_over(part, target, special=special)
    finally:
        with contextlib.suppress(OSError):
            out.close()
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever the system refuses here is told as a `ConfigError` about this file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{Path(path)} cannot be written ({error.strerror or error}); choose another place") from error


def _hand_over(part: Path, target: Path, *, special: bool) -> None:
    if special:
        with part.open("rb") as content, target.open("wb") as end:
            shutil.copyfileobj(content, end)
        return
    mask = os.umask(0)
    os.umask(mask)
    part.chmod(0o666 & ~mask)
    part.replace(target)
