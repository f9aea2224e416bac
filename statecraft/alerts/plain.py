"""Channels that need nobody outside: a function of yours, and the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from statecraft import trace
from statecraft.alerts.aside import Aside
from statecraft.channel import BY_DEFAULT, Alert


class Callback:
    """Calls a function with each `Alert`: on the event loop if it is declared with `async def`, else in a thread of its own.

    What it raises means that nothing was delivered; only the class of the exception is kept, or the text of a
    `NotDelivered`. `kinds` are patterns of what it is told.
    """

    def __init__(self, name: str, fn: Callable[[Alert], Any], *, kinds: tuple[str, ...] = BY_DEFAULT) -> None:
        self.name, self.kinds = name, kinds
        self._fn = fn
        self._aside = Aside(name)

    def __repr__(self) -> str:
        return f"Callback({self.name!r})"

    async def send(self, alert: Alert) -> None:
        if iscoroutinefunction(self._fn) or iscoroutinefunction(getattr(self._fn, "__call__", None)):  # noqa: B004
            await self._fn(alert)
        else:
            answers: list[object] = []
            await self._aside.run(lambda: answers.append(self._fn(alert)))
            for answer in answers:
                if isawaitable(answer):  # Such as that of a lambda around an `async def`: only now it is called.
                    await answer


class Log:
    """A warning in the log `statecraft` for each alert: the event `alert`, with the alert's fields."""

    def __init__(self, name: str, *, kinds: tuple[str, ...] = BY_DEFAULT) -> None:
        self.name, self.kinds = name, kinds

    def __repr__(self) -> str:
        return f"Log({self.name!r})"

    async def send(self, alert: Alert) -> None:
        facts = {name: value for name, value in alert.data.items() if name not in ("text", "hint")}
        told = {"id": alert.id, "kind": alert.type, "at": alert.at.isoformat(), "text": alert.text, "hint": alert.hint}
        trace.emit("alert", {**told, "data": facts}, level=logging.WARNING)
