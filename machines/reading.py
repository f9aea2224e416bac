"""Documents from files: text and Markdown by sections, Python sources by their docstrings. Nothing is ever imported."""

from __future__ import annotations

import ast
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

TEXT_SUFFIXES = (".md", ".py", ".rst", ".txt")
MOST_BYTES = 2_000_000
"""A larger file is left out."""
SECTION = 4_000
"""Characters; a longer text becomes several documents, cut between paragraphs."""
_SHORTEST = 20
_LEFT_OUT_NAMES = """
test tests idlelib lib2to3 turtledemo ensurepip distutils pydoc_data encodings site-packages dist-packages __pycache__
_pyrepl msilib lib-dynload __phello__
"""
"""Folders of the standard library that nobody asks about."""
_LEFT_OUT = frozenset(_LEFT_OUT_NAMES.split())


_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Document(BaseModel):
    """A text short enough to be read whole."""

    id: str
    """Unique in its corpus and the same each time it is read: `shutil.rmtree`, `notes/plan.md#2`."""
    title: str
    place: str
    """The file it comes from."""
    text: str


# --- folders ----------------------------------------------------------------------------------------------------------


def text_files(folder: Path) -> Iterator[Path]:
    """The text files under a folder in a fixed order, hidden ones and links left out. Raises `OSError` if it cannot be read."""
    os.scandir(folder).close()
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in {"__pycache__", "node_modules"})
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and path.suffix.lower() in TEXT_SUFFIXES and not path.is_symlink():
                yield path


def read_folder(folder: Path, files: Sequence[Path]) -> tuple[list[Document], int]:
    """The documents in some files of a folder, and how many of the files were left out."""
    documents: list[Document] = []
    skipped = 0
    for path in files:
        name = path.relative_to(folder).as_posix()
        text = _text(path)
        if text is None:
            skipped += 1
        elif path.suffix.lower() == ".py":
            documents += _docstrings(text, name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"), name)
        else:
            documents += sections(name, _title(text, name), name, text)
    return _unique(documents), skipped


def sections(id: str, title: str, place: str, text: str) -> Iterator[Document]:
    """A text as documents of at most `SECTION` characters, cut between paragraphs where that can be."""
    pieces: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        for start in range(0, max(1, len(paragraph)), SECTION):
            part = paragraph[start : start + SECTION].strip("\n")
            if pieces and len(pieces[-1]) + len(part) + 2 <= SECTION:
                pieces[-1] += f"\n\n{part}"
            elif part.strip():
                pieces.append(part)
    for number, piece in enumerate(pieces, 1):
        yield Document(id=id if number == 1 else f"{id}#{number}", title=title, place=place, text=piece)


def _text(path: Path) -> str | None:
    """The text of a file; None if it is too large, binary or unreadable."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        raw = path.read_bytes()
    except OSError:
        return None
    if b"\0" in raw[:8192]:
        return None
    return raw.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")


def _title(text: str, name: str) -> str:
    """The first Markdown heading if there is one, with the file's name."""
    heading = re.search(r"^#+ +(\S.*?) *#*$", text, re.MULTILINE)
    return f"{name}: {heading[1]}" if heading else name


# --- the standard library ---------------------------------------------------------------------------------------------


def library_root() -> Path:
    """Where the sources of this Python's standard library are."""
    return Path(sysconfig.get_path("stdlib"))


def library_documents(root: Path) -> list[Document]:
    """One document per docstring of the public modules, classes and functions under `root`."""
    documents: list[Document] = []
    for path in _library_files(root):
        place = path.relative_to(root).as_posix()
        module = public_module(place)
        text = _text(path) if module else None
        if text is not None:
            documents += _docstrings(text, module, place)
    return _unique(documents)


def public_module(place: str) -> str:
    """The name people know the module in a file by; empty if it has none.

    Some public modules live in private files: `_pydecimal.py` is `decimal`, `pathlib/_local.py` is part of `pathlib`.
    """
    if place == "_collections_abc.py":
        return "collections.abc"
    first, *rest = place.removesuffix(".py").removesuffix("/__init__").split("/")
    if first.startswith("_py"):
        first = first.removeprefix("_py").lstrip("_")
    if first.startswith("_") or "__main__" in rest:
        return ""
    return ".".join([first, *(part for part in rest if not part.startswith("_"))])


def _library_files(root: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("config-"))
        yield from (Path(place) / name for name in sorted(names) if name.endswith(".py"))


def _docstrings(source: str, module: str, place: str) -> Iterator[Document]:
    """The docstrings of a Python source; none if this Python cannot parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in other people's files are not ours to report
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    yield from _documented(tree, module, place)


def _documented(
    item: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str, place: str
) -> Iterator[Document]:
    text = ast.get_docstring(item)
    if text is not None and len(text) >= _SHORTEST:
        yield from sections(name, name, place, text)
    if isinstance(item, ast.Module | ast.ClassDef):
        for inner in _definitions(item.body):
            yield from _documented(inner, f"{name}.{inner.name}", place)


def _definitions(body: Sequence[ast.stmt]) -> Iterator[_Definition]:
    """The public definitions of a block, those under `if` and `try` included."""
    for item in body:
        if isinstance(item, _Definition):
            if not item.name.startswith("_"):
                yield item
        elif isinstance(item, ast.If):
            yield from _definitions([*item.body, *item.orelse])
        elif isinstance(item, ast.Try):
            handlers = [inner for handler in item.handlers for inner in handler.body]
            yield from _definitions([*item.body, *handlers, *item.orelse])


def _unique(documents: Sequence[Document]) -> list[Document]:
    """The first document of each id: a later definition of the same name seldom says more."""
    first: dict[str, Document] = {}
    for document in documents:
        first.setdefault(document.id, document)
    return list(first.values())
