"""A JUnit file of many replays, written as they come, so that its size is bounded by the disk alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape, quoteattr

from statecraft.divergence import Replay
from statecraft.files import whole, writing

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="replay" tests="{:010d}" failures="{:010d}" skipped="{:010d}">\n'
"""Of one length whatever it counts, since it is written again when everything is counted."""


@contextmanager
def junit_file(path: Path) -> Iterator[JUnit]:
    """Each run is a case: its machine the class, its id the name. Nothing is left of the file if it is not finished.

    Raises `ConfigError` if the file cannot be written.
    """
    with whole(path) as out:
        file = JUnit(path, out)
        file.write_head()
        yield file
        file.finish()


class JUnit:
    """The file under way."""

    def __init__(self, path: Path, out: IO[bytes]) -> None:
        self._path, self._out = path, out
        self._cases = self._failures = self._skipped = 0

    def write_head(self) -> None:
        """Write what has been counted."""
        self._write(_HEAD.format(self._cases, self._failures, self._skipped))

    def add(self, found: Replay) -> None:
        """Write the case of one run."""
        self._cases += 1
        self._write(f"<testcase classname={_attribute(found.machine)} name={_attribute(found.run_id)}")
        if found.divergence is not None:
            self._failures += 1
            text = str(found.divergence)
            self._write(f"><failure message={_attribute(text.splitlines()[0])}>{_text(text)}</failure></testcase>\n")
        elif found.skipped:
            self._skipped += 1
            self._write(f"><skipped message={_attribute(found.skipped)}/></testcase>\n")
        else:
            self._write("/>\n")

    def finish(self) -> None:
        """Write the end, and the head once more."""
        self._write("</testsuite>\n")
        self._out.seek(0)
        self.write_head()

    def _write(self, text: str) -> None:
        with writing(self._path):
            self._out.write(text.encode())


def _text(text: str) -> str:
    return escape(_legal(text))


def _attribute(text: str) -> str:
    return quoteattr(_legal(text))


def _legal(text: str) -> str:
    """XML has no way to write most control characters, nor half of a surrogate pair."""
    return "".join(each if each in "\t\n\r" or (each >= " " and not "\ud800" <= each <= "\udfff") else "�" for each in text)
