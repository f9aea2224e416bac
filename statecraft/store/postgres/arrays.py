"""Columns of many rows as arrays in PostgreSQL's binary form, written out here because every batch pays for it.

Format: `array_recv` of the server: dimensions, a flag for NULLs, the element's type, length, lower bound, then each
element with its length in front, -1 meaning NULL; all big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from psycopg.adapt import AdaptersMap, Buffer, Dumper
from psycopg.pq import Format

_HEAD = struct.Struct(">iiIii").pack
_SIZE = struct.Struct(">i").pack
_INT = struct.Struct(">iq").pack
_NULL = _SIZE(-1)


LARGEST = 64 * 1024**2
"""Bytes. The server ends a connection that sends it more than 1 GB at once, which some long texts of one batch may be."""


class TooMuch(Exception):
    """A column of several rows is too large to be sent at once."""


class Column(tuple[object, ...]):
    """The values of one column."""

    __slots__ = ()


class Ints(Column):
    """A `bigint[]`."""

    __slots__ = ()


class Blobs(Column):
    """A `bytea[]`."""

    __slots__ = ()


class Texts(Column):
    """A `text[]`."""

    __slots__ = ()


def _int(value: int) -> bytes:
    return _INT(8, value)


def _blob(value: bytes) -> bytes:
    return _SIZE(len(value)) + value


def _text(value: str) -> bytes:
    # The one character that PostgreSQL cannot keep. JSON never has it bare, and nothing else is hashed.
    raw = (value.replace("\0", "\ufffd") if "\0" in value else value).encode()
    return _SIZE(len(raw)) + raw


class _Arrays(Dumper):
    format = Format.BINARY
    element = 0
    one: Callable[[object], bytes]

    def dump(self, obj: Sequence[object]) -> Buffer:
        one = type(self).one
        head = _HEAD(1, 1, self.element, len(obj), 1)
        raw = head + b"".join([_NULL if value is None else one(value) for value in obj])
        if len(raw) > LARGEST and len(obj) > 1:
            raise TooMuch
        return raw


class _Ints(_Arrays):
    oid, element, one = 1016, 20, staticmethod(_int)  # type: ignore[assignment]


class _Blobs(_Arrays):
    oid, element, one = 1001, 17, staticmethod(_blob)  # type: ignore[assignment]


class _Texts(_Arrays):
    oid, element, one = 1009, 25, staticmethod(_text)  # type: ignore[assignment]


def register(adapters: AdaptersMap) -> None:
    """Let a connection send columns."""
    for kind, dumper in ((Ints, _Ints), (Blobs, _Blobs), (Texts, _Texts)):
        adapters.register_dumper(kind, dumper)


def array_of(kind: sa.types.TypeEngine[Any]) -> tuple[type[Column], sa.types.TypeEngine[Any]]:
    """How values of a column's type are sent, and their type in SQL."""
    match kind:
        case sa.Integer():
            return Ints, sa.BigInteger()
        case sa.LargeBinary():
            return Blobs, sa.LargeBinary()
        case sa.Text():
            return Texts, sa.Text()
        case _:
            raise TypeError(f"no column of this schema is of type {kind!r}")
