"""Hearing of every move that the runtimes of this process commit. Nothing in the library knows of it: it is put in by tests."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statecraft.machine.definition import Definition

Heard = Callable[["Definition", str, str, str, str], None]
"""Called with the machine, and the source, event, target and guards (JSON) of a move that is durable."""


def listen(heard: Heard) -> Callable[[], None]:
    """Tell `heard` of every move of every `Runtime` built from now on, until the answer is called."""
    from statecraft.runtime import Runtime

    plain = Runtime.__init__
    listening = [True]

    @functools.wraps(plain)
    def build(self: Any, *args: Any, **settings: Any) -> None:
        plain(self, *args, **settings)
        if listening:
            tap(self._store, self._running, heard)

    def stop() -> None:
        listening.clear()
        if Runtime.__init__ is build:
            Runtime.__init__ = plain  # type: ignore[method-assign]

    Runtime.__init__ = build  # type: ignore[method-assign]
    return stop


def tap(store: Any, definitions: Mapping[int, Definition], heard: Heard) -> None:
    """Tell `heard` what this store makes durable. `definitions`: machines by their number in it."""
    plain = store.submit

    @functools.wraps(plain)
    def submit(write: Any) -> Any:
        move = getattr(write, "transition", None)
        if move is None:
            return plain(write)
        writing = asyncio.ensure_future(plain(write))
        writing.add_done_callback(functools.partial(_written, move, definitions, heard))
        return writing

    store.submit = submit


def _written(move: Any, definitions: Mapping[int, Definition], heard: Heard, writing: asyncio.Future[Any]) -> None:
    """It is durable, unless it was refused, or a start found that another run owns its key."""
    if writing.cancelled() or writing.exception() is not None or (move.seq == 0 and writing.result() != move.run_id):
        return
    definition = definitions.get(move.machine)
    if definition is not None:
        heard(definition, move.source, move.event, move.target, move.guards)
