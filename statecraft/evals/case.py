"""A case: what a machine is given, what is expected of it, and what people decide on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from statecraft.decisions import Approve, Decision, DidNotHappen, GiveUp, Happened, Modify, Reject
from statecraft.errors import ConfigError, StatecraftError
from statecraft.machine.data import Data
from statecraft.machine.definition import Definition
from statecraft.machine.event import Event, event_name
from statecraft.records import Json

Answer = Event | Decision | str | Mapping[str, Json]
"""What a person decides: an event of the review state, or a decision about a call. As JSON the name of either
(`"approved"`, `"reject"`), or a name with its fields (`{"modified": {"instructions": "shorter"}}`)."""

_NAME_WIDTH = 60
_CALL_DECISIONS: Mapping[str, Callable[..., Decision]] = {"approve": Approve, "reject": Reject, "modify": Modify}


@dataclass(frozen=True, slots=True)
class Case:
    """One input, and what is expected of the run that it starts.

    A suite raises `ConfigError` for a case that does not fit its machine or its graders, and says where it stands.
    """

    input: Mapping[str, Json] | Data
    """The data the run is started with."""
    expect: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """What graders read, by the key that each of them reads."""
    name: str = ""
    """Unique in its suite. Without one the case is called after the first text of its input."""
    tags: tuple[str, ...] = ()
    """To run a part of a suite."""
    decisions: Mapping[str, Answer | Sequence[Answer]] = field(default_factory=dict[str, Any])
    """What people decide, by review state, and for gated calls by tool. Of several the n-th answers the n-th review.
    A review without an answer stops the run there, which is where it is graded."""
    where: str = field(default="", compare=False)
    """File and line it was read from."""

    @property
    def title(self) -> str:
        """The name, or what stands for it."""
        if self.name:
            return self.name
        values = (dict(self.input) if isinstance(self.input, Mapping) else self.input.model_dump()).values()
        text = next((value for value in values if isinstance(value, str) and value.strip()), "")
        flat = " ".join(text.split()) or "a case without a text"
        return flat if len(flat) <= _NAME_WIDTH else f"{flat[: _NAME_WIDTH - 1]}…"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A case that fits its machine."""

    case: Case
    name: str
    data: Data
    answers: Mapping[str, tuple[Event | Decision, ...]]
    digest: str
    """12 hex digits of the SHA-256 of data and answers: what decides how its run goes. What is expected is not in it, so
    that a changed expectation is graded anew without another run."""


def prepared(case: Case, definition: Definition) -> Prepared:
    """A case with its data validated and its decisions read. Raises `ConfigError` that says where and what."""
    place = case.where or f"case {case.title!r}"
    data = _data(case, definition, place)
    answers = {name: _answers(name, given, definition, place) for name, given in case.decisions.items()}
    told = {name: [_plain(answer) for answer in each] for name, each in answers.items()}
    plain = json.dumps([data.model_dump(mode="json"), told], sort_keys=True, ensure_ascii=False)
    return Prepared(case, case.title, data, answers, short_digest(plain))


def short_digest(text: str) -> str:
    """12 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _data(case: Case, definition: Definition, place: str) -> Data:
    if isinstance(case.input, Data):
        if type(case.input) is not definition.data_type:
            wanted = definition.data_type.__name__
            raise ConfigError(f"{place}: {definition.name} is started with {wanted}, not {type(case.input).__name__}")
        return case.input
    try:
        return definition.data_type.model_validate_json(json.dumps(case.input))
    except (ValidationError, TypeError, ValueError) as error:
        raise ConfigError(f"{place}: input does not validate as {definition.data_type.__name__}: {_said(error)}") from error


def _said(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'input'}: {item['msg']}" for item in found)


def _answers(name: str, given: Any, definition: Definition, place: str) -> tuple[Event | Decision, ...]:
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    state = definition.states.get(name)
    if state is not None and state.kind == "review":
        return tuple(_event(answer, name, definition, place) for answer in several)
    tools = {tool for each in definition.states.values() for tool in each.tools}
    if name not in tools:
        reviews = [each.name for each in definition.states.values() if each.kind == "review"]
        known = ", ".join([*reviews, *sorted(tools)]) or "none"
        raise ConfigError(f"{place}: decisions are given for a review state or a tool, and {name!r} is neither ({known})")
    return tuple(_decision(answer, name, place) for answer in several)


def _event(answer: Any, state: str, definition: Definition, place: str) -> Event:
    takes = definition.states[state].events
    if isinstance(answer, Event):
        if event_name(type(answer)) not in takes:
            raise ConfigError(f"{place}: {state} is decided by {', '.join(takes)}, not {type(answer).__name__}")
        return answer
    name, fields = _named(answer, f"{place}: the decision for {state}")
    known = next((each for each in takes if name in (each, definition.events[each].__name__)), None)
    if known is None:
        raise ConfigError(f"{place}: {state} is decided by {', '.join(takes)}, not {name!r}")
    try:
        return definition.event(known, json.dumps(fields))
    except StatecraftError as error:
        raise ConfigError(f"{place}: {error}") from error


def _decision(answer: Any, tool: str, place: str) -> Decision:
    if isinstance(answer, Approve | Reject | Modify | Happened | DidNotHappen | GiveUp):
        return answer
    name, fields = _named(answer, f"{place}: the decision about {tool}")
    made = _CALL_DECISIONS.get(name)
    if made is None:
        raise ConfigError(f"{place}: a call of {tool} is decided by {', '.join(_CALL_DECISIONS)}, not {name!r}")
    try:
        return made(**({"reason": "rejected by the case"} if name == "reject" and not fields else fields))
    except TypeError as error:
        raise ConfigError(f"{place}: {name} of {tool}: {error}") from error


def _named(answer: Any, what: str) -> tuple[str, dict[str, Json]]:
    """A name with its fields, from `"name"` or `{"name": {...}}`."""
    if isinstance(answer, str):
        return answer, {}
    if isinstance(answer, Mapping) and len(answer) == 1:
        [(name, fields)] = answer.items()
        if isinstance(name, str) and isinstance(fields, Mapping):
            return name, dict(fields)
    raise ConfigError(f'{what} is a name, or {{"name": {{fields}}}}, not {answer!r}')


def _plain(answer: Event | Decision) -> Json:
    fields = answer.model_dump(mode="json") if isinstance(answer, Event) else repr(answer)
    return [type(answer).__name__, fields]
