"""Values of a handler as JSON text."""

from __future__ import annotations

from pydantic import TypeAdapter

_ANYTHING: TypeAdapter[object] = TypeAdapter(object)


def to_json(value: object) -> str:
    """The JSON text of plain values, models, dataclasses, dates and containers of them."""
    return _ANYTHING.dump_json(value, by_alias=False, fallback=repr).decode()
