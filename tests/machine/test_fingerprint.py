"""The fingerprint changes with whatever changes how a run moves or what it stores, and with nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import create_model

from statecraft.machine.budget import Budget
from statecraft.machine.context import Run
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition
from statecraft.machine.event import Event, Failure
from statecraft.machine.fingerprint import canonical

PINNED = "0383ead9a37aba5aa29ea179a3123bc5cf1c54161b7193199785c8f2501e4103"


def small(
    *,
    version: str = "1",
    max_steps: int = 5,
    deadline: timedelta | None = None,
    budget: Budget | None = None,
    state_budget: Budget | None = None,
    timeout: timedelta | None = None,
    ok: bool = True,
    guard_called: str = "long_enough",
    more_rows: bool = False,
    data_field: str = "text",
    payload_type: type = str,
    answer: str = "hello",
    doc: str = "Says something.",
    data_doc: str = "What was said.",
) -> Definition:
    data = create_model("Talk", __base__=Data, __doc__=data_doc, **{data_field: (str, "")})  # type: ignore[call-overload]
    said: type[Any] = create_model("Said", __base__=Event, text=(payload_type, ...))
    m: Machine[Any] = Machine("talk", data=data, version=version, max_steps=max_steps, deadline=deadline, budget=budget)

    async def speaking(run: Run[Any]) -> Any:
        return said(text=answer)

    speaking.__doc__ = doc
    speaking.__annotations__["return"] = said
    state = m.state(start=True, timeout=timeout, budget=state_budget)(speaking)

    def guard(event: Any, data: Any) -> bool:
        return len(event.text) > 3

    guard.__name__ = guard_called
    done, mute = m.final("done", ok=ok), m.final("mute")
    rows = [state.on(said.when(guard)) >> done, state.on(said) >> mute]
    m.transitions(*rows, *([m.anywhere.on(Failure) >> mute] if more_rows else []))
    return m.definition


def test_the_fingerprint_of_a_small_machine_is_what_it_always_was() -> None:
    assert small().fingerprint == PINNED


def test_a_budget_of_tokens_leaves_the_fingerprint_what_it_was_before_there_were_other_limits() -> None:
    pinned = "101bd0e1d5d0931680c9bbad24a15bcff1172ee561da9e94e6000dee83e5420e"
    assert small(budget=Budget(100)).fingerprint == pinned


@pytest.mark.parametrize(
    "same",
    [
        lambda: small(answer="good day"),
        lambda: small(doc="Speaks."),
        lambda: small(data_doc="Other words."),
    ],
    ids=["handler", "docstring", "data docstring"],
)
def test_code_and_prose_do_not_count(same: Callable[[], Definition]) -> None:
    assert same().fingerprint == small().fingerprint


@pytest.mark.parametrize(
    "other",
    [
        lambda: small(version="2"),
        lambda: small(max_steps=6),
        lambda: small(deadline=timedelta(minutes=1)),
        lambda: small(budget=Budget(100)),
        lambda: small(state_budget=Budget(100)),
        lambda: small(timeout=timedelta(seconds=1)),
        lambda: small(ok=False),
        lambda: small(guard_called="short_enough"),
        lambda: small(more_rows=True),
        lambda: small(data_field="words"),
    ],
    ids=["version", "steps", "deadline", "budget", "state budget", "timeout", "ok", "guard", "row", "data"],
)
def test_everything_else_counts(other: Callable[[], Definition]) -> None:
    assert other().fingerprint != small().fingerprint


def test_the_type_of_a_payload_field_counts() -> None:
    assert small(data_field="words", payload_type=int).fingerprint != small(data_field="words").fingerprint


def test_the_specification_tells_enough_to_draw_the_machine() -> None:
    spec = json.loads(small(budget=Budget(100, 0.5), deadline=timedelta(seconds=90)).spec)
    assert spec["rows"][0] == {"source": "speaking", "event": "said", "target": "done", "guard": "long_enough"}
    assert spec["states"][0] == {
        "name": "speaking",
        "kind": "work",
        "ok": False,
        "max_visits": None,
        "timeout_s": None,
        "events": ["said"],
        "tools": [],
        "doc": "Says something.",
    }
    assert (spec["start"], spec["max_steps"], spec["deadline_s"]) == ("speaking", 5, 90.0)
    assert spec["budget"] == {"tokens": 100, "warn_at": 0.5}
    assert list(spec["events"]) == ["said"]
    assert spec["data"]["properties"]["text"]["type"] == "string"


def test_a_field_may_be_called_title_and_still_counts() -> None:
    def page(field: str) -> Definition:
        return small(data_field=field)

    assert page("title").fingerprint != page("description").fingerprint


def test_canonical_json_has_one_form() -> None:
    assert canonical({"b": 1, "a": [True, None, "é"]}) == '{"a":[true,null,"é"],"b":1}'
