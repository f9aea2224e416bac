"""The program that runs a command within limits: `python -I guard.py REPORT SECONDS MEGABYTES COMMAND...`.

It stays the parent of whatever the command starts, even of what detaches itself (on Linux), and kills all of it when the
command ends, when time is up, or when standard input closes, which is how it learns that its own parent is gone. How it went
is written to the file descriptor REPORT: why it could not be started, if so, and on the next line an exit code, `timeout` or
`left`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

SUBREAPER = 36
"""`PR_SET_CHILD_SUBREAPER` of prctl(2): orphans below us become our children."""
DEATH_SIGNAL = 1
"""`PR_SET_PDEATHSIG`: what we get when our parent dies."""
FILES = 512
LARGEST_FILE = 256_000_000


def _control(what: int, value: int) -> None:
    """prctl(2), where there is one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(what, value, 0, 0, 0)


def limit(seconds: float, megabytes: int) -> None:
    """Bound what the command and each of its children may use."""
    for what, wanted in (
        (resource.RLIMIT_CPU, int(seconds) * (os.cpu_count() or 1) + 1),  # What all threads of a program may use together.
        (resource.RLIMIT_AS, megabytes * 1_000_000),
        (resource.RLIMIT_FSIZE, LARGEST_FILE),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # A system that does not know this limit.
            resource.setrlimit(what, (most, most))


def start(command: list[str], report: int, seconds: float, megabytes: int) -> int:
    """Fork the command, in a group of its own."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for each in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):  # What we or Python ignore, it would ignore too.
            signal.signal(each, signal.SIG_DFL)
        _control(DEATH_SIGNAL, signal.SIGKILL)  # With nobody to watch it, it would run without an end.
        limit(seconds, megabytes)
        os.set_inheritable(report, False)
        os.execvp(command[0], command)  # noqa: S606  # as the reviewer approved it
    except OSError as error:
        os.write(report, f"{command[0]}: {error.strerror}".encode())
    finally:
        os._exit(127)


def below(pid: int) -> list[int]:
    """All processes below one, as far as the system tells."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *below(int(child))]
    return found


def sweep(group: int) -> None:
    """Kill everything that the command left behind, until nothing is left or nothing more can be done."""
    for _ in range(200):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        for pid in below(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def watch(pid: int, seconds: float) -> str:
    """Wait for the command; what became of it."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return str(os.waitstatus_to_exitcode(status))
        if time.monotonic() >= until:
            return "timeout"
        if select.select([0], [], [], 0.02)[0] and not os.read(0, 1):
            return "left"


def main() -> None:
    """Run what the arguments say."""
    report, seconds, megabytes, *command = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _control(SUBREAPER, 1)
    pid = start(command, int(report), float(seconds), int(megabytes))
    said = watch(pid, float(seconds))
    sweep(pid)
    os.write(int(report), f"\n{said}".encode())


if __name__ == "__main__":
    main()
