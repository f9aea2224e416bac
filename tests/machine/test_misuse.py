"""Mistakes that no type checker stopped: each is told where it was made, never as an error from somewhere inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, cast

import pytest
from pydantic import BeforeValidator, Field, RootModel, computed_field, field_validator

from statecraft.errors import ConfigError, DefinitionError, InvalidPayload
from statecraft.machine.context import Run
from statecraft.machine.data import Append, Data, clashes, fold, merge_plan, misplaced_appends
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Refusal
from statecraft.machine.event import Event, Failure, ReviewExpired, VisitsExhausted
from statecraft.machine.state import Ask


class Go(Event): ...


class Board(Data):
    n: int = 0


def refuses(event: Event, data: Board) -> bool:
    return False


def machine(guard: Any = None, data: type[Any] = Board, event: Any = Go, **settings: Any) -> Machine[Any]:
    m: Machine[Any] = Machine("m", data=data, **settings)

    async def first(run: Run[Any]) -> Go:
        raise NotImplementedError

    first.__annotations__["return"] = event
    state: Any = m.state(start=True)(first)
    done = m.final("done", ok=True)
    guarded = [] if guard is None else [state.on(event.when(guard)) >> done]
    m.transitions(*guarded, state.on(event) >> done, m.anywhere.on(Failure) >> done)
    return m


def codes(build: Callable[[], object]) -> set[str]:
    with pytest.raises(DefinitionError) as caught:
        build()
    return {finding.code for finding in caught.value.findings}


# --- guards -----------------------------------------------------------------------------------------------------------


def too_short(event: Go) -> bool:
    return True


def generating(event: Go, data: Board) -> Iterator[bool]:
    yield False


@pytest.mark.parametrize("guard", [too_short, generating])
def test_a_guard_that_could_never_answer_is_refused(guard: Any) -> None:
    assert codes(lambda: machine(guard)) == {"SC119"}


@pytest.mark.parametrize("guard", ["is_sure", None, 1])
def test_a_guard_that_is_no_function_is_refused_where_it_is_written(guard: Any) -> None:
    with pytest.raises(ConfigError, match=r"Go\.when takes a function of \(event, data\)"):
        Go.when(guard)


def test_a_guard_that_answers_with_something_to_await_is_a_refusal() -> None:
    async def later() -> bool:
        return False

    def hasty(event: Go, data: Board) -> Awaitable[bool]:
        return later()

    answer = machine(hasty).definition.decide("first", Go(), Board())
    assert isinstance(answer, Refusal)
    assert "hasty" in answer.reason
    assert "await" in answer.reason


# --- settings of the wrong type ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"max_steps": "10"}, {"max_steps": True}, {"deadline": 30}, {"budget": 1000}])
def test_a_bound_of_the_wrong_type_is_a_finding(settings: dict[str, Any]) -> None:
    assert codes(lambda: machine(**settings)) == {"SC124"}


@pytest.mark.parametrize("settings", [{"timeout": 30}, {"max_visits": "2"}, {"budget": 1000}])
def test_a_bound_of_a_state_of_the_wrong_type_is_a_finding(settings: dict[str, Any]) -> None:
    m = Machine("m", data=Board)

    @m.state(start=True, **settings)
    async def first(run: Run[Board]) -> Go:
        raise NotImplementedError

    done = m.final("done", ok=True)
    assert "SC124" in codes(lambda: m.transitions(first.on(Go) >> done, m.anywhere.on(Failure) >> done))


def test_a_name_and_a_version_must_be_text() -> None:
    number: Any = 3
    with pytest.raises(ConfigError, match="name"):
        Machine(number, data=Board)
    with pytest.raises(ConfigError, match="version"):
        Machine("m", data=Board, version=number)


def test_tools_that_are_no_list_of_tools_are_refused() -> None:
    m: Any = Machine("m", data=Board)
    with pytest.raises(ConfigError, match=r"tools takes a list"):
        m.state(tools=len)
    with pytest.raises(ConfigError, match=r"@tool"):
        m.state(tools=[len])


@pytest.mark.parametrize("kind", ["state", "review"])
def test_a_decorator_without_parentheses_says_so(kind: str) -> None:
    def first(run: Run[Board]) -> Go:
        raise NotImplementedError

    with pytest.raises(ConfigError, match=rf"@m\.{kind}\(\.\.\.\)"):
        getattr(Machine("m", data=Board), kind)(first)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_half_a_row_of_something_that_is_no_event_is_a_finding() -> None:
    m = Machine("m", data=Board)

    @m.state(start=True)
    async def first(run: Run[Board]) -> Go:
        raise NotImplementedError

    source, close = cast(Any, first), cast(Any, m.transitions)
    assert "SC114" in codes(lambda: close(source.on("go")))


def test_a_bound_whose_rows_may_all_refuse_lacks_a_default() -> None:
    m = Machine("m", data=Board)

    @m.state(start=True, max_visits=2)
    async def first(run: Run[Board]) -> Go:
        raise NotImplementedError

    @m.review(timeout=timedelta(days=1))
    async def asking(run: Run[Board]) -> Ask[Go]:
        raise NotImplementedError

    done = m.final("done", ok=True)
    rows = [first.on(Go) >> asking, asking.on(Go) >> first, asking.on(ReviewExpired.when(refuses)) >> done]
    with pytest.raises(DefinitionError) as caught:
        m.transitions(*rows, first.on(VisitsExhausted.when(refuses)) >> done)
    found = [(finding.code, finding.where) for finding in caught.value.findings]
    assert sorted(found) == [("SC109", "asking.review_expired"), ("SC109", "first.visits_exhausted")]


# --- data that could not be read back ---------------------------------------------------------------------------------


class Sum(Data):
    x: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def y(self) -> int:
        return self.x + 1


class Renamed(Data):
    x: int = Field(0, alias="ex")


class Scattered(Data):
    x: int = Field(0, validation_alias="read_as", serialization_alias="written_as")


class Hidden(Data):
    x: int = Field(0, exclude=True)


@pytest.mark.parametrize("data", [Sum, Renamed])
def test_computed_fields_and_other_names_come_back_from_the_database(data: type[Data]) -> None:
    assert machine(data=data).definition.data_type is data


@pytest.mark.parametrize("data", [Scattered, Hidden])
def test_data_that_would_not_come_back_from_the_database_is_refused(data: type[Data]) -> None:
    assert codes(lambda: machine(data=data)) == {"SC126"}


# --- folding ----------------------------------------------------------------------------------------------------------


class Log(Data):
    lines: Append[list[str]] = []


class MayLog(Event):
    lines: Any = None


@pytest.mark.parametrize("value", [None, 3, "abc", {"a": 1}])
def test_only_several_values_can_be_appended(value: object) -> None:
    with pytest.raises(InvalidPayload, match="lines"):
        fold(Log(), MayLog(lines=value), merge_plan(Log, MayLog))


def test_a_rule_on_the_whole_list_is_asked_after_appending() -> None:
    class Short(Data):
        xs: Append[list[int]] = Field([], max_length=2)

    class More(Event):
        xs: list[int] = Field(max_length=2)

    with pytest.raises(InvalidPayload, match="at most 2"):
        fold(Short(xs=[1, 2]), More(xs=[3]), merge_plan(Short, More))


def test_a_tuple_of_a_fixed_length_cannot_grow() -> None:
    class Pair(Data):
        xs: Append[tuple[int, int]] = (1, 2)

    assert misplaced_appends(Pair) == ["xs"]


def test_a_cached_value_is_not_carried_into_the_new_data() -> None:
    class Cached(Data):
        x: int = 0

        @cached_property
        def y(self) -> int:
            return self.x + 1

    class Set(Event):
        x: int

    old = Cached(x=1)
    assert old.y == 2
    assert fold(old, Set(x=5), merge_plan(Cached, Set)).y == 6


def test_a_validator_that_raises_whatever_is_an_invalid_payload() -> None:
    class Touchy(Data):
        x: int = 0

        @field_validator("x")
        @classmethod
        def burst(cls, value: int) -> int:
            raise RuntimeError("boom")

    class Set(Event):
        x: int

    with pytest.raises(InvalidPayload, match="boom"):
        fold(Touchy(), Set(x=5), merge_plan(Touchy, Set))


# --- types that do fit after all --------------------------------------------------------------------------------------


def words(value: object) -> object:
    return value.split() if isinstance(value, str) else value


class Numbers(RootModel[list[int]]): ...


class Loose(Data):
    split: Annotated[list[str], BeforeValidator(words)] = []
    also: list[str] = []
    root: Numbers = Numbers([])

    @field_validator("also", mode="before")
    @classmethod
    def parts(cls, value: object) -> object:
        return words(value)


class Loosely(Event):
    split: str
    also: str
    root: list[int]


def test_what_a_validator_or_a_root_model_takes_is_no_clash() -> None:
    assert clashes(Loose, Loosely) == []
    assert fold(Loose(), Loosely(split="a b", also="c d", root=[1]), merge_plan(Loose, Loosely)).also == ["c", "d"]
