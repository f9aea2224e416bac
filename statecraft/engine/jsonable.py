"""Values of a handler as JSON text, and models as the journal keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

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


def lost_number(model: BaseModel) -> str | None:
    """Where the JSON text of a model has `null` for a number that is not finite, and so reads back as another value.

    Pydantic writes NaN and infinities as each model says for itself (`ser_json_inf_nan`), and a plain one says `null`.
    """
    return next(_lost(model, "", nulls=False), None)


def _lost(value: object, place: str, *, nulls: bool) -> Iterator[str]:
    if isinstance(value, float):
        if nulls and not math.isfinite(value):
            yield place
    elif isinstance(value, BaseModel):
        nulls = value.model_config.get("ser_json_inf_nan", "null") == "null"
        for name, item in value.__dict__.items():
            yield from _lost(item, f"{place}.{name}" if place else name, nulls=nulls)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _lost(item, f"{place}[{key!r}]", nulls=nulls)
    elif isinstance(value, list | tuple | set | frozenset):
        for number, item in enumerate(value):
            yield from _lost(item, f"{place}[{number}]", nulls=nulls)
