"""Which events a state has is read from its handler's annotation, however it is written and wherever it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

import pytest

from statecraft.errors import DefinitionError
from statecraft.machine.alphabet import Unreadable, calling_scope, read_events
from statecraft.machine.context import Run
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.event import Event, Failure
from statecraft.machine.state import Ask


class A(Event): ...


class B(Event): ...


class Notes(Data): ...


def single(run: Run[Notes]) -> A:
    raise NotImplementedError


def union(run: Run[Notes]) -> A | B:
    raise NotImplementedError


def old_union(run: Run[Notes]) -> Union[B, A]:  # noqa: UP007
    raise NotImplementedError


async def coroutine(run: Run[Notes]) -> A | B:
    raise NotImplementedError


def review(run: Run[Notes]) -> Ask[A | B]:
    raise NotImplementedError


def nothing(run: Run[Notes]) -> None: ...


def silent(run: Run[Notes]):  # type: ignore[no-untyped-def]
    raise NotImplementedError


def number(run: Run[Notes]) -> A | int:
    raise NotImplementedError


def anything(run: Run[Notes]) -> Event:
    raise NotImplementedError


def any_failure(run: Run[Notes]) -> Failure:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("fn", "is_review", "events"),
    [
        (single, False, (A,)),
        (union, False, (A, B)),
        (old_union, False, (B, A)),
        (coroutine, False, (A, B)),
        (review, True, (A, B)),
    ],
)
def test_events_are_read_in_the_order_written(
    fn: Callable[..., object], is_review: bool, events: tuple[type[Event], ...]
) -> None:
    assert read_events(fn, review=is_review, scope={}) == events


@pytest.mark.parametrize(
    ("fn", "is_review", "reason"),
    [
        (nothing, False, "NoneType is not a subclass of Event"),
        (silent, False, "no return annotation"),
        (number, False, "int is not a subclass of Event"),
        (anything, False, "Event stands for many events"),
        (any_failure, False, "Failure stands for many events"),
        (review, False, r"Ask\[.*\] is not a subclass of Event"),
        (single, True, r"a review answers with Ask\[\.\.\.\], not A"),
    ],
)
def test_an_annotation_that_names_no_events_is_refused(fn: Callable[..., object], is_review: bool, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read_events(fn, review=is_review, scope={})


def machine() -> Machine[Notes]:
    return Machine("m", data=Notes)


def test_events_local_to_a_function_are_found() -> None:
    class Local(Event): ...

    m = machine()

    @m.state(start=True)
    async def s(run: Run[Notes]) -> Local | A:
        raise NotImplementedError

    end = m.final("end", ok=True)
    m.transitions(s.on(Local) >> end, s.on(A) >> end)
    assert m.definition.states["s"].events == ("local", "a")


def test_events_of_an_enclosing_function_that_is_still_running_are_found() -> None:
    class Outer(Event): ...

    def build() -> Machine[Notes]:
        m = machine()

        @m.state(start=True)
        async def s(run: Run[Notes]) -> Outer:
            raise NotImplementedError

        m.transitions(s.on(end_event()) >> m.final("end", ok=True))
        return m

    def end_event() -> type[Any]:
        return Outer

    assert build().definition.states["s"].events == ("outer",)


def test_an_event_declared_after_the_handler_is_found_when_the_machine_closes() -> None:
    m = machine()

    @m.state(start=True)
    async def s(run: Run[Notes]) -> Later:
        raise NotImplementedError

    class Later(Event): ...

    m.transitions(s.on(Later) >> m.final("end", ok=True))
    assert m.definition.states["s"].events == ("later",)


def test_a_name_that_nobody_knows_is_a_finding_that_names_state_and_name() -> None:
    m = machine()

    @m.state(start=True)
    async def s(run: Run[Notes]) -> Unheard:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
        raise NotImplementedError

    with pytest.raises(DefinitionError, match=r"SC118 s: .*'Unheard', which is not defined here.*Fix: annotate"):
        m.transitions(s.on(A) >> m.final("end", ok=True))


def test_names_of_other_modules_on_the_stack_are_not_looked_at() -> None:
    def here() -> None: ...

    assert "here" in calling_scope(here)
    assert "pytest_pyfunc_call" not in calling_scope(here)
