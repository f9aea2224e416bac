"""Reading changes from git: every kind of change, and repositories that would like to run something or be written to."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from machines.changes import diff_of, is_test, lines_of
from machines.file_review import problems_of
from machines.git import GitError, Snapshot, find_repository, resolve, run_git
from machines.review_prompts import Comment, Comments
from machines.review_tools import Reader, open_change, read_diff
from machines.sandbox import check_out, run_command
from machines.worktree import snapshot_tree
from tests.machines.review_cases import Files, Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "repo")
    repo.commit({"a.py": "one\ntwo\nthree\n", "b.py": "b\n" * 30, "c.py": "c\n"})
    return repo


def opened(repo: Repo, range: str = "HEAD~1..HEAD") -> dict[str, tuple[str, int, int]]:
    """The files to read, and how they changed."""
    found = open_change(str(repo.folder), range, "/nonexistent/out")
    assert found.problem == ""
    return {change.path: (change.status, change.added, change.removed) for change in found.files}


def left(repo: Repo) -> dict[str, str]:
    return {each.path: each.reason for each in open_change(str(repo.folder), "HEAD~1..HEAD", "/nonexistent/out").left}


def test_changes_of_every_kind_are_told_apart(repo: Repo) -> None:
    (repo.folder / "link").symlink_to("/etc/passwd")
    repo.commit(
        {
            "a.py": "one\nTWO\nthree\n",
            "b.py": None,
            "moved/é ü\n.py": b"x\n",
            "moved/b2.py": "b\n" * 30 + "more\n",
            "c.py": None,
            "logo.png": b"\0\1\2",
            "uv.lock": "x\n",
            "empty.py": "",
            "日本.py": "x\n",
        }
    )
    (repo.folder / os.fsdecode(b"\xff.py")).write_text("x\n")
    repo.git("add", "-A")
    repo.git("commit", "-q", "--amend", "-m", "all")
    assert opened(repo) == {"a.py": ("modified", 1, 1), "moved/b2.py": ("renamed", 1, 0), "日本.py": ("added", 1, 0)}
    assert left(repo) == {
        "c.py": "it was deleted",
        "logo.png": "it is binary",
        "uv.lock": "it is generated",
        "empty.py": "nothing was added to it",
        "link": "it is a link",
        "\\xff.py": "its name is no plain text",
        "moved/é ü\\n.py": "its name is no plain text",
    }


def test_a_diff_shows_the_numbers_of_the_new_lines(repo: Repo) -> None:
    repo.commit({"a.py": "one\nTWO\u2028\x1b[2J\nthree\nfour"})
    found = open_change(str(repo.folder), "HEAD~1..HEAD", "/nonexistent/out")
    diff = diff_of(Snapshot(found.snapshot), found.files[0])
    assert diff == "@@ from line 1\n    1   one\n      - two\n    2 + TWO  [2J\n    3   three\n    4 + four"
    assert lines_of(diff) == {1: False, 2: True, 3: False, 4: True}


def test_a_comment_must_be_on_a_line_of_the_diff() -> None:
    diff = "@@ from line 7\n    7   seven\n    8 + eight"
    answer = Comments(comments=[Comment(line=line, severity="note", text="x", suggestion="") for line in (7, 8, 9)])
    assert problems_of(answer, diff) == ["comments.2.line: 9 is no numbered line of the diff"]


@pytest.mark.slow
def test_three_dots_compare_with_where_the_branches_went_apart(repo: Repo) -> None:
    repo.git("checkout", "-q", "-b", "feature")
    repo.commit({"new.py": "x\n"})
    repo.git("checkout", "-q", "main")
    repo.commit({"main.py": "y\n"})
    assert set(opened(repo, "main...feature")) == {"new.py"}
    assert set(opened(repo, "feature..main")) == {"main.py"}


@pytest.mark.slow
def test_the_working_tree_is_reviewed_as_it_is_and_stays_as_it_is(repo: Repo) -> None:
    repo.commit({".gitignore": "*.log\n", "gone.py": "x\n", "sub/x.py": "x\n"})
    repo.write({"a.py": "one\ntwo\nthree\nfour\n", "new.py": "n\n", "staged.py": "s\n", "x.log": "x\n", "gone.py": None})
    repo.git("add", "staged.py")
    os.mkfifo(repo.folder / "pipe")
    nested = Repo(repo.folder / "nested")
    nested.commit({"inner.py": "x\n"})
    before = repo.everything()
    assert opened(repo, "") == {"a.py": ("modified", 1, 0), "new.py": ("added", 1, 0), "staged.py": ("added", 1, 0)}
    assert repo.everything() == before


@pytest.mark.slow
def test_a_file_in_place_of_another_repository_is_read_as_new(repo: Repo) -> None:
    head = repo.git("rev-parse", "HEAD")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{head[::-1]},other.py")
    repo.git("commit", "-qm", "of another repository only the commit is known")
    repo.write({"other.py": "x\n"})
    for which in ("", "HEAD~1..HEAD"):
        change = open_change(str(repo.folder), which, "/nonexistent/out")
        (file,) = change.files
        assert read_diff(change.snapshot, file).text == "@@ from line 1\n    1 + x"
        repo.commit({})


@pytest.mark.slow
def test_a_folder_that_became_a_link_is_not_followed(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"sub/x.py": "x\n"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.py").write_text("x\nsecret\n")
    (repo.folder / "sub" / "x.py").unlink()
    (repo.folder / "sub").rmdir()
    (repo.folder / "sub").symlink_to(tmp_path / "elsewhere")
    found = open_change(str(repo.folder), "", "/nonexistent/out")
    assert (found.files, {each.path: each.reason for each in found.left}) == (
        [],
        {"sub": "it is a link", "sub/x.py": "it was deleted"},
    )


HOSTILE = """\
[core]
    fsmonitor = "touch {mark}; false"
    hooksPath = {folder}/hooks
    pager = touch {mark}
    sshCommand = touch {mark}
    worktree = /etc
[diff]
    external = touch {mark}
[diff "evil"]
    textconv = touch {mark}; cat
    command = touch {mark}
[filter "evil"]
    clean = touch {mark}; cat
    smudge = touch {mark}; cat
    process = touch {mark}
    required = true
[remote "origin"]
    url = ext::sh -c "touch% {mark}"
    promisor = true
    uploadpack = touch {mark}
    partialclonefilter = blob:none
[alias]
    diff = !touch {mark}
    rev-parse = !touch {mark}
"""


@pytest.mark.slow
def test_a_hostile_repository_runs_nothing_and_stays_as_it_is(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, hooks = tmp_path / "mark", tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "post-checkout", "reference-transaction", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / name).chmod(0o755)
    repo.commit({".gitattributes": "* diff=evil filter=evil\n", "a.py": "one\n2\n", "x.bin": b"\0"})
    repo.write({"a.py": "one\n3\n", "b.py": "b\n"})
    with (repo.folder / ".git/config").open("a") as config:
        config.write(HOSTILE.format(mark=mark, folder=hooks))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", f"touch {mark}")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {mark}")
    before = repo.everything()
    for number, given in enumerate(("HEAD~1..HEAD", "HEAD~1...HEAD", "", "HEAD")):
        found = open_change(str(repo.folder), given, str(tmp_path / "out"))
        assert (found.problem, [change.path for change in found.files][:1]) == ("", ["a.py"])
        assert "one" in diff_of(Snapshot(found.snapshot), found.files[0])
        reader = Reader(found.snapshot, found.head, "a.py")
        assert reader.show_lines(1, 9).startswith("    1   one\n    2   ")
        assert [hit.path for hit in reader.find_text("one")] == ["a.py"]
        check_out(Snapshot(found.snapshot), found.head, _empty(tmp_path / f"copy{number}"))
    missing = "d" * 40
    assert "there is no commit" in open_change(str(repo.folder), f"{missing}..HEAD", "/nonexistent/out").problem
    assert not mark.exists()
    assert repo.everything() == before
    # The trap is real: git as it comes springs it.
    subprocess.run(
        ["git", "-C", str(repo.folder), "status"], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, check=False
    )
    assert mark.exists()


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("range", ["--output=x..HEAD", "HEAD..nowhere", "HEAD\n..HEAD", "x" * 400, "HEAD:a.py.."])
def test_a_range_that_names_no_commits_is_told(repo: Repo, range: str) -> None:
    before = repo.everything()
    assert "commit" in open_change(str(repo.folder), range, "/nonexistent/out").problem
    assert repo.everything() == before


def test_what_is_no_repository_is_told(tmp_path: Path) -> None:
    assert open_change(str(tmp_path / "nowhere"), "", "/x").problem == f"there is no folder {tmp_path / 'nowhere'}"
    assert "not a git repository" in open_change(str(tmp_path), "", "/x").problem


@pytest.mark.parametrize("inside", ["reviews", ".git/x.json", "a/../b.md"])
def test_a_review_is_never_written_into_the_repository(repo: Repo, inside: str) -> None:
    assert "never written to" in open_change(str(repo.folder), "", str(repo.folder / inside)).problem


@pytest.mark.parametrize(("files", "why"), [({"deep": "x\n" * 30}, "printed more than 40 bytes")])
def test_git_is_stopped_when_it_prints_too_much(repo: Repo, files: Files, why: str) -> None:
    repo.commit(files)
    with pytest.raises(GitError, match=why):
        run_git("cat-file", "blob", "HEAD:deep", cwd=str(repo.folder), limit=40)


@pytest.mark.slow
def test_a_bare_repository_has_ranges_but_no_working_tree(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"new.py": "x\n"})
    repo.git("clone", "-q", "--bare", str(repo.folder), str(tmp_path / "bare"))
    bare = str(tmp_path / "bare")
    assert [change.path for change in open_change(bare, "HEAD~1..HEAD", "/x").files] == ["new.py"]
    assert "no working tree" in open_change(bare, "", "/x").problem


@pytest.mark.slow
def test_a_repository_with_long_ids_is_read_too(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "long", "--object-format=sha256")
    repo.commit({"a.py": "x\n"})
    repo.write({"b.py": "y\n"})
    assert opened(repo, "") == {"b.py": ("added", 1, 0)}


@pytest.mark.slow
def test_the_reader_shows_nothing_outside_the_new_tree(repo: Repo) -> None:
    (repo.folder / "link").symlink_to("/etc/passwd")
    head = repo.commit({"sub/x.py": "one\ntwo\n"})
    snapshot = Snapshot.of(find_repository(str(repo.folder)), repo.folder.parent / "cache")
    reader = Reader(snapshot.folder, snapshot.tree_of(resolve(str(repo.folder), head)), "sub/x.py")
    assert reader.show_lines(2, 9) == "    2   two\n    3   "
    assert reader.find_text("no such words at all") == []
    for path in ("link", "/etc/passwd", "../x", "sub", "sub/", "nowhere", ":(glob)**"):
        with pytest.raises(ValueError, match=r"there is no file|cannot be shown"):
            reader.show_lines(1, 2, path)
    with pytest.raises(ValueError, match="count from 1"):
        reader.show_lines(3, 2)


@pytest.mark.slow
def test_a_copy_has_no_links_out_of_it_and_nothing_of_git(repo: Repo, tmp_path: Path) -> None:
    (repo.folder / "out").symlink_to("/etc")
    (repo.folder / "up").symlink_to("../..")
    (repo.folder / "in").symlink_to("a.py")
    (repo.folder / "by").symlink_to("way/../secret")
    (repo.folder / "way").symlink_to(".")
    head = repo.commit({"run.sh": "#!/bin/sh\n"})
    snapshot = Snapshot.of(find_repository(str(repo.folder)), tmp_path / "cache")
    check_out(snapshot, snapshot.tree_of(head), _empty(tmp_path / "copy"))
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["a.py", "b.py", "c.py", "in", "run.sh", "way"]
    assert (tmp_path / "copy" / "in").read_text() == "one\ntwo\nthree\n"


@pytest.mark.slow
def test_a_link_that_cannot_be_made_is_told(repo: Repo, tmp_path: Path) -> None:
    snapshot = Snapshot.of(find_repository(str(repo.folder)), tmp_path / "cache")
    blob = snapshot.git("hash-object", "-w", "--stdin", stdin=b"a\0b").decode().strip()
    tree = snapshot.git("mktree", stdin=f"120000 blob {blob}\tlink\n".encode()).decode().strip()
    ended = asyncio.run(run_command(snapshot, tree, ["true"], 5, 400))
    assert (ended.outcome, "cannot be copied" in ended.output) == ("not_started", True)


def test_a_tree_with_a_path_that_leads_out_is_refused(repo: Repo, tmp_path: Path) -> None:
    snapshot = Snapshot.of(find_repository(str(repo.folder)), tmp_path / "cache")
    blob = snapshot.empty_blob
    inner = snapshot.git("mktree", "--missing", stdin=f"100644 blob {blob}\t..\n".encode()).decode().strip()
    with pytest.raises(GitError, match="a path that cannot be"):
        check_out(snapshot, inner, _empty(tmp_path / "copy"))


@pytest.mark.slow
def test_too_many_changes_in_the_working_tree_are_refused(repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("machines.worktree.MOST_CHANGED", 2)
    repo.write({f"n{number}": "x" for number in range(3)})
    place = find_repository(str(repo.folder))
    snapshot = Snapshot.of(place, tmp_path / "cache")
    with pytest.raises(GitError, match="review a range"):
        snapshot_tree(place, snapshot, resolve(str(repo.folder), "HEAD"))


@pytest.mark.parametrize(
    ("path", "answer"),
    [("tests/a.py", True), ("a/test_b.py", True), ("b.spec.ts", True), ("contest.py", False), ("latest/a.py", False)],
)
def test_tests_are_known_by_their_names(path: str, answer: bool) -> None:
    assert is_test(path) is answer
