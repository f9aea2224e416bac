"""The data of a run, and how an event's payload is merged into it: by replacing, or by appending where declared."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, RootModel, ValidationError, WrapValidator
from pydantic.fields import FieldInfo

from statecraft.errors import InvalidPayload
from statecraft.machine.event import Event, Rewritten, SystemEvent, event_name

T = TypeVar("T")
D = TypeVar("D", bound="Data")


class _Appended:
    """Marks a field whose new values are added to the old ones."""

    def __repr__(self) -> str:
        return "appended"


_APPENDED: Final = _Appended()

Append = Annotated[T, _APPENDED]
"""`sources: Append[list[Source]] = []`: an event's `sources` are added to the end instead of replacing the list."""


class Data(BaseModel):
    """What a run knows. Subclass it; instances are frozen and unknown fields are refused.

    It changes only by events: a payload field replaces the data field of the same name, or is appended to it if that
    field is declared with `Append`. A field of the event that was left at its default counts like any other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")  # so that NaN reads back


@dataclass(frozen=True, slots=True)
class MergePlan:
    """How one type of event merges into one type of data, worked out once."""

    replace: tuple[str, ...] = ()
    append: tuple[str, ...] = ()
    validate: bool = False
    """Whether the merged data must be validated because the types alone do not guarantee that it is valid."""


def merge_plan(data_type: type[Data], event_type: type[Event]) -> MergePlan:
    """Which payload fields go where. System events merge nothing."""
    if issubclass(event_type, SystemEvent):
        return MergePlan()
    fields = data_type.model_fields
    shared = [name for name in event_type.model_fields if name in fields]
    unsafe = any(not _fits(event_type.model_fields[name], fields[name]) for name in shared)
    return MergePlan(
        replace=tuple(name for name in shared if not _is_appended(fields[name])),
        append=tuple(name for name in shared if _is_appended(fields[name])),
        validate=bool(shared) and (unsafe or any(_grows_by_rule(fields[name]) for name in shared) or _has_own_rules(data_type)),
    )


def appended(data_type: type[Data]) -> tuple[str, ...]:
    """The fields whose new values are added to the old ones."""
    return tuple(name for name, info in data_type.model_fields.items() if _is_appended(info))


def fold(data: D, event: Event, plan: MergePlan) -> D:
    """The data after the event: a new instance, or the same one if the event merges nothing.

    Raises `InvalidPayload` if a value does not fit the data field it goes to.
    """
    if not plan.replace and not plan.append:
        return data
    old, new = data.__dict__, event.__dict__
    update = {name: new[name] for name in plan.replace}
    for name in plan.append:
        if not isinstance(new[name], _ROWS):
            wrong = type(new[name]).__name__
            raise InvalidPayload(f"{event_name(type(event))} does not fit {type(data).__name__}: {name}: {wrong} is not a list")
        update[name] = (*old[name], *new[name]) if isinstance(old[name], tuple) else [*old[name], *new[name]]
    if not plan.validate:
        return _copied(data, update)
    try:
        return type(data).model_validate({**_fields_of(data), **update})
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'data'}: {item['msg']}" for item in error.errors())
        raise InvalidPayload(f"{event_name(type(event))} does not fit {type(data).__name__}: {details}") from error
    except Exception as error:  # a validator may raise anything
        reason = f"a validator raised {type(error).__name__}: {error}"
        raise InvalidPayload(f"{event_name(type(event))} does not fit {type(data).__name__}: {reason}") from error


def whole(data_type: type[D], event: Rewritten) -> D:
    """The data that a rewrite puts in place. Raises `InvalidPayload` if it is not of the type."""
    try:
        return data_type.model_validate_json(json.dumps(event.data))
    except ValueError as error:
        raise InvalidPayload(f"{event_name(type(event))} does not fit {data_type.__name__}: {error}") from error


def _copied(data: D, update: dict[str, Any]) -> D:
    copy = data.model_copy(update=update)
    fields = type(data).model_fields
    if len(copy.__dict__) > len(fields):  # what a cached_property remembers is of the old data
        for name in [name for name in copy.__dict__ if name not in fields]:
            vars(copy).pop(name)
    return copy


def _fields_of(data: Data) -> dict[str, Any]:
    fields = type(data).model_fields
    return {**{name: value for name, value in data.__dict__.items() if name in fields}, **(data.model_extra or {})}


def unreadable_fields(model: type[BaseModel]) -> list[tuple[str, str]]:
    """(field, why) for every field that is written under a name, or not at all, so that it cannot be read back."""
    found: list[tuple[str, str]] = []
    by_name = model.model_config.get("validate_by_name") or model.model_config.get("populate_by_name")
    for name, info in model.model_fields.items():
        written, alias = info.serialization_alias or name, info.validation_alias
        readable = [*getattr(alias, "choices", [alias or name]), *([name] if by_name else [])]
        if info.exclude:
            found.append((name, "it is excluded from what is written"))
        elif written not in readable:
            found.append((name, f"it is written as {written}, but read as {alias or name}"))
    return found


def clashes(data_type: type[Data], event_type: type[Event]) -> list[tuple[str, str]]:
    """(field, why) for every payload field that no value could ever merge into the data field of its name."""
    if issubclass(event_type, SystemEvent):
        return []
    found: list[tuple[str, str]] = []
    for name, source in event_type.model_fields.items():
        target = data_type.model_fields.get(name)
        if target is not None and not _is_prepared(data_type, name) and not _may_fit(source.annotation, target.annotation):
            found.append((name, f"{_show(source.annotation)} never fits {_show(target.annotation)}"))
    return found


def misplaced_appends(data_type: type[Data]) -> list[str]:
    """Fields that use `Append` where it means nothing: not outermost, or on something that is not a list or tuple."""
    return [
        name
        for name, info in data_type.model_fields.items()
        if (_is_appended(info) and not _may_grow(info.annotation)) or _marks_inside(info.annotation)
    ]


def _may_grow(annotation: Any) -> bool:
    if get_origin(annotation) is tuple:
        return get_args(annotation)[-1:] == (Ellipsis,)
    return annotation in (list, tuple) or get_origin(annotation) is list


def _grows_by_rule(info: FieldInfo) -> bool:
    """Whether a rule may refuse the whole although it took each part."""
    return _is_appended(info) and any(not isinstance(item, _Appended) for item in info.metadata)


def _is_prepared(data_type: type[Data], name: str) -> bool:
    """Whether a validator may turn any value into one of the field's type before the type is asked."""
    rules = data_type.__pydantic_decorators__
    on_field = (rule.info for rule in rules.field_validators.values() if {name, "*"} & set(rule.info.fields))
    return (
        any(isinstance(item, BeforeValidator | PlainValidator | WrapValidator) for item in data_type.model_fields[name].metadata)
        or any(info.mode != "after" for info in on_field)
        or any(rule.info.mode != "after" for rule in rules.model_validators.values())
        or bool(rules.validators or rules.root_validators or data_type.model_config.get("coerce_numbers_to_str"))
    )


def _is_appended(info: FieldInfo) -> bool:
    return any(isinstance(item, _Appended) for item in info.metadata)


def _marks_inside(annotation: Any) -> bool:
    if any(isinstance(item, _Appended) for item in getattr(annotation, "__metadata__", ())):
        return True
    return any(_marks_inside(arg) for arg in get_args(annotation))


def _fits(source: FieldInfo, target: FieldInfo) -> bool:
    """Whether every valid value of the payload field is, as it stands, a valid value of the data field."""
    rules = [item for item in target.metadata if not isinstance(item, _Appended)]
    if rules and rules != source.metadata:
        return False
    allowed = _members(target.annotation)
    return all(member in allowed for member in _members(source.annotation))


def _has_own_rules(data_type: type[Data]) -> bool:
    """Whether the data type validates beyond its field types, so that the quick copy could skip a rule."""
    rules = data_type.__pydantic_decorators__
    return (
        bool(rules.validators or rules.field_validators or rules.root_validators or rules.model_validators)
        or data_type.model_config != Data.model_config
    )


def _members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


# --- could it ever fit? ---------------------------------------------------------------------------------------------

_ROWS: Final = (list, tuple, set, frozenset)


def _may_fit(source: Any, target: Any) -> bool:
    """False only if no value of `source` can be validated as `target`; in doubt True."""
    return any(_one_may_fit(_bare(a), _bare(b)) for a in _members(source) for b in _members(target))


def _one_may_fit(source: Any, target: Any) -> bool:
    have, want = _kind(source), _kind(target)
    if source == target or Any in (have, want) or not (isinstance(have, type) and isinstance(want, type)):
        return True
    if issubclass(want, RootModel) or (is_dataclass(want) and issubclass(have, Mapping)):
        return True
    if object in (have, want) or issubclass(have, want) or issubclass(want, have):
        return _arguments_may_fit(source, target)
    if have in _ROWS and want in _ROWS:
        return _arguments_may_fit(source, target)
    if _family(have) != _family(want):
        return _family(have) == "mapping" and _family(want) == "model"
    return _family(have) == "other" and not (want is str and have in (int, float, bool))


def _arguments_may_fit(source: Any, target: Any) -> bool:
    """Compare what is inside two containers of the same sort, where both say what it is."""
    have, want = _inside(source), _inside(target)
    if have is None or want is None:
        return True
    return _may_fit(have, want)


def _inside(annotation: Any) -> Any | None:
    args = get_args(annotation)
    if not args or get_origin(annotation) is type:
        return None
    if len(args) == 1 or (get_origin(annotation) is tuple and args[1] is Ellipsis):
        return args[0]
    return args[1] if _family(_kind(annotation)) == "mapping" and len(args) == 2 else None


def _bare(annotation: Any) -> Any:
    return annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation


def _kind(annotation: Any) -> Any:
    """The class behind an annotation; something that is no class if there is none to speak of."""
    if annotation is None:
        return type(None)
    return get_origin(annotation) or annotation


def _family(kind: type[Any]) -> str:
    if issubclass(kind, BaseModel):
        return "model"
    if issubclass(kind, Mapping):
        return "mapping"
    if issubclass(kind, str | bytes):
        return "other"
    if kind is type(None):
        return "none"
    return "row" if issubclass(kind, Iterable) else "other"


def _show(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
