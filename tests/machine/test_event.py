from __future__ import annotations

import pytest
from pydantic import ValidationError

from statecraft.machine.event import (
    SYSTEM_EVENTS,
    BudgetWarning,
    CallFailed,
    Event,
    Failure,
    SystemEvent,
    event_name,
)


class QueryParsed(Event):
    topic: str = ""


class LLMGaveUp(Event): ...


class Step2Done(Event): ...


@pytest.mark.parametrize(
    ("event", "name"),
    [(QueryParsed, "query_parsed"), (LLMGaveUp, "llm_gave_up"), (Step2Done, "step2_done"), (BudgetWarning, "budget_warning")],
)
def test_an_event_is_called_like_its_class_in_snake_case(event: type[Event], name: str) -> None:
    assert event_name(event) == name


def test_an_event_is_frozen_and_refuses_unknown_fields() -> None:
    event = QueryParsed(topic="x")
    with pytest.raises(ValidationError):
        event.topic = "y"
    with pytest.raises(ValidationError):
        QueryParsed.model_validate({"topic": "x", "tpoic": "y"})


def test_an_event_is_named_after_its_class_and_not_after_a_field() -> None:
    class Named(Event):
        name: str = "other"

    assert event_name(Named) == "named"
    assert event_name(type(Named())) == "named"


def test_every_system_event_can_be_made_without_arguments() -> None:
    assert all(isinstance(event(), SystemEvent) for event in SYSTEM_EVENTS)


def test_everything_but_the_budget_warning_is_a_failure() -> None:
    assert {event for event in SYSTEM_EVENTS if not issubclass(event, Failure)} == {BudgetWarning}


def test_failure_itself_is_a_pattern_and_never_raised() -> None:
    assert Failure not in SYSTEM_EVENTS


def test_a_system_event_survives_the_journal() -> None:
    event = CallFailed(name="search", kind="timeout", attempts=3, message="too slow")
    assert CallFailed.model_validate_json(event.model_dump_json()) == event
