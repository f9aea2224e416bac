from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from machines import corpus
from machines.corpus import CorpusError, excerpt, fetch, match_expression, search, survey
from machines.reading import SECTION, library_documents, library_root, public_module, sections

pytestmark = pytest.mark.slow
"""Reading all of the library's documents takes seconds."""


@pytest.mark.slow
def test_the_default_corpus_is_the_documentation_of_the_standard_library() -> None:
    found = survey()
    assert found.problem == ""
    assert found.documents > 3_000
    assert found.name == f"Python {sys.version_info.major}.{sys.version_info.minor} standard library"


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("shuffle list in place", "random.Random.shuffle"),
        ("wait for coroutine with timeout", "asyncio.tasks.wait_for"),
        ("measure execution time of small code snippets", "timeit"),
        ("create temporary directory", "tempfile.TemporaryDirectory"),
    ],
)
def test_a_search_finds_the_obvious_document_among_the_first_hits(query: str, document: str) -> None:
    assert document in [hit.document for hit in search(query, limit=3)]


def test_hits_come_best_first_and_the_same_each_time() -> None:
    hits = search("copy directory tree", limit=10)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits == search("copy directory tree", limit=10)


def test_a_fetched_document_holds_its_excerpt() -> None:
    hit = search("shuffle list in place", limit=1)[0]
    document = fetch(hit.document)
    assert document.text.startswith(hit.excerpt.split("\n")[0])
    assert document.place == "random.py"


def test_fetching_what_does_not_exist_names_it() -> None:
    with pytest.raises(CorpusError, match=r"no document 'random\.nothing'"):
        fetch("random.nothing")


@pytest.mark.parametrize(
    "query", ['"', "a AND", "title:x OR (", "NEAR(a b", "x* -y ^z", "'; DROP TABLE documents; --", "\0", "{a b}:c"]
)
def test_no_query_is_taken_for_search_syntax(query: str) -> None:
    search(query)
    assert survey().documents > 0


def test_a_query_without_words_finds_nothing() -> None:
    assert match_expression("?! --") == ""
    assert search("?! --") == []


def test_names_are_found_by_their_parts() -> None:
    assert match_expression("TemporaryDirectory") == '"temporarydirectory" OR "temporary" OR "directory"'
    assert match_expression("wait_for") == '"wait" OR "for"'


def test_sources_are_parsed_and_never_imported(tmp_path: Path) -> None:
    (tmp_path / "os.py").write_text('"""A module that must not run."""\nraise SystemExit\n')
    assert [document.id for document in library_documents(tmp_path)] == ["os"]


def test_a_source_that_does_not_parse_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text('def public():\n    """Says something worth reading."""\n')
    (tmp_path / "bad.py").write_text("def (:\n")
    (tmp_path / "latin.py").write_bytes(b'# -*- coding: latin-1 -*-\n"""Caf\xe9 is served all day long."""\n')
    assert [document.id for document in library_documents(tmp_path)] == ["good.public", "latin"]


@pytest.mark.parametrize(
    ("place", "module"),
    [
        ("shutil.py", "shutil"),
        ("asyncio/__init__.py", "asyncio"),
        ("asyncio/tasks.py", "asyncio.tasks"),
        ("_pydecimal.py", "decimal"),
        ("pathlib/_local.py", "pathlib"),
        ("_collections_abc.py", "collections.abc"),
        ("_strptime.py", ""),
        ("venv/__main__.py", ""),
    ],
)
def test_a_module_goes_by_the_name_people_know(place: str, module: str) -> None:
    assert public_module(place) == module


@pytest.mark.slow
def test_private_names_are_not_indexed() -> None:
    names = [document.id for document in library_documents(library_root())]
    assert len(names) == len(set(names))
    assert not [name for name in names if any(part.startswith("_") for part in name.split("."))]


def test_a_python_without_sources_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "library_root", lambda: tmp_path)
    assert "no standard library sources" in survey().problem


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_searched_in_place_of_the_library(library: Path) -> None:
    folder = str(library)
    assert survey(folder).documents == 3
    assert search("brewing green tea", folder=folder)[0].document == "tea.md"
    coffee = "Coffee is brewed with water just below boiling.\n\nGrind the beans first."
    assert fetch("deep/coffee.txt", folder=folder).text == coffee
    assert search("tea", folder=folder)[0].title == "tea.md: Brewing tea"


def test_a_changed_folder_is_indexed_again_and_the_old_index_goes(library: Path, cache: Path) -> None:
    folder = str(library)
    assert not search("cocoa", folder=folder)
    before = set((cache / "statecraft").glob("*.db"))
    (library / "cocoa.txt").write_text("Cocoa is stirred into hot milk.")
    assert [hit.document for hit in search("cocoa", folder=folder)] == ["cocoa.txt"]
    assert len(set((cache / "statecraft").glob("*.db"))) == len(before)


def test_python_files_of_a_folder_are_read_by_their_docstrings(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text('def boil():\n    """Heat the water until it bubbles."""\n    secret = 1\n')
    assert fetch("tool.boil", folder=str(tmp_path)).text == "Heat the water until it bubbles."


def test_binary_large_hidden_and_linked_files_are_left_out(library: Path, tmp_path: Path) -> None:
    (library / "binary.txt").write_bytes(b"tea\0tea")
    (library / "large.txt").write_text("tea " * 600_000)
    (library / ".hidden.txt").write_text("secret tea")
    (tmp_path / "outside.txt").write_text("tea from elsewhere")
    (library / "link.txt").symlink_to(tmp_path / "outside.txt")
    found = survey(str(library))
    assert (found.documents, found.skipped) == (3, 2)
    assert not search("secret elsewhere", folder=str(library))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda place: place / "nowhere", "there is no folder"),
        (lambda place: (place / "empty").mkdir() or place / "empty", "has no text files"),
        (lambda place: (place / "file.txt").write_text("x") and place / "file.txt", "is a file"),
    ],
)
def test_a_folder_that_cannot_be_searched_says_why(make: object, problem: str, tmp_path: Path) -> None:
    assert callable(make)
    folder = str(make(tmp_path))
    assert problem in survey(folder).problem
    with pytest.raises(CorpusError, match=problem):
        search("tea", folder=folder)


def test_a_folder_with_too_many_files_is_refused(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "MOST_FILES", 2)
    assert "more than 2 text files" in survey(str(library)).problem


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_says_so(library: Path) -> None:
    library.chmod(0)
    try:
        assert "cannot be read" in survey(str(library)).problem
    finally:
        library.chmod(0o700)


def test_empty_files_alone_are_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text("\n\n")
    assert "no text to search" in survey(str(tmp_path)).problem


def test_a_long_text_becomes_several_documents_that_hold_all_of_it() -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 100 for number in range(40)) + "\n\n" + "x" * (SECTION + 10)
    parts = list(sections("a.txt", "a", "a.txt", text))
    assert [part.id for part in parts[:3]] == ["a.txt", "a.txt#2", "a.txt#3"]
    assert max(len(part.text) for part in parts) <= SECTION
    assert "".join("".join(part.text for part in parts).split()) == "".join(text.split())


def test_an_excerpt_is_the_beginning_and_the_paragraph_that_fits() -> None:
    assert excerpt("What it is.\n\nOther.\n\nHow tea is brewed.", ["tea", "brewe"[:5]]) == "What it is.\n\nHow tea is brewed."
    assert excerpt("", ["tea"]) == ""


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_index_is_built_once(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey(str(library))
    monkeypatch.setattr(corpus, "read_folder", lambda *_: pytest.fail("the index was built again"))
    assert survey(str(library)).documents == 3


def test_a_damaged_index_is_built_anew(library: Path, cache: Path) -> None:
    known = set((cache / "statecraft").glob("*.db"))
    survey(str(library))
    (index,) = set((cache / "statecraft").glob("*.db")) - known
    index.write_bytes(b"this is no database at all")
    assert survey(str(library)).documents == 3


def test_without_a_folder_to_write_to_the_index_lives_in_memory(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setattr(corpus, "_cache_folders", lambda: iter([blocked / "statecraft"]))
    assert search("green tea", folder=str(library))[0].document == "tea.md"


def test_an_index_is_never_written_to_by_a_search(library: Path) -> None:
    index = corpus.find_corpus(str(library)).open()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        index.execute("DELETE FROM documents")
    index.close()


@pytest.mark.slow
def test_building_the_default_index_takes_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    begun = time.process_time()
    assert survey().documents > 3_000
    assert time.process_time() - begun < 9.0
