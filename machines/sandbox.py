"""Running a repository's own tests: in a copy, without our environment, within limits, and gone without a trace.

This bounds what a command may use. It is no jail: the command runs as the same user, so it can read what the user can read,
and reach the network. That is why a person is asked first; run it in a container if you do not trust the repository at all.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from .git import GitError, Snapshot  # noqa: TID252

MOST_FILES = 20_000
MOST_BYTES = 300_000_000
"""Of the copy."""
MOST_PRINTED = 20_000_000
"""Bytes; a command that prints more is stopped."""
HEAD, TAIL = 2_000, 8_000
"""Bytes of the output that are kept."""
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "SYSTEMROOT")
"""What the command sees of our environment. No key is among it."""

Outcome = Literal["passed", "failed", "timed_out", "too_much_output", "not_started", "refused", "unknown"]


class TestReport(BaseModel):
    """How the tests of the repository went."""

    __test__ = False  # for pytest, which would take it for a test

    command: list[str] = []
    outcome: Outcome
    exit_code: int | None = None
    """Negative: the signal that ended it."""
    output: str = ""
    """How its output began and ended."""
    printed: int = 0
    """Bytes."""


@dataclass(slots=True)
class _Output:
    """The first and last bytes of what was printed."""

    head: bytes = b""
    tail: bytes = b""
    printed: int = 0

    def add(self, part: bytes) -> None:
        self.printed += len(part)
        room = HEAD - len(self.head)
        self.head += part[:room]
        self.tail = (self.tail + part[max(0, room) :])[-TAIL:]

    def text(self) -> str:
        left_out = self.printed - len(self.head) - len(self.tail)
        between = f"\n[{left_out:,} bytes left out]\n".encode() if left_out else b""
        said = (self.head + between + self.tail).decode(errors="replace")
        return "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in said)


def check_out(snapshot: Snapshot, tree: str, folder: Path) -> None:
    """Write the files of a tree into an empty folder, no filter applied. Links out of the folder are left out.

    Raises `GitError` for a tree that is too large or has a path that leads out of the folder.
    """
    entries = [entry for entry in snapshot.git("ls-tree", "-r", "-z", "-l", "--full-tree", tree).split(b"\0") if entry]
    if len(entries) > MOST_FILES:
        raise GitError(f"the tree has more than {MOST_FILES:,} files")
    left = MOST_BYTES
    wanted: list[tuple[bytes, bytes, bytes]] = []
    for entry in entries:
        about, _, path = entry.partition(b"\t")
        mode, _, blob, size = about.split()
        if any(part in {b"", b".", b".."} or part.lower() == b".git" for part in path.split(b"/")):
            raise GitError(f"the tree has a path that cannot be: {path!r}")
        if mode != b"160000":
            left -= int(size)
            wanted.append((mode, blob, path))
    if left < 0:
        raise GitError(f"the tree has more than {MOST_BYTES:,} bytes")
    _write(snapshot, wanted, folder)


def _write(snapshot: Snapshot, wanted: list[tuple[bytes, bytes, bytes]], folder: Path) -> None:
    asked = b"".join(blob + b"\n" for _, blob, _ in wanted)
    said = snapshot.git("cat-file", "--batch", stdin=asked, limit=MOST_BYTES + 200 * MOST_FILES)
    links: dict[Path, str] = {}
    at = 0
    for mode, _, path in wanted:
        end = said.index(b"\n", at)
        size = int(said[at:end].rsplit(b" ", 1)[1])
        content, at = said[end + 1 : end + 1 + size], end + 2 + size
        target = folder / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if mode == b"120000":
            links[target] = os.fsdecode(content)
        else:
            target.write_bytes(content)
            target.chmod(stat.S_IRWXU if mode == b"100755" else stat.S_IRUSR | stat.S_IWUSR)
    for target, goal in links.items():  # After all files, so that none is written through a link.
        target.symlink_to(goal)
    inside = folder.resolve()
    for target in links:  # After all links, for where one leads may depend on others.
        if not Path(os.path.realpath(target)).is_relative_to(inside):
            target.unlink()


async def run_command(
    snapshot: Snapshot, tree: str, command: list[str], seconds: int, megabytes: int, limit: int = MOST_PRINTED
) -> TestReport:
    """Run a command in a copy of a tree, and take the copy away. Whatever it started is killed, also if this is cancelled."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="statecraft-tests-"))
    laid = asyncio.ensure_future(asyncio.to_thread(_lay_out, snapshot, tree, folder))
    try:
        try:
            await asyncio.shield(laid)
        except (GitError, OSError, ValueError) as error:  # The last for a link that holds what no path can.
            return TestReport(command=command, outcome="not_started", output=f"the tree cannot be copied: {error}")
        return await _guarded(folder, command, seconds, megabytes, limit)
    finally:
        await asyncio.shield(_take_away(folder, laid))


def _lay_out(snapshot: Snapshot, tree: str, folder: Path) -> None:
    for inner in ("tree", "home", "tmp"):
        (folder / inner).mkdir()
    check_out(snapshot, tree, folder / "tree")


async def _take_away(folder: Path, laid: asyncio.Future[None]) -> None:
    await asyncio.gather(laid, return_exceptions=True)  # A thread goes on when it is cancelled, and would write it anew.
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _guarded(folder: Path, command: list[str], seconds: int, megabytes: int, limit: int) -> TestReport:
    report, wanted = os.pipe()
    guard = str(Path(__file__).with_name("guard.py"))
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    try:
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", guard, str(wanted), str(seconds), str(megabytes), *command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder / "tree",
            env=environment,
            pass_fds=[wanted],
            start_new_session=True,
        )
    except OSError as error:
        os.close(report)
        return TestReport(command=command, outcome="not_started", output=str(error.strerror))
    finally:
        os.close(wanted)
    output = _Output()
    try:
        flooded = await _drain(running, output, limit)
    finally:
        await asyncio.shield(_end(running))
        said = os.read(report, 4_000).decode(errors="replace")
        os.close(report)
    return _told(command, said, flooded, output)


async def _drain(running: asyncio.subprocess.Process, output: _Output, limit: int) -> bool:
    """Read what is printed, to its end; whether it was too much."""
    assert running.stdout is not None
    while part := await running.stdout.read(65_536):
        output.add(part)
        if output.printed > limit:
            return True
    return False


async def _end(running: asyncio.subprocess.Process) -> None:
    """Close the guard's standard input, upon which it kills everything, and wait for it."""
    assert running.stdin is not None
    running.stdin.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(running.communicate(), 10)
    if running.returncode is None:
        running.kill()
        await running.wait()


def _told(command: list[str], said: str, flooded: bool, output: _Output) -> TestReport:
    problem, _, code = said.rpartition("\n")
    if problem:
        return TestReport(command=command, outcome="not_started", output=problem.strip())
    number = int(code) if code.lstrip("-").isdigit() else None
    outcome: Outcome = "unknown"
    if flooded:
        outcome = "too_much_output"
    elif code == "timeout":
        outcome = "timed_out"
    elif number is not None:
        outcome = "passed" if number == 0 else "failed"
    return TestReport(command=command, outcome=outcome, exit_code=number, output=output.text(), printed=output.printed)
