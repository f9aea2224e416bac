"""Running a repository's tests: within limits, without our environment, and gone without a trace."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from machines import sandbox
from machines.git import Snapshot, find_repository
from machines.sandbox import TestReport, check_out, run_command
from tests.machines.review_cases import Repo

pytestmark = pytest.mark.slow
Go = Callable[..., TestReport]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, str]:
    """A snapshot of a small repository, and its tree."""
    repo = Repo(tmp_path_factory.mktemp("sandbox") / "repo")
    head = repo.commit({"hello.txt": "hello\n"})
    snapshot = Snapshot.of(find_repository(str(repo.folder)), repo.folder.parent / "cache")
    return snapshot, snapshot.tree_of(head)


@pytest.fixture
def run(tree: tuple[Snapshot, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """`run(source, ...)`: a Python program in the copy."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def go(source: str, *arguments: str, seconds: int = 20, megabytes: int = 400, limit: int = 1_000_000) -> TestReport:
        command = [sys.executable, "-I", "-c", source, *arguments]
        ended = asyncio.run(run_command(*tree, command, seconds, megabytes, limit))
        assert list(tmp_path.glob("statecraft-tests-*")) == []
        return ended

    return go


def alive(pids: Sequence[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            found += [pid] if state != "Z" else []
    return found


def test_a_command_sees_the_copy_and_none_of_our_keys(run: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-for-you")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-you")
    ended = run("import os; print(open('hello.txt').read(), sorted(os.environ), os.environ['HOME'], os.getcwd())")
    assert (ended.outcome, ended.exit_code) == ("passed", 0)
    assert "hello" in ended.output
    assert "KEY" not in ended.output
    assert ended.output.count("statecraft-tests-") == 2


def test_a_command_that_fails_says_so(run: Go) -> None:
    ended = run("import sys; print('three failed'); sys.exit(3)")
    assert (ended.outcome, ended.exit_code, ended.output) == ("failed", 3, "three failed\n")


def test_a_command_can_end_what_it_starts(run: Go) -> None:
    """No signal is ignored below it: a test suite that terminates a server and waits for it would hang."""
    ended = run("import subprocess; server = subprocess.Popen(['sleep', '600']); server.terminate(); print(server.wait())")
    assert (ended.outcome, ended.output) == ("passed", "-15\n")


def test_a_command_may_use_all_processors_for_the_whole_time(run: Go) -> None:
    ended = run("import os, resource; print(resource.getrlimit(resource.RLIMIT_CPU)[0] >= 20 * os.cpu_count())")
    assert ended.output == "True\n"


def test_a_command_that_hangs_is_stopped_with_all_it_started(run: Go, tmp_path: Path) -> None:
    started = tmp_path / "pids"
    source = (
        "import os, sys, time\n"
        "def note():\n    open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')\n"
        "note()\n"
        "for _ in range(3):\n    if not os.fork():\n        os.setsid(); os.fork(); note(); time.sleep(600)\n"
        "time.sleep(600)"
    )
    pids: list[int] = []
    for patience in (1, 4, 16):  # A machine under load may need longer to start all of them.
        ended = run(source, str(started), seconds=patience)
        assert (ended.outcome, ended.exit_code) == ("timed_out", None)
        pids = [int(line) for line in started.read_text().split()] if started.exists() else []
        assert alive(pids) == []
        if len(pids) == 7:
            break
        started.unlink(missing_ok=True)
    assert len(pids) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process can die with its parent")
def test_a_command_whose_guard_was_killed_does_not_run_on(run: Go) -> None:
    ended = run("import os, time; print('begun', flush=True); os.kill(os.getppid(), 9); time.sleep(5); print('survived')")
    assert (ended.outcome, ended.output) == ("unknown", "begun\n")


def test_what_a_command_leaves_behind_is_stopped(run: Go, tmp_path: Path) -> None:
    source = "import os, sys, time\npid = os.fork()\nif not pid:\n    os.setsid(); time.sleep(600)\nprint(pid)"
    ended = run(source)
    assert ended.outcome == "passed"
    assert alive([int(ended.output)]) == []


def test_a_command_that_eats_memory_is_refused_it(run: Go) -> None:
    ended = run("x = 'a' * 800_000_000")
    assert (ended.outcome, "MemoryError" in ended.output) == ("failed", True)


def test_of_megabytes_only_the_ends_are_kept(run: Go) -> None:
    ended = run("print('begin'); print('x' * 700_000); print('end')")
    assert (ended.outcome, ended.printed) == ("passed", 700_011)
    assert ended.output.startswith("begin\nxxx")
    assert ended.output.endswith("xxx\nend\n")
    assert len(ended.output) < 11_000


def test_a_command_that_prints_without_end_is_stopped(run: Go) -> None:
    assert run("while True: print('x' * 10_000)").outcome == "too_much_output"


def test_a_command_that_is_not_there_is_told(tree: tuple[Snapshot, str]) -> None:
    ended = asyncio.run(run_command(*tree, ["no-such-program"], 5, 400))
    assert (ended.outcome, ended.output) == ("not_started", "no-such-program: No such file or directory")


def test_a_run_that_is_cancelled_leaves_nothing_behind(tree: tuple[Snapshot, str], tmp_path: Path) -> None:
    started = tmp_path / "pid"
    source = (
        "import os, sys, time; open(sys.argv[1] + 'x', 'w').write(str(os.getpid())); "
        "os.rename(sys.argv[1] + 'x', sys.argv[1]); time.sleep(600)"
    )

    async def go() -> None:
        running = asyncio.create_task(run_command(*tree, [sys.executable, "-c", source, str(started)], 600, 400))
        while not started.exists():
            assert not running.done()
            await asyncio.sleep(0.01)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(go())
    assert alive([int(started.read_text())]) == []


def test_a_run_that_is_cancelled_while_it_copies_leaves_nothing_behind(
    tree: tuple[Snapshot, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def slow(snapshot: Snapshot, tree: str, folder: Path) -> None:
        begun.set()
        cancelled.wait()
        folder.mkdir(parents=True, exist_ok=True)
        check_out(snapshot, tree, folder)

    async def go() -> None:
        running = asyncio.create_task(run_command(*tree, ["true"], 5, 400))
        await asyncio.to_thread(begun.wait)
        running.cancel()
        await asyncio.wait({running}, timeout=0.1)
        cancelled.set()
        await asyncio.wait({running})

    monkeypatch.setattr(sandbox, "check_out", slow)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    asyncio.run(go())
    assert list(tmp_path.iterdir()) == []


def test_when_the_holder_is_gone_the_command_is_stopped(tmp_path: Path) -> None:
    """The guard hears that its standard input closed, which is all that a killed process leaves."""
    source = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
    guard = Path(sys.modules["machines.sandbox"].__file__ or "").with_name("guard.py")

    async def go() -> int:
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(guard), "2", "600", "400", sys.executable, "-c", source),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert running.stdout is not None
        assert running.stdin is not None
        pid = int(await running.stdout.readline())
        running.stdin.close()
        await running.wait()
        return pid

    assert alive([asyncio.run(go())]) == []
