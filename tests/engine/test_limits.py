"""The bounds, as a pure function of a run and an instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest

from statecraft import Ask, Budget, BudgetWarning, Data, Event, Failure, Machine, Run
from statecraft.calls.visit import Visit
from statecraft.engine.held import Held
from statecraft.engine.limits import limit, overrun, time_left
from statecraft.machine.definition import Definition
from statecraft.machine.event import event_name
from statecraft.records import Usage
from statecraft.store.port import Store
from statecraft.testing import ManualClock

SECOND = 1_000_000


class Note(Data):
    text: str = ""


class Next(Event): ...


class Yes(Event): ...


def bounded(*, warned: bool = True) -> Definition:
    """Everything is bounded: 5 steps, 2 visits and 10 s of `work`, 60 s of `question`, 100 tokens."""
    machine = Machine("bounded", data=Note, max_steps=5, deadline=timedelta(seconds=300), budget=Budget(tokens=100, warn_at=0.5))

    @machine.state(start=True, max_visits=2, timeout=timedelta(seconds=10))
    async def work(run: Run[Note]) -> Next:
        return Next()

    @machine.review(timeout=timedelta(seconds=60))
    async def question(run: Run[Note]) -> Ask[Yes]:
        return Ask("Go on?")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    rows = [work.on(Next) >> question, question.on(Yes) >> work, machine.anywhere.on(Failure) >> failed]
    machine.transitions(*rows, *([work.on(BudgetWarning) >> done] if warned else [question.on(BudgetWarning) >> done]))
    return machine.definition


@dataclass(frozen=True)
class At:
    """A run somewhere, and what its bounds say there."""

    says: str | None
    now: int = 0
    state: str = "work"
    seq: int = 1
    visits: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0
    entered: int = 0
    events: tuple[str, ...] = ()
    warned: bool = True


def held(at: At) -> Held:
    visit = Visit(cast(Store, None), ManualClock(), bytes(16), at.seq, 1)
    visits = {"work": 1, "question": 1, **at.visits}
    return Held(
        definition=bounded(warned=at.warned),
        machine=1,
        run_id=bytes(16),
        epoch=1,
        seq=at.seq,
        state=at.state,
        data=Note(),
        visits=visits,
        events={"start", *at.events},
        entered_at=at.entered * SECOND,
        deadline_at=300 * SECOND,
        hash=bytes(32),
        usage=Usage(at.tokens, 0),
        visit=visit,
        payload_bytes=0,
    )


@pytest.mark.parametrize(
    "at",
    [
        At(None),
        At(None, now=299),
        At("deadline_passed", now=300),
        At(None, now=300, events=("deadline_passed",)),
        At(None, seq=4),
        At("steps_exhausted", seq=5),
        At(None, seq=5, events=("steps_exhausted",)),
        At("deadline_passed", now=300, seq=5),
        At(None, visits={"work": 2}),
        At("visits_exhausted", visits={"work": 3}),
        At(None, state="question", now=59),
        At("review_expired", state="question", now=60),
        At(None, state="question", now=60, entered=1),
        At(None, now=60),
        At(None, tokens=49),
        At("budget_warning", tokens=50),
        At(None, tokens=50, events=("budget_warning",)),
        At(None, tokens=50, warned=False),
        At("budget_warning", tokens=50, warned=False, state="question"),
        At("budget_exhausted", tokens=100),
        At("budget_warning", tokens=100, events=("budget_exhausted",)),
        At(None, tokens=100, events=("budget_exhausted", "budget_warning")),
        At("visits_exhausted", visits={"work": 3}, tokens=100),
    ],
    ids=repr,
)
def test_each_bound_speaks_from_its_own_instant_on_and_in_its_order(at: At) -> None:
    bound = limit(held(at), at.now * SECOND)
    assert (None if bound is None else event_name(type(bound))) == at.says


@pytest.mark.parametrize(("seq", "over"), [(5, False), (8, False), (9, True)])
def test_after_the_last_step_as_many_are_granted_as_there_are_states(seq: int, over: bool) -> None:
    assert overrun(held(At(None, seq=seq))) is over


@pytest.mark.parametrize(
    ("at", "left"),
    [
        (At(None), (10.0, "state")),
        (At(None, now=4), (6.0, "state")),
        (At(None, now=11), (0.0, "state")),
        (At(None, now=296, entered=295), (4.0, "deadline")),
        (At(None, now=296, entered=295, events=("deadline_passed",)), (9.0, "state")),
        (At(None, state="question", now=200), (100.0, "deadline")),
        (At(None, state="question", now=200, events=("deadline_passed",)), (None, "")),
    ],
    ids=repr,
)
def test_a_handler_has_the_time_of_its_tightest_bound(at: At, left: tuple[float | None, str]) -> None:
    assert time_left(held(at), at.now * SECOND) == left
