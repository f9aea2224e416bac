"""Leaving on a signal, also when something in the process does not.

The handlers are Python's own and not the event loop's: a handler of a run that computes without awaiting keeps the loop
from hearing anything, and a person's second signal must be heard all the same. What ends the process in the end is a
thread that looks at the clock, since a thread of a tool that hangs would keep the interpreter from ending for good.
Whatever was in hand then is claimed by others when its lease ends, as after any crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from statecraft.cli.exits import Exit

SIGNALS = (signal.SIGTERM, signal.SIGINT)

LATE = 10.0
"""Seconds after the grace in which a worker must be gone: it hands back, alerts people, closes the database."""
AT_ONCE = 5.0
"""The same after a second signal."""
LINGER = 5.0
"""Seconds for threads of tools and handlers to end, after everything was handed back and closed."""

_LEFT = "what it still held is taken over when its leases end"


class Leaving:
    """What the signals said so far."""

    def __init__(self, grace: float) -> None:
        """`grace` in seconds."""
        self.grace = grace
        self.asked, self.at_once = asyncio.Event(), asyncio.Event()
        self._told = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.timers: list[threading.Timer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()

    def listen(self) -> None:
        """Tell the event loop that runs now."""
        self._loop = asyncio.get_running_loop()

    def told(self, *_: int | FrameType | None) -> None:
        """A signal came. The first asks to leave, the second to leave at once, the third ends the process here."""
        self._told += 1
        if self._told == 1:
            self._within(self.grace + LATE, Exit.FAILED, f"not gone {LATE:g} s after the grace; {_LEFT}")
            self._wake(self.asked)
        elif self._told == 2:
            self._within(AT_ONCE, Exit.FAILED, f"not gone {AT_ONCE:g} s after the second signal; {_LEFT}")
            self._wake(self.at_once)
        else:
            _end(Exit.FAILED, f"a third signal came; {_LEFT}")

    def done(self) -> None:
        """All is handed back and closed; what is left is threads that nobody waits for."""
        self._forget()
        self._within(LINGER, Exit.DONE, "a handler or a tool does not end; what was in hand is handed back")

    def _forget(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def _wake(self, event: asyncio.Event) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(event.set)

    def _within(self, seconds: float, code: Exit, why: str) -> None:
        timer = threading.Timer(seconds, _end, (code, why))
        timer.daemon = True
        timer.start()
        self.timers.append(timer)


def _end(code: Exit, why: str) -> None:
    """End the process here and now."""
    os.write(2, f"worker cut off: {why}\n".encode())
    os._exit(int(code))


@contextmanager
def on_signals(leaving: Leaving) -> Iterator[None]:
    """Let `leaving` hear the signals. Only for the main thread of a program; elsewhere nothing is heard."""
    leaving.listen()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, leaving.told) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
