"""Telling a dead holder from a live one, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from statecraft.engine import owner

CHILD = """
import sys
from statecraft.engine import owner
print(owner.this_process("child"), flush=True)
sys.stdin.read()
"""


def child() -> tuple[subprocess.Popen[str], str]:
    """A process that waits for the end of its input, and its owner name."""
    started = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    return started, started.stdout.readline().strip()


def test_a_process_that_runs_is_not_gone_and_one_that_ended_is() -> None:
    process, name = child()
    with process:
        assert not owner.gone(name)
        process.kill()
    assert owner.gone(name)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells a zombie from a live process")
def test_a_zombie_holds_its_number_but_is_gone() -> None:
    process, name = child()
    with process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It ended, and nobody has buried it.
        os.kill(process.pid, 0)
        assert owner.gone(name)


def test_this_process_is_not_gone() -> None:
    assert not owner.gone(owner.this_process("me"))


def test_a_number_that_was_given_to_another_process_since_is_of_one_that_is_gone() -> None:
    host, namespace, pid, started, nonce = owner.this_process("me").split("/")
    if started == "0":
        pytest.skip("the start of a process is not known here")
    assert owner.gone("/".join([host, namespace, pid, str(int(started) - 1), nonce]))


def test_a_live_process_that_may_not_be_looked_at_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    name = owner.this_process("me")
    monkeypatch.setattr(owner, "_started", lambda pid: "0")  # As where /proc hides the processes of others.
    assert not owner.gone(name)


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: ["elsewhere", *parts[1:]],
        lambda parts: [parts[0], "another", *parts[2:]],
        lambda parts: parts[:4],
        lambda parts: [*parts[:2], "not a number", *parts[3:]],
        lambda parts: [*parts[:2], "-1", *parts[3:]],
        lambda parts: [*parts[:2], "9" * 30, *parts[3:]],
    ],
)
def test_in_doubt_nobody_is_gone(change: Callable[[list[str]], list[str]]) -> None:
    assert not owner.gone("/".join(change(owner.this_process("me").split("/"))))
