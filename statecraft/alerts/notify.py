"""Alerts to people's own places (mail, Slack, Teams, a pager): over the package `apprise`, imported here only."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from statecraft.alerts.aside import Aside
from statecraft.channel import BY_DEFAULT, Alert, Kind, NotDelivered
from statecraft.errors import ConfigError

_URGENT = {Kind.RUN_FAILED, Kind.RUN_DEAD_LETTERED, Kind.BREAKER_OPENED, Kind.QUEUE_STALLED, Kind.WORKER_LOST}


class Apprise:
    """Sends each alert as plain text to one or more Apprise URLs, such as `slack://...` or `mailto://...`.

    If one of several fails, all get the alert again. Needs the extra `notify`. The URLs are secrets: they appear in no log,
    error or row. Raises `ConfigError` for a URL that Apprise does not know, or if it is not installed.
    """

    def __init__(self, name: str, *urls: str, kinds: tuple[str, ...] = BY_DEFAULT) -> None:
        self.name, self.kinds = name, kinds
        try:
            apprise: Any = import_module("apprise")
        except ModuleNotFoundError:
            needed = "pip install 'statecraft-agents[notify]'"
            raise ConfigError(f"channel {name!r} needs the package apprise: {needed}") from None
        self._out: Any = apprise.Apprise()
        self._aside = Aside(name)
        if not urls:
            raise ConfigError(f"channel {name!r} has no Apprise URL")
        with _quiet():
            unknown = [number for number, url in enumerate(urls, 1) if not self._out.add(url)]
        if unknown:
            raise ConfigError(f"Apprise does not know URL number {unknown[0]} of channel {name!r}")

    def __repr__(self) -> str:
        return f"Apprise({self.name!r})"

    async def send(self, alert: Alert) -> None:
        await self._aside.run(lambda: self._notify(alert))

    def _notify(self, alert: Alert) -> None:
        body = f"{alert.text}\n\n{alert.hint}\n\nalert {alert.id} of {alert.at.isoformat(timespec='seconds')}"
        sort = "failure" if alert.type in _URGENT else "info"
        if not self._out.notify(body=body, title=f"statecraft: {alert.type}", notify_type=sort, body_format="text"):
            raise NotDelivered("Apprise says that it was not delivered; its own log (logger apprise) says why")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Apprise's own log lines, which repeat a URL that it does not take."""
    log = logging.getLogger("apprise")

    def nothing(_: logging.LogRecord) -> bool:
        return False

    log.addFilter(nothing)
    try:
        yield
    finally:
        log.removeFilter(nothing)
