"""Each difference between two definitions is named, and what runs do not depend on is none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import Field

from statecraft import Append, Ask, Budget, Data, Event, Failure, Machine, Run, hours, tool
from statecraft.engine.versions import difference


class Note(Data):
    text: str = ""
    lines: list[str] = []


class Longer(Data):
    text: str = ""
    lines: list[str] = []
    title: str = ""


class Needed(Data):
    text: str
    lines: list[str] = []


class Numbered(Data):
    text: int = 0
    lines: list[str] = []


class Grown(Data):
    text: str = ""
    lines: Append[list[str]] = []


class Reworded(Data):
    """The same, said better."""

    text: str = Field(default="", description="What was written.")
    lines: list[str] = []


class Written(Event):
    text: str


class Kept(Event): ...


class Torn(Event): ...


def long_enough(event: Written, data: Any) -> bool:
    return len(event.text) > 9


def not_empty(event: Written, data: Any) -> bool:
    return bool(event.text)


@tool
def spell(word: str) -> bool:
    """Whether a word is right."""
    return True


HOUR = hours(1)


def diary(
    data: type[Any] = Note,
    *,
    name: str = "writing",
    doc: str = "Write.",
    review: timedelta = HOUR,
    third: bool = False,
    guard: Any = long_enough,
    swapped: bool = False,
    state: dict[str, Any] | None = None,
    **machine: Any,
) -> Machine[Any]:
    m: Machine[Any] = Machine("diary", data=data, **machine)

    async def write(run: Run[Any]) -> Written: ...  # type: ignore[empty-body]

    write.__name__, write.__doc__ = name, doc
    writing = m.state(start=True, **(state or {}))(write)
    done, lost = m.final("done", ok=True), m.final("lost")
    if third:

        @m.review(timeout=review)
        async def reading(run: Run[Any]) -> Ask[Kept | Torn]: ...  # type: ignore[empty-body]

        torn = [reading.on(Torn) >> lost]
    else:

        @m.review(timeout=review)
        async def reading(run: Run[Any]) -> Ask[Kept]: ...  # type: ignore[empty-body]

        torn = []
    rows = [writing.on(Written.when(guard)) >> reading, writing.on(Written.when(not_nothing)) >> done]
    rows = rows[::-1] if swapped else rows
    m.transitions(*rows, writing.on(Written) >> lost, reading.on(Kept) >> done, *torn, m.anywhere.on(Failure) >> lost)
    return m


def not_nothing(event: Written, data: Any) -> bool:
    return event.text != "nothing"


DIFFERENCES: list[tuple[dict[str, Any], str]] = [
    ({"name": "drafting"}, "state writing is gone; state drafting is new; row writing.written[long_enough] -> reading is gone"),
    ({"review": hours(2)}, "state reading changed (timeout_s)"),
    ({"state": {"max_visits": 3}}, "state writing changed (max_visits)"),
    ({"state": {"timeout": hours(1)}}, "state writing changed (timeout_s)"),
    ({"state": {"tools": [spell]}}, "state writing changed (tools)"),
    ({"state": {"budget": Budget(tokens=9)}}, "state writing changed (budget)"),
    ({"third": True}, "state reading changed (events); row reading.torn -> lost is new; event torn is new"),
    (
        {"guard": not_empty},
        "row writing.written[long_enough] -> reading is gone; row writing.written[not_empty] -> reading is new",
    ),
    ({"swapped": True}, "rows are in another order"),
    ({"data": Longer}, "data field title is new"),
    ({"data": Needed}, "data field text changed"),
    ({"data": Numbered}, "data field text changed"),
    ({"data": Grown}, "append changed"),
    ({"version": "2"}, "version changed"),
    ({"max_steps": 7}, "max_steps changed"),
    ({"deadline": hours(9)}, "deadline_s changed"),
    ({"budget": Budget(tokens=9)}, "budget changed"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("change", "said"), DIFFERENCES, ids=[said for _, said in DIFFERENCES])
def test_a_difference_is_named_and_changes_the_fingerprint(change: dict[str, Any], said: str) -> None:
    old, new = diary().definition, diary(**change).definition
    assert said in difference(old.spec, new.spec)
    assert old.fingerprint != new.fingerprint
    assert difference(new.spec, new.spec) == ""


@pytest.mark.parametrize("change", [{}, {"doc": "Write well."}, {"data": Reworded}], ids=["nothing", "docstring", "description"])
def test_its_neighbour_differs_in_nothing_that_runs_depend_on(change: dict[str, Any]) -> None:
    old, new = diary().definition, diary(**change).definition
    assert difference(old.spec, new.spec) == ""
    assert old.fingerprint == new.fingerprint
