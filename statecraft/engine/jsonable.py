"""Values of a handler as JSON text, and models as the journal keeps them."""

from __future__ import annotations

from pydantic import BaseModel, TypeAdapter

_ANYTHING: TypeAdapter[object] = TypeAdapter(object)


def to_json(value: object) -> str:
    """The JSON text of plain values, models, dataclasses, dates and containers of them."""
    return _ANYTHING.dump_json(value, by_alias=False, fallback=repr).decode()


def stored(model: BaseModel) -> str:
    """An event or data as JSON text that validates back: names as validation takes them, nothing computed.

    Raises `PydanticSerializationError` (a `ValueError`) if a value is not what its field declares.
    """
    return model.model_dump_json(by_alias=True, round_trip=True, warnings="error")
