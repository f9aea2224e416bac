"""Signatures of webhooks, as Standard Webhooks 1.0.0 has them (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from statecraft.clock import SystemClock
from statecraft.errors import ConfigError, StatecraftError

PREFIX = "whsec_"
TOLERANCE = 300.0
"""Seconds that a timestamp may be off, so that what was overheard cannot be sent again later."""


class BadSignature(StatecraftError):
    """A request is not from somebody who knows the secret, or is too old."""


def key_of(secret: str) -> bytes:
    """The key in a secret. Raises `ConfigError` unless it is `whsec_` and the Base64 form of 24 to 64 bytes."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except binascii.Error:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ConfigError("a webhook's secret is 'whsec_' and the Base64 form of 24 to 64 random bytes; the one given is not")
    return key


def sign(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a request: its id, its time in seconds, and a signature for each key."""
    text = f"{id}.{timestamp}.".encode() + body
    marks = [base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{mark}" for mark in marks),
    }


def verify(headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str], *, now: float | None = None) -> str:
    """For receivers: the id of a request that is signed with the secret, or with one of several while they rotate.

    `body` is the request's body as it came; `now` is the time in seconds (default: the time of day). Drop a request whose id
    you had before. Raises `BadSignature`.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        name, at, marks = (given[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
        timestamp = int(at)
    except (KeyError, ValueError):
        raise BadSignature("the request has no webhook-id, webhook-timestamp and webhook-signature") from None
    if abs((SystemClock().now() / 1_000_000 if now is None else now) - timestamp) > TOLERANCE:
        raise BadSignature(f"the request's webhook-timestamp is more than {TOLERANCE:g} s off")
    keys = [key_of(each) for each in ([secret] if isinstance(secret, str) else secret)]
    wanted = sign(keys, name, timestamp, body.encode() if isinstance(body, str) else body)["webhook-signature"].split()
    if not any(hmac.compare_digest(mark.encode(), each.encode()) for mark in marks.split() for each in wanted):
        raise BadSignature("no signature of the request is ours; is the secret the sender's?")
    return name
