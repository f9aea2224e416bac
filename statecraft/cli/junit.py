"""A JUnit file of many replays, written as they come, so that its size is bounded by the disk alone."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO, Self
from xml.sax.saxutils import escape, quoteattr

from statecraft.divergence import Replay
from statecraft.errors import ConfigError

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="replay" tests="{:010d}" failures="{:010d}" skipped="{:010d}">\n'
"""Of one length whatever it counts, since it is written again when everything is counted."""


class JUnit:
    """Each run is a case: its machine the class, its id the name. Nothing is left of the file if it is not finished.

    Raises `ConfigError` if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._cases = self._failures = self._skipped = 0
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self._part.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--junit {self._path}: cannot write the file ({error})") from error
        self._write(_HEAD.format(0, 0, 0))
        return self

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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._file is not None
        self._write("</testsuite>\n")
        self._file.seek(0)
        self._write(_HEAD.format(self._cases, self._failures, self._skipped))
        self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink()

    def _write(self, text: str) -> None:
        assert self._file is not None
        self._file.write(text)


def _text(text: str) -> str:
    return escape(_legal(text))


def _attribute(text: str) -> str:
    return quoteattr(_legal(text))


def _legal(text: str) -> str:
    """XML has no way to write most control characters, nor half of a surrogate pair."""
    return "".join(each if each in "\t\n\r" or (each >= " " and not "\ud800" <= each <= "\udfff") else "�" for each in text)
