"""The bounds, as a pure function of a run and an instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from statecraft import Ask, Budget, BudgetExhausted, BudgetWarning, Data, Event, Failure, Machine, Run
from statecraft.calls.visit import Visit
from statecraft.engine.budgets import inherited, own_draws, remaining
from statecraft.engine.held import Held, draws_of
from statecraft.engine.limits import limit, overrun, time_left, wakes_at, warning
from statecraft.machine.definition import Definition
from statecraft.machine.event import event_name
from statecraft.records import Draw, Usage
from statecraft.store.port import Store
from statecraft.testing import ManualClock

SECOND = 1_000_000


class Note(Data):
    text: str = ""


class Next(Event): ...


class Yes(Event): ...


def bounded(*, warned: bool = True, budget: Budget | None = None, of_state: Budget | None = None) -> Definition:
    """Everything is bounded: 5 steps, 2 visits and 10 s of `work`, 60 s of `question`, 100 tokens."""
    budget = budget or Budget(tokens=100, warn_at=0.5)
    machine = Machine("bounded", data=Note, max_steps=5, deadline=timedelta(seconds=300), budget=budget)

    @machine.state(start=True, max_visits=2, timeout=timedelta(seconds=10), budget=of_state)
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


def held(at: At, definition: Definition | None = None) -> Held:
    visit = Visit(cast(Store, None), ManualClock(), bytes(16), at.seq, 1)
    visits = {"work": 1, "question": 1, **at.visits}
    return Held(
        definition=definition or bounded(warned=at.warned),
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


# --- budgets of every unit --------------------------------------------------------------------------------------------

RUN = f"run:{bytes(16).hex()}"
STATE = f"state:{bytes(16).hex()}:work"


def spent(used: Mapping[str, int], now: int = 0, *, warned: bool = True, at: At = At(None)) -> Held:
    """A run that may spend 2 dollars, 10 calls and 100 seconds, and 4 calls in `work`."""
    budget = Budget(money="2.00", calls=10, wall=timedelta(seconds=100), warn_at=0.5)
    found = held(at, bounded(warned=warned, budget=budget, of_state=Budget(calls=4)))
    found.used = dict(used)
    return found


@pytest.mark.parametrize(
    ("used", "now", "says"),
    [
        ({}, 0, None),
        ({f"{RUN}:money": 999_999_999}, 0, None),
        ({f"{RUN}:money": 1_000_000_000}, 0, BudgetWarning(used=1.0, limit=2.0, unit="money", scope="run")),
        ({f"{RUN}:calls": 5}, 0, BudgetWarning(used=5, limit=10, unit="calls", scope="run")),
        ({f"{STATE}:calls": 3}, 0, None),
        ({}, 49, None),
        ({}, 50, BudgetWarning(used=50.0, limit=100.0, unit="wall", scope="run")),
    ],
)
def test_a_warning_names_the_unit_and_whose_budget_it_is(used: Mapping[str, int], now: int, says: object) -> None:
    assert limit(spent(used), now * SECOND) == says


@pytest.mark.parametrize(
    ("used", "now", "unit", "scope"),
    [
        ({f"{RUN}:money": 2_000_000_000}, 0, "money", "run"),
        ({f"{RUN}:calls": 11}, 0, "calls", "run"),
        ({f"{STATE}:calls": 4}, 0, "calls", "state"),
        ({f"{STATE}:calls": 4, f"{RUN}:calls": 9}, 0, "calls", "state"),
        ({}, 100, "wall", "run"),
    ],
)
def test_what_is_used_up_is_told_once(used: Mapping[str, int], now: int, unit: str, scope: str) -> None:
    says = limit(spent(used), now * SECOND)
    assert isinstance(says, BudgetExhausted)
    assert (says.unit, says.scope) == (unit, scope)
    assert says.used >= says.limit
    again = limit(spent(used, at=At(None, entered=now, events=("budget_exhausted", "budget_warning"))), now * SECOND)
    assert again is None


def test_the_budget_of_a_state_does_not_bind_another() -> None:
    assert limit(spent({f"{STATE}:calls": 4}, at=At(None, state="question")), 0) is None


def test_a_visit_that_has_begun_is_let_finish_by_all_but_time() -> None:
    run = spent({f"{RUN}:money": 2_000_000_000})
    run.visit.recorded[(b"", 0)] = cast(Any, None)
    assert limit(run, 0) is None
    assert isinstance(limit(run, 100 * SECOND), BudgetExhausted)


def test_a_warning_without_a_row_is_still_known_to_be_due() -> None:
    run = spent({f"{RUN}:calls": 8}, warned=False)
    assert limit(run, 0) is None
    assert warning(run, 0) == BudgetWarning(used=8, limit=10, unit="calls", scope="run")
    run.events.add("budget_warning")
    assert warning(run, 0) is None


def test_a_handler_has_no_more_time_than_the_budgets_wall_and_a_parked_run_wakes_at_its_end() -> None:
    assert time_left(spent({}, at=At(None, entered=95)), 96 * SECOND) == (4.0, "budget")
    assert wakes_at(spent({})) == 100 * SECOND
    after = spent({}, at=At(None, entered=100, events=("budget_exhausted",)))
    assert time_left(after, 101 * SECOND) == (9.0, "state")
    assert wakes_at(after) == 300 * SECOND


def test_a_budget_that_was_exhausted_before_its_time_still_ends_in_time() -> None:
    """It was another unit, or another budget, such as that of one visit."""
    used = {f"{RUN}:calls": 10}
    visit = spent(used, at=At(None, entered=95, events=("budget_exhausted", "budget_warning")))
    assert limit(visit, 99 * SECOND) is None
    assert (time_left(visit, 96 * SECOND), wakes_at(visit)) == ((4.0, "budget"), 100 * SECOND)
    says = limit(visit, 100 * SECOND)
    assert isinstance(says, BudgetExhausted)
    assert (says.unit, says.scope) == ("wall", "run")


def test_a_child_draws_on_all_that_its_parent_draws_on_and_ends_with_its_time() -> None:
    parent = spent({})
    parent.began_at, parent.draws = 7 * SECOND, (Draw("run:ff", {"tokens": 5}),)
    limits = {"money": 2_000_000_000, "calls": 10, "wall": 100 * SECOND, "until": 107 * SECOND}
    passed_on = (Draw(RUN, limits), Draw(STATE, {"calls": 4}), Draw("run:ff", {"tokens": 5}))
    assert draws_of(inherited(parent)) == passed_on
    child = held(At(None, state="question", entered=100))
    child.run_id, child.draws = b"c" * 16, passed_on
    assert wakes_at(child) == 107 * SECOND
    says = limit(child, 107 * SECOND)
    assert isinstance(says, BudgetExhausted)
    assert (says.unit, says.scope, says.limit) == ("wall", "parent", 100.0)


def test_without_budgets_there_is_nothing_to_pass_on() -> None:
    machine = Machine("free", data=Note)

    @machine.state(start=True)
    async def work(run: Run[Note]) -> Next:
        return Next()

    machine.transitions(work.on(Next) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> machine.final("failed"))
    run = held(At(None), machine.definition)
    assert inherited(run) is None
    assert own_draws(run) == ()


def test_what_is_left_is_the_least_of_all_budgets() -> None:
    draws = (
        Draw("run:a", {"money": 4_000_000_000, "wall": 10 * SECOND, "until": 12 * SECOND}),
        Draw("tenant:t:0", {"money": 10**9}),
    )
    found = remaining(draws, {"run:a:money": 3_000_000_000, "tenant:t:0:money": 800_000_000}, 7 * SECOND)
    assert found == {"left": {"money": 0.2, "wall": 5.0}, "share": 0.8}
    assert remaining((), {}, 0) == {"left": {}, "share": 0.0}
