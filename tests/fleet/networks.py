"""Two hosts on one machine: network namespaces that reach a database over a bridge, until their cable is pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

SERVER = "10.231.0.1"
"""Where the database listens, as the hosts see it."""


class Refused(Exception):
    """This machine lets us make no namespaces; the message says why."""


class Networks:
    """A bridge and `hosts`, each a network namespace with one cable to it. Raises `Refused` where that is not allowed."""

    def __init__(self, *hosts: str) -> None:
        self._tag = f"sc{os.getpid() % 10_000}"
        self._hosts = hosts
        self._made: list[tuple[str, ...]] = []

    def __enter__(self) -> Self:
        if shutil.which("ip") is None:
            raise Refused("the program `ip` is not installed")
        bridge = f"{self._tag}br"
        try:
            self._make(("link", "add", bridge, "type", "bridge"), ("link", "del", bridge))
            _ip("addr", "add", f"{SERVER}/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            for number, host in enumerate(self._hosts, 2):
                self._plug(bridge, host, f"10.231.0.{number}/24")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._remove()

    def command(self, host: str, *words: str) -> list[str]:
        """A command as the host would run it."""
        return ["ip", "netns", "exec", self._name(host), *words]

    def cut(self, host: str) -> None:
        """Pull the host's cable: nothing arrives, in either direction, and nobody is told."""
        _ip("link", "set", self._cable(host), "down")

    def mend(self, host: str) -> None:
        """Put the cable back."""
        _ip("link", "set", self._cable(host), "up")

    def _name(self, host: str) -> str:
        return f"{self._tag}{host}"

    def _cable(self, host: str) -> str:
        return f"{self._tag}{host}0"

    def _plug(self, bridge: str, host: str, address: str) -> None:
        name, near, far = self._name(host), self._cable(host), f"{self._tag}{host}1"
        self._make(("netns", "add", name), ("netns", "del", name))
        self._make(("link", "add", near, "type", "veth", "peer", "name", far, "netns", name), ("link", "del", near))
        _ip("link", "set", near, "master", bridge, "up")
        for words in (("addr", "add", address, "dev", far), ("link", "set", far, "up"), ("link", "set", "lo", "up")):
            _ip("-n", name, *words)

    def _make(self, words: tuple[str, ...], undo: tuple[str, ...]) -> None:
        _ip(*words)
        self._made.append(undo)

    def _remove(self) -> None:
        while self._made:
            subprocess.run(["ip", *self._made.pop()], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"`ip {' '.join(words)}` says: {done.stderr.strip()}")
