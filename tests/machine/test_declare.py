from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from statecraft.errors import ConfigError, DefinitionError, IllegalEvent, InvalidPayload
from statecraft.machine.budget import Budget
from statecraft.machine.context import Run
from statecraft.machine.data import Append, Data
from statecraft.machine.declare import Machine
from statecraft.machine.event import REWRITES, SYSTEM_EVENTS, Event, Failure, ReviewExpired, event_name
from statecraft.machine.state import Ask


class Found(Event):
    links: list[str]


class Lost(Event): ...


class Kept(Event):
    note: str = ""


class Trail(Data):
    question: str = ""
    links: Append[list[str]] = []
    note: str = ""


@dataclass(frozen=True)
class Tool:
    name: str

    def bind(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}

    def load(self, text: str, /) -> str:
        return text


search = Tool("search")


def build(*, close: bool = True) -> Machine[Trail]:
    m = Machine("trail", data=Trail, version="3", max_steps=9, deadline=timedelta(minutes=1), budget=Budget(1000))

    @m.state(start=True, tools=[search], timeout=timedelta(seconds=5))
    async def looking(run: Run[Trail]) -> Found | Lost:
        """Look for links."""
        return Found(links=[run.data.question]) if run.data.question else Lost()

    @m.review(timeout=timedelta(days=1))
    def judging(run: Run[Trail]) -> Ask[Kept]:
        return Ask("Keep them?", show=run.data.links)

    kept = m.final("kept", ok=True)
    lost = m.final("lost")
    rows = [
        looking.on(Found) >> judging,
        looking.on(Lost) >> lost,
        judging.on(Kept).to(kept),
        judging.on(ReviewExpired) >> lost,
        m.anywhere.on(Failure) >> lost,
    ]
    if close:
        m.transitions(*rows)
    return m


def test_a_closed_machine_says_what_was_declared() -> None:
    definition = build().definition
    assert (definition.name, definition.version, definition.start) == ("trail", "3", "looking")
    assert (definition.max_steps, definition.deadline, definition.budget) == (9, timedelta(minutes=1), Budget(1000))
    assert list(definition.states) == ["looking", "judging", "kept", "lost"]
    assert [state.kind for state in definition.states.values()] == ["work", "review", "final", "final"]
    looking = definition.states["looking"]
    assert (looking.events, looking.tools, looking.doc) == (("found", "lost"), ("search",), "Look for links.")
    assert definition.states["kept"].ok
    assert not definition.states["lost"].ok
    assert [str(row.source) for row in definition.rows] == ["looking", "looking", "judging", "judging", ""]


def test_the_handlers_are_kept_with_their_kind_and_their_tools() -> None:
    handlers = build().definition.handlers
    assert set(handlers) == {"looking", "judging"}
    assert handlers["looking"].is_async
    assert not handlers["judging"].is_async
    assert handlers["looking"].tools == (search,)


def test_every_event_that_can_appear_has_a_class() -> None:
    events = build().definition.events
    assert set(events) == {"found", "lost", "kept", *map(event_name, SYSTEM_EVENTS), *map(event_name, REWRITES)}


def test_the_edges_are_every_possible_move_and_the_start() -> None:
    edges = build().definition.edges
    assert edges[0] == ("", "start", "looking")
    assert ("looking", "found", "judging") in edges
    assert ("looking", "handler_failed", "lost") in edges
    assert ("judging", "handler_failed", "lost") in edges
    assert not [edge for edge in edges if edge[0] in {"kept", "lost"}]
    assert ("looking", "failure", "lost") not in edges
    assert len(set(edges)) == len(edges)


def test_what_a_row_without_a_guard_hides_is_no_edge() -> None:
    edges = build().definition.edges
    assert [target for source, event, target in edges if (source, event) == ("judging", "review_expired")] == ["lost"]


def test_the_events_of_a_state_are_listed_before_system_events() -> None:
    enabled = build().definition.enabled("looking")
    assert enabled[:2] == ("found", "lost")
    assert "call_failed" in enabled
    assert "budget_warning" not in enabled
    assert build().definition.enabled("kept") == ()


def test_a_definition_folds_events_into_data() -> None:
    definition = build().definition
    data = definition.fold(Trail(links=["a"]), Found(links=["b"]))
    assert data.links == ["a", "b"]
    assert definition.fold(data, definition.events["handler_failed"]()) is data


def test_an_event_is_rebuilt_from_its_name_and_payload() -> None:
    assert build().definition.event("found", '{"links": ["a"]}') == Found(links=["a"])


def test_an_unknown_event_is_refused_with_the_known_ones() -> None:
    with pytest.raises(IllegalEvent, match="trail has no event 'fuond'; it has found, kept, lost"):
        build().definition.event("fuond", "{}")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ('{"links": 3}', "links: "),
        ("{}", "links: Field required"),
        ('{"links": [], "x": 1}', "x: "),
        ("{", "payload: Invalid JSON"),
    ],
)
def test_a_payload_that_does_not_validate_is_refused_with_its_place(payload: str, reason: str) -> None:
    with pytest.raises(InvalidPayload, match=f"payload of found is not valid: {reason}"):
        build().definition.event("found", payload)


def test_an_open_machine_has_no_definition() -> None:
    with pytest.raises(ConfigError, match=r"trail is not closed: call trail\.transitions"):
        _ = build(close=False).definition


def test_a_closed_machine_takes_no_more_states_and_no_second_table() -> None:
    m = build()
    with pytest.raises(ConfigError, match="closed"):
        m.final("more")
    with pytest.raises(ConfigError, match="closed"):
        m.state()(lambda run: Lost())
    with pytest.raises(ConfigError, match="closed"):
        m.transitions()


def test_a_machine_whose_table_is_refused_stays_open_and_can_be_closed_by_a_better_one() -> None:
    m = Machine("m", data=Trail)

    @m.state(start=True)
    async def s(run: Run[Trail]) -> Found | Lost:
        raise NotImplementedError

    end = m.final("end", ok=True)
    with pytest.raises(DefinitionError):
        m.transitions(s.on(Found) >> end)
    with pytest.raises(ConfigError, match="not closed"):
        _ = m.definition
    m.transitions(s.on(Found) >> end, s.on(Lost) >> end)
    assert m.definition.start == "s"


def test_a_handler_is_called_like_the_function_it_is() -> None:
    m = Machine("m", data=Trail)

    @m.state(start=True)
    async def s(run: Run[Trail]) -> Found:
        return Found(links=[run.data.question])

    @m.state()
    def plain(run: Run[Trail]) -> Lost:
        return Lost()

    @m.review()
    async def r(run: Run[Trail]) -> Ask[Kept]:
        return Ask("ok?", show=run.visit)

    run: Run[Trail] = Run()
    run.data = Trail(question="q")
    run.visit = 2
    assert asyncio.run(s(run)) == Found(links=["q"])
    assert asyncio.run(plain(run)) == Lost()
    assert asyncio.run(r(run)) == Ask("ok?", show=2)
    assert Ask[Kept]("ok?").question == "ok?"


def test_a_decorated_handler_keeps_its_name_and_events() -> None:
    m = Machine("m", data=Trail)

    def logged(fn: Any) -> Any:
        @functools.wraps(fn)
        async def wrapper(run: Run[Trail]) -> Any:
            return await fn(run)

        return wrapper

    @m.state(start=True)
    @logged
    async def s(run: Run[Trail]) -> Lost:
        raise NotImplementedError

    m.transitions(s.on(Lost) >> m.final("end", ok=True))
    assert m.definition.states["s"].events == ("lost",)
    assert m.definition.handlers["s"].is_async


@pytest.mark.parametrize(("tokens", "warn_at"), [(0, 0.8), (10, 0.0), (10, 1.1)])
def test_a_budget_that_cannot_be_is_refused(tokens: int, warn_at: float) -> None:
    with pytest.raises(ConfigError):
        Budget(tokens, warn_at)


@pytest.mark.parametrize("name", ["", "two words"])
def test_a_machine_needs_a_name_without_spaces(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        Machine(name, data=Trail)


def test_a_machine_needs_a_data_class() -> None:
    with pytest.raises(ConfigError, match="subclass of Data"):
        Machine("m", data=dict)  # type: ignore[type-var]
