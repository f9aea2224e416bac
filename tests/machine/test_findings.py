"""Every check has a machine that triggers it and one, as similar as can be, that does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft.errors import DefinitionError, Finding
from statecraft.machine import check
from statecraft.machine.budget import Budget
from statecraft.machine.context import Run
from statecraft.machine.data import Append, Data
from statecraft.machine.declare import Machine
from statecraft.machine.event import (
    BudgetExhausted,
    BudgetWarning,
    CallFailed,
    DeadlinePassed,
    Event,
    Failure,
    ReviewExpired,
    StateTimeout,
    VisitsExhausted,
)
from statecraft.machine.properties import never
from statecraft.machine.state import Ask, Row
from tests.machine.migration_cases import MIGRATIONS


class Go(Event):
    n: int = 0


class Stop(Event): ...


class Ok(Event): ...


class Board(Data):
    n: int = 0


def odd(event: Go, data: Board) -> bool:
    return event.n % 2 == 1


def big(event: Go, data: Board) -> bool:
    return event.n > 9


@dataclass(frozen=True)
class Tool:
    name: str

    def bind(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}

    def load(self, text: str, /) -> str:
        return text


class Draft:
    """A machine with the states that most cases need: `first` and `second`, both answering `Go` or `Stop`."""

    def __init__(self, *, max_visits: int | None = None, timeout: timedelta | None = None, **settings: Any) -> None:
        m = Machine("m", data=Board, **settings)

        @m.state(start=True, timeout=timeout)
        async def first(run: Run[Board]) -> Go | Stop:
            raise NotImplementedError

        @m.state(max_visits=max_visits)
        async def second(run: Run[Board]) -> Go | Stop:
            raise NotImplementedError

        self.m, self.first, self.second = m, first, second
        self.done = m.final("done", ok=True)
        self.lost = m.final("lost")
        self.rows: list[Row[Board]] = [first.on(Stop) >> self.lost, second.on(Stop) >> self.lost]

    def close(self, *rows: Row[Board]) -> Machine[Board]:
        self.m.transitions(*self.rows, *rows)
        return self.m

    def straight(self, *rows: Row[Board]) -> Machine[Board]:
        return self.close(self.first.on(Go) >> self.second, self.second.on(Go) >> self.done, *rows)


def review(*, timeout: timedelta | None, expiry: bool) -> Machine[Board]:
    m = Machine("m", data=Board)

    @m.review(timeout=timeout)
    async def asking(run: Run[Board]) -> Ask[Ok]:
        raise NotImplementedError

    @m.state(start=True)
    async def first(run: Run[Board]) -> Go:
        raise NotImplementedError

    done = m.final("done", ok=True)
    rows = [first.on(Go) >> asking, asking.on(Ok) >> done]
    m.transitions(*rows, *([asking.on(ReviewExpired) >> done] if expiry else []))
    return m


def single(
    *, starts: tuple[bool, bool] = (True, False), data: type[Any] = Board, event: type[Any] = Go, annotation: Any = None
) -> Machine[Any]:
    m: Machine[Any] = Machine("m", data=data)

    async def first(run: Run[Any]) -> Any: ...
    async def second(run: Run[Any]) -> Any: ...

    first.__annotations__["return"] = second.__annotations__["return"] = annotation or event
    one, two = m.state(start=starts[0])(first), m.state(start=starts[1])(second)
    m.transitions(one.on(event) >> two, two.on(event) >> m.final("done", ok=True))
    return m


# --- the cases --------------------------------------------------------------------------------------------------------


def no_start() -> Machine[Any]:
    return single(starts=(False, False))


def two_starts() -> Machine[Any]:
    return single(starts=(True, True))


def one_start() -> Machine[Any]:
    return single()


def text_target() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(CallFailed) >> "lost")  # type: ignore[operator]


def foreign_target() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(CallFailed) >> Draft().lost)


def foreign_source() -> Machine[Any]:
    d = Draft()
    return d.straight(Draft().first.on(CallFailed) >> d.lost)


def own_target() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(CallFailed) >> d.lost)


def unreachable() -> Machine[Any]:
    d = Draft()
    return d.close(d.first.on(Go) >> d.done, d.second.on(Go) >> d.done)


def reached_by_a_failure_only() -> Machine[Any]:
    d = Draft()
    return d.close(d.first.on(Go) >> d.done, d.second.on(Go) >> d.done, d.first.on(CallFailed) >> d.second)


def trap() -> Machine[Any]:
    m = Machine("m", data=Board)

    @m.state(start=True)
    async def first(run: Run[Board]) -> Go | Stop:
        raise NotImplementedError

    @m.state()
    async def round_and_round(run: Run[Board]) -> Go:
        raise NotImplementedError

    done = m.final("done", ok=True)
    m.transitions(first.on(Go) >> round_and_round, first.on(Stop) >> done, round_and_round.on(Go) >> round_and_round)
    return m


def loop_until_the_deadline() -> Machine[Any]:
    d = Draft(deadline=timedelta(minutes=1))
    return d.close(d.first.on(Go) >> d.second, d.second.on(Go) >> d.first, d.m.anywhere.on(DeadlinePassed) >> d.done)


def hopeless() -> Machine[Any]:
    d = Draft()
    return d.close(d.first.on(Go) >> d.done, d.first.on(CallFailed) >> d.second, d.second.on(Go) >> d.lost)


def no_success() -> Machine[Any]:
    m = Machine("m", data=Board)

    @m.state(start=True)
    async def first(run: Run[Board]) -> Go:
        raise NotImplementedError

    m.transitions(first.on(Go) >> m.final("over"))
    return m


def final_with_exit() -> Machine[Any]:
    d = Draft()
    return d.straight(d.done.on(Go) >> d.lost)  # type: ignore[arg-type]


def final_without_exit() -> Machine[Any]:
    return Draft().straight()


def no_exits() -> Machine[Any]:
    d = Draft()
    del d.rows[1]
    return d.close(d.first.on(Go) >> d.second, d.first.on(CallFailed) >> d.done)


def shadowed() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(Go.when(odd)) >> d.done)


def shadowed_twice_the_same() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(Go) >> d.second)


def shadowed_in_every_state() -> Machine[Any]:
    d = Draft()
    own = (d.first.on(CallFailed) >> d.lost, d.second.on(Failure) >> d.lost)
    return d.straight(*own, d.m.anywhere.on(CallFailed) >> d.done)


def shadowed_in_one_state_only() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(CallFailed) >> d.lost, d.m.anywhere.on(CallFailed) >> d.done)


def guarded_first() -> Machine[Any]:
    d = Draft()
    return d.close(d.first.on(Go.when(odd)) >> d.done, d.first.on(Go) >> d.second, d.second.on(Go) >> d.done)


def no_default() -> Machine[Any]:
    d = Draft()
    return d.close(d.first.on(Go.when(odd)) >> d.second, d.first.on(Go.when(big)) >> d.lost, d.second.on(Go) >> d.done)


def guarded_failure() -> Machine[Any]:
    def transient(event: CallFailed, data: Board) -> bool:
        return event.kind == "transient"

    d = Draft()
    return d.straight(d.first.on(CallFailed.when(transient)) >> d.lost)


def same_guard_twice() -> Machine[Any]:
    d = Draft()
    twice = (d.first.on(Go.when(odd)) >> d.done, d.first.on(Go.when(odd)) >> d.lost)
    return d.close(*twice, d.first.on(Go) >> d.second, d.second.on(Go) >> d.done)


def same_guard_elsewhere() -> Machine[Any]:
    d = Draft()
    return d.close(
        d.first.on(Go.when(odd)) >> d.done,
        d.first.on(Go) >> d.second,
        d.second.on(Go.when(odd)) >> d.lost,
        d.second.on(Go) >> d.done,
    )


def event_without_row() -> Machine[Any]:
    d = Draft()
    return d.close(d.first.on(Go) >> d.second, d.second.on(CallFailed) >> d.done)


def event_of_another_state() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(Ok) >> d.done)  # type: ignore[arg-type]


def user_event_anywhere() -> Machine[Any]:
    d = Draft()
    return d.straight(d.m.anywhere.on(Ok) >> d.done)  # type: ignore[arg-type]


def timeout_that_never_comes() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(StateTimeout) >> d.lost)


def timeout_that_comes() -> Machine[Any]:
    d = Draft(timeout=timedelta(seconds=1))
    return d.straight(d.first.on(StateTimeout) >> d.lost)


def deadline_that_never_comes() -> Machine[Any]:
    d = Draft()
    return d.straight(d.m.anywhere.on(DeadlinePassed) >> d.lost)


def bound_that_is_not_there() -> Machine[Any]:
    d = Draft()
    return d.straight(d.second.on(VisitsExhausted) >> d.lost)


def expiry_of_no_review() -> Machine[Any]:
    d = Draft()
    return d.straight(d.second.on(ReviewExpired) >> d.lost)


def any_failure() -> Machine[Any]:
    d = Draft()
    return d.straight(d.m.anywhere.on(Failure) >> d.lost, d.first.on(BudgetWarning) >> d.second)


def half_a_row() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(CallFailed))  # type: ignore[arg-type]


def no_row_at_all() -> Machine[Any]:
    return Draft().straight(("first", "go", "second"))  # type: ignore[arg-type]


def row_without_an_event() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on("go") >> d.lost)  # type: ignore[arg-type]


def same_state_name() -> Machine[Any]:
    d = Draft()
    d.m.final("done")
    return d.straight()


def odd_state_name() -> Machine[Any]:
    d = Draft()
    d.m.final("all done")
    return d.straight()


def same_event_name() -> Machine[Any]:
    class CallFailed(Event): ...

    return single(event=CallFailed)


def event_called_start() -> Machine[Any]:
    class Start(Event): ...

    return single(event=Start)


def payload_that_never_fits() -> Machine[Any]:
    class Counted(Event):
        n: list[int]

    return single(event=Counted)


def payload_that_may_fit() -> Machine[Any]:
    class Counted(Event):
        n: float

    return single(event=Counted)


def append_of_a_number() -> Machine[Any]:
    class Odd(Data):
        n: Append[int] = 0

    return single(data=Odd)


def unreadable() -> Machine[Any]:
    return single(annotation=type(None))


def async_guard() -> Machine[Any]:
    async def slow(event: Go, data: Board) -> bool:
        return True

    d = Draft()
    row = d.first.on(Go.when(slow)) >> d.done  # type: ignore[arg-type]
    return d.close(row, d.first.on(Go) >> d.second, d.second.on(Go) >> d.done)


def async_callable_guard() -> Machine[Any]:
    class Slow:
        async def __call__(self, event: Go, data: Board) -> bool:
            return True

    d = Draft()
    row = d.first.on(Go.when(Slow())) >> d.done  # type: ignore[arg-type]
    return d.close(row, d.first.on(Go) >> d.second, d.second.on(Go) >> d.done)


def lambda_guard() -> Machine[Any]:
    d = Draft()
    row = d.first.on(Go.when(lambda event, data: event.n > data.n)) >> d.done
    return d.close(row, d.first.on(Go) >> d.second, d.second.on(Go) >> d.done)


def cycle() -> Machine[Any]:
    d = Draft()
    return d.close(d.first.on(Go) >> d.second, d.second.on(Go.when(odd)) >> d.first, d.second.on(Go) >> d.done)


def cycle_of_an_event_that_comes_once() -> Machine[Any]:
    d = Draft()
    return d.straight(d.first.on(BudgetWarning) >> d.first)


def bounded_cycle(*, exhausted: bool = True) -> Machine[Any]:
    d = Draft(max_visits=3)
    back = (d.second.on(Go.when(odd)) >> d.first, d.second.on(Go) >> d.done)
    way_out = [d.second.on(VisitsExhausted) >> d.lost] if exhausted else []
    return d.close(d.first.on(Go) >> d.second, *back, *way_out)


def bounded_by_anywhere() -> Machine[Any]:
    d = Draft(max_visits=3)
    back = (d.second.on(Go.when(odd)) >> d.first, d.second.on(Go) >> d.done)
    return d.close(d.first.on(Go) >> d.second, *back, d.m.anywhere.on(Failure) >> d.lost)


def bound_without_a_row() -> Machine[Any]:
    return bounded_cycle(exhausted=False)


def exhaustion_that_returns() -> Machine[Any]:
    d = Draft(max_visits=3)
    back = (d.second.on(Go.when(odd)) >> d.first, d.second.on(Go) >> d.done)
    return d.close(d.first.on(Go) >> d.second, *back, d.second.on(VisitsExhausted) >> d.first)


def exhaustion_into_itself() -> Machine[Any]:
    d = Draft(max_visits=3)
    return d.straight(d.second.on(VisitsExhausted) >> d.second)


def bound_that_never_binds() -> Machine[Any]:
    return Draft(max_visits=3).straight()


def zero_visits() -> Machine[Any]:
    return Draft(max_visits=0).straight()


def zero_steps() -> Machine[Any]:
    return Draft(max_steps=0).straight()


def zero_deadline() -> Machine[Any]:
    return Draft(deadline=timedelta(0)).straight()


def zero_timeout() -> Machine[Any]:
    return Draft(timeout=timedelta(0)).straight()


def data_without_json() -> Machine[Any]:
    class Caller(Data):
        fn: Callable[[], int] | None = None

    return single(data=Caller)


def tools(*names: str) -> Machine[Any]:
    m = Machine("m", data=Board)

    @m.state(start=True, tools=[Tool(name) for name in names])
    async def first(run: Run[Board]) -> Go:
        raise NotImplementedError

    m.transitions(first.on(Go) >> m.final("done", ok=True))
    return m


def same_tool_name() -> Machine[Any]:
    return tools("search", "search")


def two_tools() -> Machine[Any]:
    return tools("search", "fetch")


def review_without_timeout() -> Machine[Any]:
    return review(timeout=None, expiry=False)


def review_without_expiry_row() -> Machine[Any]:
    return review(timeout=timedelta(days=1), expiry=False)


def review_complete() -> Machine[Any]:
    return review(timeout=timedelta(days=1), expiry=True)


def asking(*, budget: Budget | None = None, own: Budget | None = None, through: bool = False) -> Machine[Any]:
    """`first` asks the model itself, or through a function of this module."""
    m = Machine("m", data=Board, budget=budget)

    async def itself(run: Run[Board]) -> Go:
        return Go(n=len(await run.llm.ask("?")))

    async def by_another(run: Run[Board]) -> Go:
        return await ask_for(run)

    first = m.state(start=True, budget=own)(by_another if through else itself)
    m.transitions(first.on(Go) >> m.final("done", ok=True))
    return m


async def ask_for(run: Run[Board]) -> Go:
    return Go(n=len(await run.llm.ask("?")))


def calls_without_a_cap() -> Machine[Any]:
    return asking()


def calls_through_a_function_without_a_cap() -> Machine[Any]:
    return asking(through=True)


def calls_in_a_run_that_is_capped() -> Machine[Any]:
    return asking(budget=Budget(calls=3))


def calls_in_a_state_that_is_capped() -> Machine[Any]:
    return asking(own=Budget(tokens=3_000), through=True)


def calls_capped_in_time_only() -> Machine[Any]:
    return asking(budget=Budget(wall=timedelta(minutes=1)))


def tools_without_a_cap() -> Machine[Any]:
    return tools("search")


def claimed(*, bypass: bool) -> Machine[Any]:
    d = Draft()
    past = [d.first.on(CallFailed) >> d.done] if bypass else []
    d.m.transitions(
        d.first.on(Go) >> d.second, d.second.on(Go) >> d.done, *d.rows, *past, properties=[never(d.done, before=d.second)]
    )
    return d.m


def claim_that_is_bypassed() -> Machine[Any]:
    return claimed(bypass=True)


def claim_that_holds() -> Machine[Any]:
    return claimed(bypass=False)


def claim_about_another_machine() -> Machine[Any]:
    d, other = Draft(), Draft()
    straight = (d.first.on(Go) >> d.second, d.second.on(Go) >> d.done)
    d.m.transitions(*straight, *d.rows, properties=[never(other.done, before=d.second)])
    return d.m


def budgeted(calls: int, *, cap: int | None = 6, own: int | None = None, planned: bool = False) -> Machine[Any]:
    """Three visits of at most `cap` calls each, under a budget."""
    m = Machine("m", data=Board, budget=Budget(calls=calls))
    per_visit = None if cap is None else Budget(calls=cap)

    @m.state(start=True, max_visits=3, per_visit=per_visit, budget=None if own is None else Budget(calls=own))
    async def first(run: Run[Board]) -> Go | Stop:
        return Go(n=len(await run.llm.ask("?")))

    lost = m.final("lost")
    way_out = [first.on(BudgetExhausted) >> lost] if planned else []
    rows = [first.on(Go) >> first, first.on(Stop) >> m.final("done", ok=True), m.anywhere.on(Failure) >> lost]
    m.transitions(*way_out, *rows)
    return m


def test_a_budget_below_the_worst_case_is_told_with_the_move_that_will_be_taken() -> None:
    [finding] = budgeted(10).check()
    assert str(finding) == (
        "SC131 m: the machine's budget is 10 calls, and a run may use 18 calls: some day a run takes "
        "first -(budget_exhausted)-> lost. Fix: raise it to 18 calls, lower the caps of the visits, or give BudgetWarning or "
        "BudgetExhausted a row of their own"
    )
    assert finding.level == "warning"
    [own] = budgeted(18, own=12).check()
    assert (own.code, own.where) == ("SC131", "first")
    assert "the budget of first is 12 calls, and a run may use 18 calls" in own.message
    assert budgeted(10).findings == ()


def test_a_budget_that_suffices_or_is_the_only_cap_or_has_rows_of_its_own_is_no_finding() -> None:
    assert budgeted(18).check() == ()
    assert budgeted(10, cap=None).check() == ()
    assert budgeted(10, planned=True).check() == ()


Case = tuple[str, Callable[[], Machine[Any]], Callable[[], Machine[Any]], str]

ERRORS: list[Case] = [
    ("SC100", no_start, one_start, "m: the machine has no start state. Fix: pass start=True to exactly one @machine.state"),
    ("SC100", two_starts, one_start, "2 start states (first, second)"),
    ("SC101", text_target, own_target, "first.call_failed: the row leads to 'lost', which is not a state"),
    ("SC101", foreign_target, own_target, "first.call_failed: the row leads to lost, a state of another machine"),
    ("SC101", foreign_source, own_target, "first.call_failed: the row begins with first, which is no state of m"),
    ("SC101", claim_about_another_machine, claim_that_holds, "never(done, before=second) names done, which is no state of m"),
    ("SC102", unreachable, reached_by_a_failure_only, "second: no path leads from first to second. Fix: add a row"),
    ("SC103", trap, loop_until_the_deadline, "round_and_round: round_and_round is a trap"),
    ("SC105", final_with_exit, final_without_exit, "done.go: done is final, so done.on(Go) >> lost can never be taken"),
    (
        "SC106",
        no_exits,
        final_without_exit,
        "nothing leads out of second. Fix: add a row: second.on(Go) >> ..., second.on(",
    ),
    ("SC107", review_without_timeout, review_complete, "asking: asking waits for a person without a timeout"),
    ("SC108", shadowed, guarded_first, "first.go: first.on(Go.when(odd)) >> done is never reached"),
    ("SC108", shadowed_twice_the_same, final_without_exit, "first.go: first.on(Go) >> second is never reached"),
    ("SC108", shadowed_in_every_state, shadowed_in_one_state_only, "anywhere.call_failed: anywhere.on(CallFailed) >> done"),
    ("SC109", no_default, guarded_failure, "first.go: first has only guarded rows for go (odd, big), and all may refuse"),
    ("SC110", same_guard_twice, same_guard_elsewhere, "first.go: guard odd is asked twice. Fix: remove one"),
    (
        "SC111",
        event_without_row,
        final_without_exit,
        "second.go: second may answer go, but no row takes it. Fix: add second.on(Go)",
    ),
    ("SC112", event_of_another_state, own_target, "first.ok: ok never happens in first"),
    ("SC112", user_event_anywhere, any_failure, "anywhere.ok: ok never happens in any state"),
    ("SC113", review_without_expiry_row, review_complete, "asking: asking may expire, but no row takes review_expired"),
    ("SC114", half_a_row, own_target, "first.on(CallFailed) has no target. Fix: write source.on(event) >> target"),
    ("SC114", no_row_at_all, own_target, "is not a row"),
    ("SC114", row_without_an_event, own_target, "first.go: 'go' is not an event class"),
    ("SC115", same_state_name, final_without_exit, "done: 2 states are called done"),
    ("SC115", odd_state_name, final_without_exit, "'all done' is not a name"),
    ("SC116", same_event_name, one_start, "are both the event call_failed"),
    ("SC116", event_called_start, one_start, "start: the event start is what begins every run"),
    ("SC117", payload_that_never_fits, payload_that_may_fit, "Counted.n: it merges into Board.n, but list[int] never fits int"),
    ("SC117", append_of_a_number, one_start, "Odd.n: Append must be outermost"),
    ("SC118", unreadable, one_start, "first: the events of first cannot be read: NoneType is not a subclass of Event"),
    ("SC119", async_guard, guarded_first, "first.go: guard slow is async"),
    ("SC119", async_callable_guard, guarded_first, "first.go: guard Slow is async"),
    ("SC120", exhaustion_into_itself, bounded_cycle, "second -(visits_exhausted)-> second"),
    ("SC122", bound_without_a_row, bounded_cycle, "second: second may use up its 3 visit(s), but no row takes visits_exhausted"),
    ("SC122", bound_without_a_row, bounded_by_anywhere, "Fix: add second.on(VisitsExhausted) >> ..."),
    ("SC124", zero_visits, bounded_cycle, "second: max_visits of second is 0"),
    ("SC124", zero_steps, final_without_exit, "max_steps is 0"),
    ("SC124", zero_deadline, loop_until_the_deadline, "the deadline is 0:00:00"),
    ("SC124", zero_timeout, timeout_that_comes, "first: the timeout of first is 0:00:00"),
    ("SC126", data_without_json, one_start, "Caller: it cannot be written as JSON"),
    ("SC127", same_tool_name, two_tools, "first: 2 tools of first are called search"),
    *MIGRATIONS,
    (
        "SC130",
        claim_that_is_bypassed,
        claim_that_holds,
        "done: never(done, before=second) does not hold. first -(call_failed)-> done: enters done without second. Fix: lead",
    ),
]

WARNINGS: list[Case] = [
    ("SC104", hopeless, reached_by_a_failure_only, "second: from second a run can no longer succeed"),
    ("SC104", no_success, final_without_exit, "no final state is declared ok"),
    ("SC112", timeout_that_never_comes, timeout_that_comes, "first.state_timeout: state_timeout never happens in first"),
    ("SC112", deadline_that_never_comes, loop_until_the_deadline, "Fix: remove the row, or give the machine a deadline"),
    ("SC112", bound_that_is_not_there, bounded_cycle, "Fix: remove the row, or give the state max_visits"),
    ("SC112", expiry_of_no_review, review_complete, "only a review with a timeout expires"),
    ("SC120", cycle, bounded_cycle, "only max_steps=100 stops the cycle first -(go)-> second -(go)-> first"),
    ("SC120", cycle, cycle_of_an_event_that_comes_once, "first -(go)-> second -(go)-> first"),
    ("SC120", exhaustion_that_returns, bounded_cycle, "first -(go)-> second -(visits_exhausted)-> first"),
    ("SC121", bound_that_never_binds, bounded_cycle, "second: second is never visited twice"),
    ("SC123", calls_without_a_cap, calls_in_a_run_that_is_capped, "m: nothing limits how much these states call: itself (model)"),
    ("SC123", calls_through_a_function_without_a_cap, calls_in_a_state_that_is_capped, "by_another (model)"),
    ("SC123", calls_capped_in_time_only, calls_in_a_run_that_is_capped, "itself (model)"),
    ("SC123", tools_without_a_cap, final_without_exit, "first (tools)"),
    ("SC125", lambda_guard, guarded_first, "first.go: the guard has no name"),
]


def named(case: Case) -> str:
    return f"{case[0]} {case[1].__name__}"


def findings(build: Callable[[], Machine[Any]]) -> list[Finding]:
    try:
        return list(build().findings)
    except DefinitionError as error:
        return list(error.findings)


@pytest.mark.parametrize("case", ERRORS, ids=named)
def test_a_wrong_machine_is_refused_with_the_place_and_the_fix(case: Case) -> None:
    code, wrong, _, text = case
    with pytest.raises(DefinitionError) as caught:
        wrong()
    assert {finding.code for finding in caught.value.findings} == {code}
    assert text in str(caught.value)
    assert all(finding.fix for finding in caught.value.findings)


@pytest.mark.parametrize("case", WARNINGS, ids=named)
def test_a_doubtful_machine_closes_with_a_warning(case: Case) -> None:
    code, doubtful, _, text = case
    found = doubtful().findings
    assert {finding.code for finding in found} == {code}
    assert {finding.level for finding in found} == {"warning"}
    assert any(text in str(finding) for finding in found), found


@pytest.mark.parametrize("case", [*ERRORS, *WARNINGS], ids=named)
def test_its_neighbour_closes_without_that_finding(case: Case) -> None:
    code, _, right, _ = case
    machine = right()
    assert machine.definition.name == "m"
    assert code not in {finding.code for finding in machine.findings}


ELSEWHERE = {"SC131", "SC140"}
"""SC131 is tried above; SC140 is found where a machine is compared with another version of itself."""


def test_every_code_that_the_checks_explain_is_tried_here() -> None:
    explained = set(re.findall(r"SC\d+", check.__doc__ or ""))
    assert explained - ELSEWHERE == {case[0] for case in (*ERRORS, *WARNINGS)}


def test_the_page_explains_every_code_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
    headings = re.findall(r"^### (SC\d+): ", page, re.MULTILINE)
    assert headings == sorted(set(re.findall(r"SC\d+", check.__doc__ or "")))
    for code, text in zip(headings, re.split(r"^### SC\d+: ", page, flags=re.MULTILINE)[1:], strict=True):
        assert "Example: " in text, code
        assert "Fix: " in text, code


def test_the_code_raises_only_codes_that_it_explains() -> None:
    source = Path(check.__file__).parents[1]
    raised = {code for path in source.rglob("*.py") for code in re.findall(r'"(SC\d{3})"', path.read_text())}
    assert raised <= set(re.findall(r"SC\d+", check.__doc__ or ""))


def test_all_errors_are_listed_at_once_and_warnings_are_left_out() -> None:
    d = Draft(max_steps=0)
    with pytest.raises(DefinitionError) as caught:
        d.close(d.first.on(Go.when(lambda event, data: event.n > data.n)) >> d.second, d.first.on(CallFailed))  # type: ignore[arg-type]
    codes = [finding.code for finding in caught.value.findings]
    assert set(codes) == {"SC102", "SC109", "SC111", "SC114", "SC124"}
    assert str(caught.value).count("Fix:") == len(codes) == 5
    assert str(caught.value).startswith("machine 'm' has 5 error(s):")


def test_separate_cycles_are_each_printed_once() -> None:
    d = Draft()
    again = (d.first.on(Go.when(odd)) >> d.first, d.second.on(Go.when(odd)) >> d.second)
    machine = d.close(*again, d.first.on(Go) >> d.second, d.second.on(Go) >> d.done)
    assert [finding.where for finding in machine.findings if finding.code == "SC120"] == ["first", "second"]
