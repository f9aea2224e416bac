"""Files that people name, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from statecraft.errors import ConfigError


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file by way of a neighbour that then takes its name, so that nobody ever reads half of it.

    A link stays a link. What is no file, such as a pipe or `/dev/null`, is written to as it is: a neighbour would take its place.
    Raises `ConfigError` if it cannot be written.
    """
    place = Path(path)
    try:
        if place.exists() and not stat.S_ISREG(place.stat().st_mode):
            place.write_bytes(content)
        else:
            _take_its_name(place.resolve(), content)
    except OSError as error:
        raise ConfigError(f"{place} cannot be written ({error.strerror or error}); choose another place") from error


def _take_its_name(place: Path, content: bytes) -> None:
    number, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(number, "wb") as out:
            out.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
