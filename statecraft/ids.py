"""Identity and chance, passed in. The only module that draws random numbers.

A run's id is 16 bytes laid out like a UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then
random bits, so ids sort by time. Users see it as 32 hex digits.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from typing import Protocol


class Ids(Protocol):
    """Where new identities and random numbers come from."""

    def run_id(self, now: int) -> bytes:
        """A new 16-byte id for a run started at `now` (microseconds)."""
        ...

    def trace_id(self) -> str:
        """A new trace id of 32 hex digits."""
        ...

    def uniform(self) -> float:
        """A number in [0, 1), for jitter and `run.random`."""
        ...


class RandomIds:
    """Ids from the system's random source; numbers from a generator that may be seeded.

    With a `seed` everything is reproducible: meant for tests and simulations, never for two processes on one database.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed if seed is not None else secrets.randbits(128))

    def run_id(self, now: int) -> bytes:
        bits = ((now // 1000) & ((1 << 48) - 1)) << 80
        bits |= 0x7 << 76 | self._random.getrandbits(12) << 64
        bits |= 0b10 << 62 | self._random.getrandbits(62)
        return bits.to_bytes(16, "big")

    def trace_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def uniform(self) -> float:
        return self._random.random()


def digest(text: str) -> bytes:
    """The 32-byte SHA-256 of a text: how requests, payloads and messages are named."""
    return hashlib.sha256(text.encode()).digest()


def idempotency_key(run_id: bytes, seq: int, request: bytes, occurrence: int) -> str:
    """The key a call carries to the outside world: the same call of the same visit always has the same key."""
    return hashlib.sha256(b"%s/%d/%s/%d" % (run_id, seq, request, occurrence)).hexdigest()[:32]
