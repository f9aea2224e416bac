"""Hints between processes that something is due, by NOTIFY and LISTEN. Polling is the truth; these only make it prompt.

They have connections of their own. A NOTIFY within a write transaction would take a lock of the whole server at its
commit, and so let one commit follow the other.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

import psycopg
from psycopg import sql

from statecraft.store.postgres.address import Target, connect

COALESCED = 0.02
"""Seconds in which all hints become one."""

_PATIENCE = 1.0
"""Seconds in which a thread must end; one that is just connecting is left to end by itself."""

_AGAIN = 1.0
"""Seconds before a lost listener connects anew."""

_CHANNEL = "SELECT left('statecraft.' || current_schema(), 63)"


class Hints:
    """Tells and hears hints about one database. Threads and connections begin with the first need."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._due = threading.Event()
        self._closed = threading.Event()
        self._teller: threading.Thread | None = None
        self._listeners: list[threading.Thread] = []
        self._wake_up: list[socket.socket] = []

    def tell(self) -> None:
        """Say soon that something is due. Never waits and never fails."""
        self._due.set()
        if self._teller is None and not self._closed.is_set():
            self._teller = threading.Thread(target=self._tell_for_ever, name="statecraft notify", daemon=True)
            self._teller.start()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` at every hint, and whenever some may have been missed."""
        ours, theirs = socket.socketpair()
        self._wake_up.append(ours)
        thread = threading.Thread(target=self._listen_for_ever, args=(wake, theirs), name="statecraft listen", daemon=True)
        self._listeners.append(thread)
        thread.start()

    def close(self) -> None:
        """End the threads."""
        self._closed.set()
        self._due.set()
        for wake_up in self._wake_up:
            wake_up.close()
        for thread in [*self._listeners, *([self._teller] if self._teller else [])]:
            thread.join(_PATIENCE)
        self._listeners, self._wake_up, self._teller = [], [], None

    # --- the telling thread ------------------------------------------------------------------------------------------

    def _tell_for_ever(self) -> None:
        link: psycopg.Connection[Any] | None = None
        while self._due.wait() and not self._closed.is_set():
            self._due.clear()
            try:
                link = link or connect(self._target)
                link.execute(f"SELECT pg_notify(({_CHANNEL}), '')")  # our own words
            except psycopg.Error:
                _end(link)  # A hint is lost; the next one has a new connection.
                link = None
            self._closed.wait(COALESCED)
        _end(link)

    # --- a listening thread ------------------------------------------------------------------------------------------

    def _listen_for_ever(self, wake: Callable[[], None], end: socket.socket) -> None:
        with end:
            while not self._closed.is_set():
                try:
                    with connect(self._target) as link:
                        self._listen(link, wake, end)
                except (psycopg.Error, OSError):
                    self._closed.wait(_AGAIN)

    def _listen(self, link: psycopg.Connection[Any], wake: Callable[[], None], end: socket.socket) -> None:
        found = link.execute(_CHANNEL).fetchone()
        assert found is not None
        link.execute(sql.SQL("LISTEN {}").format(sql.Identifier(found[0])))
        wake()  # What was told before we listened.
        while not self._closed.is_set():
            if end in _readable(link, end):
                return
            link.pgconn.consume_input()
            heard = False
            while link.pgconn.notifies() is not None:
                heard = True
            if heard:
                wake()


def _readable(*files: HasFileno) -> list[HasFileno]:
    """Wait until there is something to read. (`select.select` takes no file above number 1023.)"""
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ, file)
        return [key.data for key, _ in selector.select()]


class HasFileno(Protocol):
    """What can be waited for."""

    def fileno(self) -> int: ...


def _end(link: psycopg.Connection[Any] | None) -> None:
    if link is not None:
        with contextlib.suppress(psycopg.Error):
            link.close()
