from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, create_model, field_validator

from statecraft.errors import InvalidPayload
from statecraft.machine.data import Append, Data, MergePlan, clashes, fold, merge_plan, misplaced_appends
from statecraft.machine.event import CallFailed, Event


class Source(BaseModel):
    url: str


class Plan(BaseModel):
    topics: list[str] = []


class Brief(Data):
    question: str = "q"
    plan: Plan | None = None
    sources: Append[list[Source]] = []
    marks: Append[tuple[int, ...]] = ()
    score: float = 0.0
    share: Annotated[float, Field(ge=0, le=1)] = 0.0


class Planned(Event):
    plan: Plan
    reason: str = "not in the data"


class Found(Event):
    sources: list[Source]


class Marked(Event):
    marks: tuple[int, ...]


class Scored(Event):
    score: int


class Shared(Event):
    share: float


class Nothing(Event):
    reason: str = ""


def merged(data: Brief, event: Event) -> Brief:
    return fold(data, event, merge_plan(Brief, type(event)))


def test_a_payload_field_replaces_the_data_field_of_its_name() -> None:
    brief = merged(Brief(plan=Plan(topics=["old"])), Planned(plan=Plan(topics=["new"])))
    assert brief.plan == Plan(topics=["new"])


def test_an_append_field_grows_at_the_end() -> None:
    brief = Brief()
    for url in ("a", "b"):
        brief = merged(brief, Found(sources=[Source(url=url)]))
    assert [source.url for source in brief.sources] == ["a", "b"]


def test_an_appended_tuple_stays_a_tuple() -> None:
    assert merged(Brief(marks=(1,)), Marked(marks=(2, 3))).marks == (1, 2, 3)


def test_folding_changes_neither_the_old_data_nor_the_event() -> None:
    old, event = Brief(sources=[Source(url="a")]), Found(sources=[Source(url="b")])
    merged(old, event)
    assert len(old.sources) == 1
    assert len(event.sources) == 1


def test_an_event_that_shares_no_field_leaves_the_same_data() -> None:
    brief = Brief()
    assert merged(brief, Nothing(reason="x")) is brief


def test_a_field_left_at_its_default_counts_like_any_other() -> None:
    class Noted(Event):
        question: str = "from the default"

    live = merged(Brief(question="old"), Noted())
    replayed = merged(Brief(question="old"), Noted.model_validate_json(Noted().model_dump_json()))
    assert live == replayed
    assert live.question == "from the default"


def test_system_events_merge_nothing_even_if_the_names_agree() -> None:
    class Calls(Data):
        name: str = "mine"

    assert merge_plan(Calls, CallFailed) == MergePlan()


@pytest.mark.parametrize(
    ("event", "validated"),
    [(Planned, False), (Found, False), (Marked, False), (Scored, True), (Shared, True), (Nothing, False)],
)
def test_only_what_the_types_do_not_guarantee_is_validated(event: type[Event], validated: bool) -> None:
    assert merge_plan(Brief, event).validate is validated


def test_a_value_of_another_type_is_converted() -> None:
    score = merged(Brief(), Scored(score=3)).score
    assert (score, type(score)) == (3.0, float)


def test_a_value_that_breaks_a_rule_of_the_data_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidPayload, match=r"shared does not fit Brief: share: .*less than or equal to 1"):
        merged(Brief(), Shared(share=2.0))


def test_a_validator_of_the_data_is_asked_although_the_types_agree() -> None:
    class Strict(Data):
        note: str = ""

        @field_validator("note")
        @classmethod
        def short(cls, note: str) -> str:
            if len(note) > 3:
                raise ValueError("too long")
            return note

    class Noted(Event):
        note: str

    plan = merge_plan(Strict, Noted)
    assert fold(Strict(), Noted(note="abc"), plan).note == "abc"
    with pytest.raises(InvalidPayload, match=r"note: .*too long"):
        fold(Strict(), Noted(note="abcd"), plan)


def test_data_is_frozen_and_refuses_unknown_fields() -> None:
    brief = Brief()
    with pytest.raises(ValidationError):
        brief.question = "other"
    with pytest.raises(ValidationError):
        Brief.model_validate({"qestion": "q"})


class Other(BaseModel):
    x: int


class BetterPlan(Plan): ...


CAN: list[tuple[Any, Any]] = [
    (int, float),
    (float, int),
    (str, int),
    (Plan, Plan | None),
    (Plan | None, Plan),
    (BetterPlan, Plan),
    (dict[str, Any], Plan),
    (list[int], list[float]),
    (list[int], tuple[int, ...]),
    (Any, int),
    (int, object),
    (Literal["a"], str),
    (Annotated[int, Field(gt=0)], int),
    (dict[str, int], dict[str, float]),
    (list[Any], list[Plan]),
]
NEVER: list[tuple[Any, Any]] = [
    (Other, Plan),
    (Plan, str),
    (int, str),
    (list[int], int),
    (int, list[int]),
    (Source, list[Source]),
    (list[Other], list[Plan]),
    (Other, Plan | None),
    (dict[str, Other], dict[str, Plan]),
    (type(None), int),
]


def pair(source: Any, target: Any) -> tuple[type[Data], type[Event]]:
    return create_model("Holder", __base__=Data, x=(target, ...)), create_model("Given", __base__=Event, x=(source, ...))


@pytest.mark.parametrize(("source", "target"), CAN, ids=str)
def test_types_that_may_fit_are_no_clash(source: Any, target: Any) -> None:
    assert clashes(*pair(source, target)) == []


@pytest.mark.parametrize(("source", "target"), NEVER, ids=str)
def test_types_that_never_fit_are_a_clash(source: Any, target: Any) -> None:
    ((field, why),) = clashes(*pair(source, target))
    assert field == "x"
    assert "never fits" in why


def test_append_in_a_place_where_it_means_nothing_is_found() -> None:
    class Odd(Data):
        good: Append[list[int]] = []
        also_good: Append[tuple[int, ...]] = ()
        on_a_number: Append[int] = 0
        inside: Append[list[int]] | None = None

    assert misplaced_appends(Odd) == ["on_a_number", "inside"]
