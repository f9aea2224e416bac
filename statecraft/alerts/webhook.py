"""Alerts by HTTP: one signed POST each, as Standard Webhooks 1.0.0 describes it.

2xx is delivered, 410 disables the channel, `Retry-After` is heeded, redirects are refused. Over the standard library: no
proxies, and nothing that follows a receiver's word to another place.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from statecraft.alerts.aside import Aside
from statecraft.alerts.signature import key_of, sign
from statecraft.channel import BY_DEFAULT, Alert, NotDelivered
from statecraft.clock import Clock, SystemClock
from statecraft.errors import ConfigError

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

TIMEOUT = 15.0
"""Seconds for each step of a request; the whole is bounded by the courier."""


class Webhook:
    """POSTs each alert, signed, to one URL.

    `secret` is `whsec_...`, or several while they rotate: then each request has a signature of each. The URL is part of
    the configuration and may itself be a secret: neither appears in logs, errors or the database. It must be `https`, unless
    it names this machine or `insecure=True` says that the way there is safe. Raises `ConfigError`.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        secret: str | Sequence[str],
        kinds: tuple[str, ...] = BY_DEFAULT,
        insecure: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.name, self.kinds = name, kinds
        secrets = [secret] if isinstance(secret, str) else list(secret)
        if not secrets:
            raise ConfigError(f"webhook {name!r} needs a secret; make one with secrets.token_bytes(32), see docs/alerts.md")
        self._keys = [key_of(each) for each in secrets]
        self._clock = clock or SystemClock()
        self._aside = Aside(name)
        self._secure, self._host, self._port, self._path = _place(name, url, insecure)

    def __repr__(self) -> str:
        return f"Webhook({self.name!r})"

    async def send(self, alert: Alert) -> None:
        body = json.dumps(alert.body(), ensure_ascii=False, separators=(",", ":")).encode()
        headers = {**sign(self._keys, alert.id, self._clock.now() // 1_000_000, body), "content-type": "application/json"}
        link = self._link()
        await self._aside.run(lambda: self._post(link, body, headers), _aborting(link))

    def _link(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        return (HTTPSConnection if self._secure else HTTPConnection)(self._host, self._port, timeout=TIMEOUT)

    def _post(self, link: HTTPConnection, body: bytes, headers: dict[str, str]) -> None:
        from http.client import HTTPException

        try:
            link.request("POST", self._path, body, headers)
            with link.getresponse() as response:
                self._judge(response)
        except (OSError, HTTPException) as error:
            raise NotDelivered(f"{self._host} cannot be reached: {type(error).__name__}") from None
        finally:
            link.close()

    def _judge(self, response: HTTPResponse) -> None:
        status = response.status
        if 200 <= status < 300:
            return
        what = f"{self._host} answered {status}"
        if status == 410:
            raise NotDelivered(f"{what}: it wants nothing any more", gone=True)
        if 300 <= status < 400:
            raise NotDelivered(f"{what}, a redirect, which is not followed; give the URL it means")
        raise NotDelivered(what, retry_after=_seconds(response.getheader("retry-after"), self._clock.now() / 1_000_000))


def _place(name: str, url: str, insecure: bool) -> tuple[bool, str, int | None, str]:
    """(whether by TLS, host, port, path and query) of a URL that may be used."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ConfigError(f"the URL of webhook {name!r} cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"the URL of webhook {name!r} is https://host/path")
    if parts.username or parts.password or any(char <= " " or char > "~" for char in url):
        raise ConfigError(f"the URL of webhook {name!r} has a user, a password, spaces or letters beyond ASCII, which it may not")
    if parts.scheme == "http" and not insecure and not _is_here(host):
        raise ConfigError(f"the URL of webhook {name!r} is not https; use https, or insecure=True if the way there is safe")
    query = f"?{parts.query}" if parts.query else ""
    return parts.scheme == "https", host, port, f"{parts.path or '/'}{query}"


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _aborting(link: HTTPConnection) -> Callable[[], None]:
    """Ends a request from outside: whoever reads from the socket wakes up."""

    def abort() -> None:
        held: socket.socket | None = link.sock
        if held is not None:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    return abort


def _seconds(header: str | None, now: float) -> float | None:
    """What `Retry-After` says: a number of seconds, or a date."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.fromtimestamp(now, UTC)).total_seconds())
