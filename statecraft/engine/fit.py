"""Whether an answer can be kept: its payload as JSON, and the data with the payload merged in."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticSerializationError

from statecraft.calls.classify import said
from statecraft.engine.held import Held
from statecraft.engine.jsonable import lost_number, stored
from statecraft.errors import InvalidPayload
from statecraft.machine.data import Data
from statecraft.machine.event import Event, HandlerFailed, event_name


def fit(held: Held, event: Event) -> tuple[Event, str, Any]:
    """(event, its payload, the data after it). An answer that cannot be kept becomes the failure of its handler."""
    try:
        return event, _payload(event), held.definition.fold(held.data, event)
    except InvalidPayload as error:
        failed = HandlerFailed(state=held.state, error="InvalidPayload", message=said(error)[:2000])
        return failed, _payload(failed), held.data


def merged(held: Held, event: Event) -> tuple[str, Any]:
    """(payload, data after it) of an event from outside. Raises `InvalidPayload`."""
    return _payload(event), held.definition.fold(held.data, event)


def _payload(event: Event) -> str:
    try:
        payload = stored(event)
    except PydanticSerializationError as error:
        raise InvalidPayload(f"{event_name(type(event))} cannot be kept as JSON: {said(error)}") from error
    if "null" in payload and (place := lost_number(event)) is not None:
        raise InvalidPayload(
            f"{event_name(type(event))} cannot be kept as JSON: {place} is not a finite number; "
            'give its model the config ser_json_inf_nan="strings", or a value that means the same'
        )
    return payload


def kept(data: Data) -> str:
    """The data a run is started with, as JSON that reads back as the same data. Raises `InvalidPayload`."""
    name = type(data).__name__
    try:
        payload = stored(data)
        again = stored(type(data).model_validate_json(payload))
    except ValueError as error:
        raise InvalidPayload(f"this {name} cannot be kept as JSON: {said(error)}") from error
    if again != payload:
        raise InvalidPayload(f"this {name} reads back from JSON as another one: {again[:200]} instead of {payload[:200]}")
    return payload
