"""Payloads that lead along a path: events whose guards answer as the path says. Nothing runs here but guards and folds.

Tried in this order: the examples given, the event without a payload, plain samples of its fields' types, and at last a
search by Hypothesis, which is only needed (and only loaded) from the samples on.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from statecraft.errors import ConfigError, InvalidPayload, StatecraftError
from statecraft.machine.covering import Leg, Path
from statecraft.machine.data import Data
from statecraft.machine.definition import Definition, Move
from statecraft.machine.event import Event

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

M = TypeVar("M", bound=BaseModel)

SAMPLES = 200
"""Payloads of one event that are drawn before anything is searched for."""
_FEW = 25
"""Samples that are looked at first: most guards are satisfied by some simple payload."""
_SEARCHED = 500
"""Payloads that a search looks at."""
_ALTERNATIVES = 4
"""Payloads of one leg that are tried, if a later leg cannot be satisfied."""
_MOST_TRIES = 400
"""Legs that are tried for one path, all alternatives together."""


class NoPayload(StatecraftError):
    """No payload was found with which a leg of a path can be taken."""


def check_start(definition: Definition, data: object) -> None:
    """Raises `ConfigError` for data that no run of the machine is started with. None stands for data that are made up."""
    wanted = definition.data_type
    if data is not None and type(data) is not wanted:
        raise ConfigError(f"{definition.name} is started with {wanted.__name__}, not {type(data).__name__}")


def hypothesis_or_not(what: str) -> Any:
    """The package. Raises `ConfigError` if it is not installed."""
    try:
        import hypothesis
    except ModuleNotFoundError as missing:
        if missing.name != "hypothesis":
            raise
        raise ConfigError(f"{what} needs Hypothesis: pip install hypothesis") from None
    return hypothesis


# --- one path ---------------------------------------------------------------------------------------------------------


class _Search:
    """Depth first: the payload of a leg is chosen again if no later leg can be taken with it."""

    def __init__(self, definition: Definition, path: Path, examples: Sequence[Event], made: Callable[[Leg, Data], Event]) -> None:
        self.definition, self.path, self.examples, self.made = definition, path, examples, made
        self.tries = self.furthest = 0
        self.hopeless: set[int] = set()
        """Places for which a whole search found nothing: with other data it would hardly fare better."""

    def onward(self, place: int, data: Data) -> list[Event] | None:
        """Events from this place on."""
        self.furthest = max(self.furthest, place)
        if place == len(self.path.legs):
            return []
        leg = self.path.legs[place]
        for event in self.options(place, data) if leg.own else [self.made(leg, data)]:
            self.tries += 1
            rest = self.onward(place + 1, self.definition.fold(data, event))
            if rest is not None:
                return [event, *rest]
            if self.tries > _MOST_TRIES:
                return None
        return None

    def options(self, place: int, data: Data) -> Iterator[Event]:
        """A few events that take the leg, the likeliest first."""
        leg, found = self.path.legs[place], list[Event]()
        for event in _candidates(leg.event, self.examples):
            if event not in found and takes(self.definition, leg, event, data):
                found.append(event)
                yield event
                if len(found) == _ALTERNATIVES:
                    return
        if found or not leg.event.model_fields or place in self.hopeless:
            return
        searched = _search(leg.event, lambda event: takes(self.definition, leg, event, data))
        if searched is not None:
            yield searched
        else:
            self.hopeless.add(place)


def script(
    definition: Definition, path: Path, data: Data, examples: Sequence[Event], made: Callable[[Leg, Data], Event]
) -> list[Event]:
    """One event for each leg, which lead from `data` along the path. `made` answers for the legs that are not the state's own.

    Raises `NoPayload`, naming the first leg that could never be taken, or `ConfigError` if Hypothesis would be needed.
    """
    search = _Search(definition, path, examples, made)
    found = search.onward(0, data)
    if found is None:
        raise NoPayload(_stuck(path, search.furthest))
    return found


def _stuck(path: Path, place: int) -> str:
    leg = path.legs[place]
    asked = " and ".join(f"{name} is {held}" for name, held in leg.guards) or "the row is taken"
    return (
        f"leg {place + 1} of {path}: no {leg.event.__name__} was found in {leg.source} for which {asked}; "
        f"pass one: drive(..., examples=[{leg.event.__name__}(...)]), or start from other data"
    )


def takes(definition: Definition, leg: Leg, event: Event, data: Data) -> bool:
    """Whether the event takes this very row, and merges into the data."""
    move = definition.decide(leg.source, event, data)
    if not isinstance(move, Move) or (move.target, move.guards) != (leg.target, leg.guards):
        return False
    try:
        definition.fold(data, event)
    except InvalidPayload:
        return False
    return True


def _candidates(event_type: type[Event], examples: Sequence[Event]) -> Iterator[Event]:
    yield from (example for example in examples if type(example) is event_type)
    with contextlib.suppress(ValidationError):
        yield event_type()
    if event_type.model_fields:
        few = samples(event_type, _FEW)
        yield from few
        yield from samples(event_type, SAMPLES)[len(few) :]


# --- Hypothesis -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def samples(model: type[M], most: int) -> tuple[M, ...]:
    """Up to `most` instances, simple ones first; the same ones every time. Raises `ConfigError` without Hypothesis."""
    hypothesis = hypothesis_or_not(f"finding a payload of {model.__name__}")
    found: list[M] = []

    def draw(instance: M) -> None:
        found.append(instance)

    _plain(hypothesis, most)(hypothesis.given(strategy_of(model))(draw))()
    return tuple(found)


def _search(event_type: type[Event], wanted: Callable[[Event], bool]) -> Event | None:
    hypothesis = hypothesis_or_not(f"finding a payload of {event_type.__name__}")
    limits = hypothesis.settings(max_examples=_SEARCHED, database=None, derandomize=True, deadline=None)
    try:
        return cast(Event, hypothesis.find(strategy_of(event_type), wanted, settings=limits))
    except (hypothesis.errors.NoSuchExample, hypothesis.errors.Unsatisfiable):
        return None


def _plain(hypothesis: Any, most: int) -> Any:
    return hypothesis.settings(
        max_examples=most,
        phases=(hypothesis.Phase.generate,),
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@lru_cache(maxsize=512)
def strategy_of(model: type[M]) -> SearchStrategy[M]:
    """Instances of a pydantic model. What its own validators refuse is drawn again."""
    hypothesis_or_not(f"drawing a {model.__name__}")
    from hypothesis import reject
    from hypothesis import strategies as st

    fields = {info.validation_alias or info.alias or name: info for name, info in model.model_fields.items()}
    drawn = {str(name): _later(info) for name, info in fields.items()}

    def build(values: dict[str, Any]) -> M:
        try:
            return model(**values)
        except ValidationError:
            reject()

    optional = {str(name): drawn[str(name)] for name, info in fields.items() if not info.is_required()}
    needed = {name: each for name, each in drawn.items() if name not in optional}
    return st.fixed_dictionaries(needed, optional=optional).map(build)


def _later(info: FieldInfo) -> SearchStrategy[Any]:
    """Values of a field, thought of when the first one is drawn: a model may hold itself."""
    from hypothesis import strategies as st

    return st.deferred(lambda: _field(info))


def _field(info: FieldInfo) -> SearchStrategy[Any]:
    return _of(Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation)


def _of(annotation: Any) -> SearchStrategy[Any]:
    """Values of a type. Only what may hold a pydantic model is taken apart; the rest is Hypothesis' own knowledge."""
    from hypothesis import strategies as st

    bare = annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation
    origin, args = get_origin(bare), get_args(bare)
    if isinstance(bare, type) and origin is None and issubclass(bare, BaseModel):
        return strategy_of(bare)
    if origin in (Union, types.UnionType):
        return st.one_of([_of(arg) for arg in sorted(args, key=lambda arg: arg is not type(None))])
    if origin is list or (origin is tuple and args[1:] == (Ellipsis,)):
        least = max((getattr(rule, "min_length", None) or 0 for rule in getattr(annotation, "__metadata__", ())), default=0)
        many = st.lists(_of(args[0]), min_size=least, max_size=least + 4)
        return many if origin is list else many.map(tuple)
    if origin is dict:
        return st.dictionaries(_of(args[0]), _of(args[1]), max_size=3)
    drawn = st.from_type(annotation)
    return drawn.filter(math.isfinite) if bare is float else drawn  # JSON has no other numbers.
