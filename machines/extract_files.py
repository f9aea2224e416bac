"""Documents from files: text, Markdown, CSV, HTML and mail become plain text. What cannot be read is said, file by file."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from glob import escape, has_magic
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path

from pydantic import BaseModel

from statecraft import tool

SUFFIXES = (".csv", ".eml", ".htm", ".html", ".md", ".text", ".txt")
MOST_BYTES = 100_000
"""A larger file is not read."""
MOST_FILES = 200
"""Files looked at in one run; the rest is left for another."""
PIECE = 4_000
"""Characters of a piece of a long document."""
OVERLAP = 400
"""Characters that two neighbouring pieces share, so that nothing is cut in every piece."""
SHIPPED = Path(__file__).with_name("documents")
"""Documents to try it with."""
_AT_MOST = timedelta(seconds=60)


class Filed(BaseModel):
    """A file that can be read."""

    name: str
    """Below the folder."""
    document: str
    """SHA-256 of its bytes: the same document, wherever it lies."""


class Unread(BaseModel):
    """A file of which nothing was taken, and why."""

    name: str
    reason: str


class Surveyed(BaseModel):
    """What is in a folder."""

    files: list[Filed] = []
    unread: list[Unread] = []
    left: list[str] = []
    """Beyond `MOST_FILES`."""
    problem: str = ""
    """Why nothing could be looked at; empty if all is well."""


class Text(BaseModel):
    """A document as plain text, in pieces; or why there is none."""

    pieces: list[str] = []
    problem: str = ""


@tool(effect="read", risk="safe", timeout=_AT_MOST)
def survey(folder: str) -> Surveyed:
    """List the files of a folder, or those that a glob names. Empty: the documents that come with the machine."""
    root, pattern = place(folder)
    try:
        os.scandir(root).close()
        names = list(islice(_names(root, pattern), MOST_FILES * 10))
    except (OSError, ValueError) as error:
        return Surveyed(problem=f"{folder or root} cannot be read: {_said(error)}")
    found = Surveyed(left=names[MOST_FILES:])
    for name in names[:MOST_FILES]:
        try:
            found.files.append(Filed(name=name, document=hashlib.sha256(_bytes(root, name)).hexdigest()))
        except (OSError, ValueError) as error:
            found.unread.append(Unread(name=name, reason=_said(error)))
    if not names:
        found.problem = f"there is no file in {folder or root}"
    return found


@tool(effect="read", risk="safe", timeout=_AT_MOST, max_chars=MOST_BYTES)
def read_text(folder: str, name: str, document: str = "") -> Text:
    """The text of one file; with `document`, only if the file is still that one."""
    try:
        raw = _bytes(place(folder)[0], name)
        if document and hashlib.sha256(raw).hexdigest() != document:
            return Text(problem="it changed while it was being read")
        text = text_of(raw, Path(name).suffix.lower()).strip()
    except (OSError, ValueError) as error:
        return Text(problem=_said(error))
    return Text(pieces=pieces(text)) if text else Text(problem="there is no text in it")


def place(folder: str) -> tuple[Path, str]:
    """The folder that is meant, and the pattern of the files in it."""
    if not folder:
        return SHIPPED, "**/*"
    path = Path(folder)
    if path.exists():
        return (path, "**/*") if path.is_dir() else (path.parent, escape(path.name))
    plain = next((index for index, part in enumerate(path.parts) if has_magic(part)), None)
    if plain is not None:
        return Path(*path.parts[:plain]), str(Path(*path.parts[plain:]))
    return path, "**/*"


def pieces(text: str) -> list[str]:
    """A text in pieces of at most `PIECE` characters, cut between lines, each beginning with the last lines of the one before."""
    found: list[str] = []
    start = 0
    while len(text) - start > PIECE:
        end = max(text.rfind("\n", start + PIECE // 2, start + PIECE), start + PIECE // 2)
        found.append(text[start:end])
        line = text.find("\n", end - OVERLAP, end) + 1
        start = line or end - OVERLAP
    return [*found, text[start:]]


# --- bytes ------------------------------------------------------------------------------------------------------------


def _names(root: Path, pattern: str) -> Iterator[str]:
    for path in sorted(root.glob(pattern)):
        name = path.relative_to(root)
        if (path.is_symlink() or not path.is_dir()) and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()


def _bytes(root: Path, name: str) -> bytes:
    """The bytes of a file that is one, lies in the folder, and holds text. Raises `OSError` or `ValueError`."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError("it leads out of the folder")
    if not path.is_file():
        raise ValueError("it is no file" if path.exists() else "it is not there")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path.suffix or 'a name without a suffix'} is none of {', '.join(SUFFIXES)}")
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
    if b"\0" in raw:
        raise ValueError("it is binary")
    return raw


def _said(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


# --- text -------------------------------------------------------------------------------------------------------------


def text_of(raw: bytes, suffix: str) -> str:
    """The text in the bytes of a file. Raises `ValueError` for what cannot be made sense of."""
    try:
        return _understood(raw, suffix)
    except ValueError:
        raise
    except Exception as error:  # Broken mails and pages make Python's parsers stumble in many ways.
        raise ValueError(f"it is no sound {suffix} file: {error}") from error


def _understood(raw: bytes, suffix: str) -> str:
    if suffix == ".eml":
        return _mail(message_from_bytes(raw, policy=policy.default))
    text = _decoded(raw)
    if suffix in {".htm", ".html"}:
        return html_text(text)
    return _cells(text) if suffix == ".csv" else text


def _decoded(raw: bytes) -> str:
    """UTF-8, or what Windows wrote before it; each line ends with a line feed."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cells(text: str) -> str:
    try:
        dialect: type[csv.Dialect] | str = csv.Sniffer().sniff(text[:4096], ",;\t")
    except csv.Error:
        dialect = "excel"
    return "\n".join("\t".join(row) for row in csv.reader(io.StringIO(text), dialect))


def _mail(mail: EmailMessage) -> str:
    """The head that people see, the text, and what is attached to it as text."""
    head = "\n".join(f"{name}: {mail[name]}" for name in ("From", "Date", "Subject") if mail[name])
    body = mail.get_body(("plain", "html"))
    parts = [part for part in (body, *mail.iter_attachments()) if isinstance(part, EmailMessage)]
    texts = [_part(part) for part in parts if part.get_content_maintype() == "text"]
    return "\n\n".join([head, *texts])


def _part(part: EmailMessage) -> str:
    try:
        text = str(part.get_content())
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"its text cannot be decoded: {error}") from error
    return html_text(text) if part.get_content_subtype() == "html" else text


def html_text(markup: str) -> str:
    """What a page shows: cells beside each other, blocks below each other."""
    page = _Page()
    page.feed(markup)
    page.close()
    lines = ("\t".join(" ".join(cell.split()) for cell in line.split("\t")).strip() for line in "".join(page.parts).split("\n"))
    return "\n".join(line for line in lines if line)


_BLOCK_NAMES = "address article br div dd dl dt footer h1 h2 h3 h4 h5 h6 header hr li main p section table tr ul"
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_HIDDEN = frozenset(("script", "style", "template", "title"))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._hidden += tag in _HIDDEN
        self.parts.append("\n" if tag in _BLOCKS else "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in _HIDDEN))
        self.parts.append("\n" if tag in _BLOCKS else "\t" if tag in {"td", "th"} else "")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(" ".join(data.split("\n")).replace("\t", " "))
