"""Full-text search over a folder of text, or over the documentation of the installed Python standard library.

The index is an SQLite FTS5 file in the user's cache folder, named after what went into it: a changed folder or another
Python gets another file. Sources are parsed, never imported. Equal documents give equal answers in equal order.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel

from statecraft import StatecraftError, tool

from .reading import TEXT_SUFFIXES, Document, library_documents, library_root, read_folder, text_files  # noqa: TID252

FORMAT = "1"
"""Part of every index's name: raise it when the index or the reading of documents changes."""
MOST_HITS = 20
MOST_FILES = 5_000
"""A folder with more text files is refused."""
_BUILDING = threading.Lock()
_EXCERPT = 600
_QUERY_WORDS = 24
_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_SCHEMA = """
CREATE TABLE documents (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, place TEXT NOT NULL, text TEXT NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5(title, text, content='', tokenize='porter unicode61 remove_diacritics 2');
"""
_SEARCH = """
SELECT d.id, d.title, d.text, bm25(words, 4.0, 1.0) AS rank FROM words JOIN documents d ON d.number = words.rowid
WHERE words MATCH ? ORDER BY rank, d.number LIMIT ?
"""


class CorpusError(StatecraftError):
    """There is nothing to search: no such folder, no text in it, or a document that does not exist."""


class Survey(BaseModel):
    """What can be searched."""

    name: str
    """What to call it, such as `Python 3.12 standard library`."""
    documents: int
    skipped: int = 0
    """Files of a text type that were left out: too large, binary or unreadable."""
    problem: str = ""
    """Why nothing can be searched; empty if all is well."""


class Passage(BaseModel):
    """One hit of a search, best first."""

    document: str
    """Id to fetch the whole document by."""
    title: str
    excerpt: str
    """The paragraphs that hold most of the words looked for."""
    score: float
    """BM25; higher is better."""


# --- the tools --------------------------------------------------------------------------------------------------------


@tool(effect="read", risk="low", timeout=timedelta(seconds=120))
def survey(folder: str = "") -> Survey:
    """Say what the corpus in `folder` holds (empty: the Python standard library), and prepare it for searching."""
    try:
        corpus = find_corpus(folder)
        with contextlib.closing(corpus.open()) as index:
            count, skipped = index.execute(
                "SELECT count(*), (SELECT value FROM facts WHERE name = 'skipped') FROM documents"
            ).fetchone()
    except CorpusError as error:
        return Survey(name=folder or "Python standard library", documents=0, problem=str(error))
    return Survey(name=corpus.name, documents=int(count), skipped=int(skipped))


@tool(effect="read", risk="low", timeout=timedelta(seconds=120))
def search(query: str, limit: int = 6, folder: str = "") -> list[Passage]:
    """Find the documents that fit a few keywords best. Any of the words may match; word endings do not matter."""
    match = match_expression(query)
    if not match:
        return []
    with contextlib.closing(find_corpus(folder).open()) as index:
        rows = index.execute(_SEARCH, (match, max(1, min(limit, MOST_HITS)))).fetchall()
    wanted = {_root(word) for word in split_words(query)}
    return [
        Passage(document=document, title=title, excerpt=excerpt(text, wanted), score=round(-rank, 3))
        for document, title, text, rank in rows
    ]


@tool(effect="read", risk="low", timeout=timedelta(seconds=120))
def fetch(document: str, folder: str = "") -> Document:
    """Read one whole document that a search has found."""
    corpus = find_corpus(folder)
    with contextlib.closing(corpus.open()) as index:
        row = index.execute("SELECT id, title, place, text FROM documents WHERE id = ?", (document,)).fetchone()
    if row is None:
        raise CorpusError(f"{corpus.name} has no document {document!r}")
    return Document(id=row[0], title=row[1], place=row[2], text=row[3])


# --- words and excerpts -----------------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case; `asyncio.wait_for` and `TemporaryDirectory` fall into their parts."""
    return [part.lower() for word in _WORD.findall(text) for part in _HUMP.split(word)]


def match_expression(query: str) -> str:
    """A query as FTS5 reads it: plain words, any of which may match. Nothing in it can be taken for syntax."""
    words = dict.fromkeys([*(word.lower() for word in _WORD.findall(query)), *split_words(query)])
    return " OR ".join(f'"{word}"' for word in list(words)[:_QUERY_WORDS])


def excerpt(text: str, wanted: Iterable[str]) -> str:
    """The first paragraph, and the one that holds most of the wanted roots if that is another one."""
    roots = set(wanted)
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    if not paragraphs:
        return ""
    best = max(paragraphs, key=lambda part: len(roots & {_root(word) for word in split_words(part)}))
    parts = paragraphs[:1] if best == paragraphs[0] else [paragraphs[0][: _EXCERPT // 3], best]
    return "\n\n".join(parts)[:_EXCERPT]


def _root(word: str) -> str:
    return word[:5]


# --- the index --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Corpus:
    """A set of documents and the index over them."""

    name: str
    key: str
    """Names the source: a folder, or a Python."""
    fingerprint: str
    """Names its present content."""
    read: Callable[[], tuple[list[Document], int]]
    """The documents, and how many files were left out."""

    def open(self) -> sqlite3.Connection:
        """A connection that can only read. Builds the index if there is none yet; in memory if no folder can be written."""
        for folder in _cache_folders():
            path = folder / f"corpus-{self.key}-{self.fingerprint}.db"
            opened = _opened(path) or self._built_once(path)
            if opened is not None:
                return opened
        index = sqlite3.connect(":memory:")
        self._fill(index)
        return index

    def _built_once(self, path: Path) -> sqlite3.Connection | None:
        """Build the index, unless another thread was about to: runs that begin together all ask for it."""
        with _BUILDING, contextlib.suppress(OSError, sqlite3.OperationalError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _opened(path) or self._built(path)
        return None

    def _built(self, path: Path) -> sqlite3.Connection | None:
        """Write the index under another name first, so that nobody ever sees half of it; then drop outdated ones."""
        handle, name = tempfile.mkstemp(prefix=".building-", dir=path.parent)
        os.close(handle)
        half = Path(name)
        try:
            with contextlib.closing(sqlite3.connect(half)) as index:
                index.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
                self._fill(index)
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)
        for other in path.parent.glob(f"corpus-{self.key}-*.db"):
            if other != path:
                with contextlib.suppress(OSError):
                    other.unlink()
        return _opened(path)

    def _fill(self, index: sqlite3.Connection) -> None:
        documents, skipped = self.read()
        if not documents:
            raise CorpusError(f"{self.name} has no text to search")
        try:
            index.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            raise CorpusError(f"the SQLite of this Python cannot search text (FTS5 is missing): {error}") from error
        with index:
            index.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
            index.execute("INSERT INTO facts VALUES ('skipped', ?)", (skipped,))
            rows = [(number, d.id, d.title, d.place, d.text) for number, d in enumerate(documents, 1)]
            index.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", rows)
            terms = ((number, f"{title} {' '.join(split_words(title))}", text) for number, _, title, _, text in rows)
            index.executemany("INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)", terms)


def find_corpus(folder: str) -> Corpus:
    """The corpus in a folder, or the standard library for an empty name. Raises `CorpusError` saying what is wrong."""
    return _folder_corpus(Path(folder).expanduser()) if folder else library_corpus(library_root())


def library_corpus(root: Path) -> Corpus:
    """The docstrings of the standard library whose sources are under `root`."""
    if not (root / "os.py").is_file():
        raise CorpusError(f"this Python has no standard library sources under {root}; name a folder of text instead")
    version = ".".join(map(str, sys.version_info[:2]))

    def read() -> tuple[list[Document], int]:
        return list(library_documents(root)), 0

    return Corpus(f"Python {version} standard library", _digest(["stdlib", str(root)]), _digest([sys.version]), read)


def _folder_corpus(folder: Path) -> Corpus:
    if not folder.exists():
        raise CorpusError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise CorpusError(f"{folder} is a file; name the folder it is in")
    try:
        files = list(islice(text_files(folder), MOST_FILES + 1))
        facts = [f"{path.relative_to(folder)} {(stat := path.stat()).st_size} {stat.st_mtime_ns}" for path in files]
    except OSError as error:
        raise CorpusError(f"{folder} cannot be read: {error.strerror or error}") from error
    if len(files) > MOST_FILES:
        raise CorpusError(f"{folder} has more than {MOST_FILES:,} text files; name a smaller folder")
    if not files:
        raise CorpusError(f"{folder} has no text files ({', '.join(TEXT_SUFFIXES)})")

    def read() -> tuple[list[Document], int]:
        return read_folder(folder, files)

    return Corpus(str(folder), _digest(["folder", str(folder.absolute())]), _digest(facts), read)


def _opened(path: Path) -> sqlite3.Connection | None:
    """The index in a file, or None if there is none, it is damaged, or somebody else put it there."""
    if not path.is_file() or (hasattr(os, "getuid") and path.stat().st_uid != os.getuid()):
        return None
    index = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
    try:
        index.execute("SELECT value FROM facts").fetchone()
        return index
    except sqlite3.DatabaseError:
        index.close()
        return None


def _cache_folders() -> Iterator[Path]:
    """Where an index may be kept, best first."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if Path(named).is_absolute():
        yield Path(named) / "statecraft"
    else:
        with contextlib.suppress(RuntimeError):
            yield Path.home() / ".cache" / "statecraft"
    yield Path(tempfile.gettempdir()) / f"statecraft-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([FORMAT, *parts]).encode(errors="surrogatepass")).hexdigest()[:16]
