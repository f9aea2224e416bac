"""The real engine goes along every path of a machine, whatever it takes to bring each row about."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, cast

import pytest
from pydantic import BaseModel, Field

from statecraft import (
    Append,
    Ask,
    Budget,
    BudgetExhausted,
    BudgetWarning,
    CallFailed,
    Data,
    DeadlinePassed,
    Event,
    HandlerFailed,
    InvalidOutput,
    LoopDetected,
    Machine,
    ReviewExpired,
    Run,
    StateTimeout,
    Status,
    StepsExhausted,
    VisitsExhausted,
    days,
    minutes,
)
from statecraft.errors import ConfigError
from statecraft.machine.covering import Path
from statecraft.testing import payloads, state_machine_of
from statecraft.testing.driving import drive
from statecraft.testing.payloads import NoPayload


class Page(BaseModel):
    title: str = Field(min_length=3)
    lines: list[int] = Field(min_length=2)


class Book(Data):
    pages: Append[list[Page]] = []
    limit: int = 0
    title: str = ""


class Added(Event):
    pages: list[Page]


class Titled(Event):
    title: str


class Yes(Event): ...


class No(Event):
    title: str = ""


def is_thick(added: Added, _book: Book) -> bool:
    return len(added.pages) >= 3


def is_transient(failed: CallFailed, _book: Book) -> bool:
    return failed.kind == "transient"


def everything(budget: Budget | None = None) -> Machine[Book]:
    """A machine that has a row for everything the engine can raise."""
    machine = Machine("books", data=Book, max_steps=9, deadline=days(3), budget=budget or Budget(1000))

    @machine.state(start=True, timeout=minutes(5))
    async def collecting(run: Run[Book]) -> Added:
        raise AssertionError("a driven machine calls no handler of its own")

    @machine.state(max_visits=2)
    async def naming(run: Run[Book]) -> Titled | No:
        raise AssertionError("a driven machine calls no handler of its own")

    @machine.review(timeout=days(1))
    async def asking(run: Run[Book]) -> Ask[Yes | No]:
        raise AssertionError("a driven machine calls no handler of its own")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    late, dear, unsure = machine.final("late"), machine.final("dear"), machine.final("unsure")
    machine.transitions(
        collecting.on(Added.when(is_thick)) >> naming,
        collecting.on(Added) >> collecting,
        collecting.on(CallFailed.when(is_transient)) >> unsure,
        collecting.on(CallFailed) >> failed,
        naming.on(Titled) >> asking,
        naming.on(No) >> collecting,
        naming.on(BudgetWarning) >> asking,
        naming.on(VisitsExhausted) >> late,
        asking.on(Yes) >> done,
        asking.on(No) >> naming,
        asking.on(ReviewExpired) >> late,
        machine.anywhere.on(StateTimeout) >> late,
        machine.anywhere.on(DeadlinePassed) >> late,
        machine.anywhere.on(StepsExhausted) >> late,
        machine.anywhere.on(BudgetExhausted) >> dear,
        machine.anywhere.on(BudgetWarning) >> dear,
        machine.anywhere.on(LoopDetected) >> unsure,
        machine.anywhere.on(InvalidOutput) >> unsure,
        machine.anywhere.on(HandlerFailed) >> failed,
        machine.anywhere.on(ReviewExpired) >> late,
        machine.anywhere.on(CallFailed) >> failed,
        machine.anywhere.on(VisitsExhausted) >> late,
    )
    return machine


books = everything()
PATHS = books.paths()


def test_the_paths_meet_every_event_that_the_engine_can_raise() -> None:
    met = {leg.event.__name__ for path in PATHS for leg in path.legs if not leg.own}
    assert len(met) == 11


@pytest.mark.slow
def test_a_short_path_is_driven_with_a_crash_around_every_step() -> None:
    path = min((path for path in PATHS if path.legs[-1].own), key=lambda path: len(path.legs))
    driven = drive(books, path)
    assert (driven.run.status, driven.deaths) == (Status.DONE, 2 * len(path.legs))
    assert [(row.source, row.event, row.target) for row in driven.history[1:]] == [
        (leg.source, leg.event.__event_name__, leg.target) for leg in path.legs
    ]
    assert len(driven.data.pages) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_engine_goes_along(path: Path) -> None:
    drive(books, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "budget",
    [Budget(calls=4, warn_at=0.5), Budget(money="0.10"), Budget(wall=days(2), warn_at=0.9)],
    ids=["calls", "money", "wall"],
)
def test_a_warning_about_any_unit_is_brought_about(budget: Budget) -> None:
    machine = everything(budget)
    drive(machine, next(path for path in machine.paths() if path.legs[-1].event is BudgetWarning))


@pytest.mark.slow
def test_without_crashes_nothing_dies() -> None:
    assert drive(books, PATHS[0], crash=False).deaths == 0


@pytest.mark.slow
def test_a_path_that_does_not_end_is_driven_up_to_its_last_state() -> None:
    driven = drive(books, replace(short(), legs=short().legs[:1]))
    assert (driven.run.state, driven.run.status.closed) == ("naming", False)


# --- payloads ---------------------------------------------------------------------------------------------------------

THICK = Added(pages=[Page(title=name, lines=[1, 2]) for name in ("one", "two", "three")])


def short() -> Path:
    return next(path for path in PATHS if str(path).startswith("added[is_thick]"))


def test_examples_come_first() -> None:
    driven = drive(books, short(), Book(limit=7), examples=[THICK, Titled(title="Ours")], crash=False)
    assert [page.title for page in driven.data.pages] == ["one", "two", "three"]
    assert (driven.data.limit, driven.data.title) == (7, "Ours")


@pytest.mark.slow
def test_with_examples_hypothesis_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    payloads.samples.cache_clear()
    payloads.strategy_of.cache_clear()
    drive(books, short(), examples=[THICK, Titled(title="Ours")], crash=False)
    with pytest.raises(ConfigError, match="a payload of Added needs Hypothesis: pip install hypothesis"):
        drive(books, short(), crash=False)


def hunting() -> Machine[Any]:
    class Hunt(Data):
        number: int = 0

    class Found(Event):
        number: int

    def is_rare(found: Found, _hunt: Hunt) -> bool:
        return found.number > 10_000 and found.number % 7 == 3

    def is_impossible(found: Found, _hunt: Hunt) -> bool:
        return found.number > found.number

    machine = Machine("hunt", data=Hunt)

    @machine.state(start=True)
    async def hunting(run: Run[Hunt]) -> Found:
        raise AssertionError

    rare, plain, never = machine.final("rare", ok=True), machine.final("plain"), machine.final("never")
    machine.transitions(
        hunting.on(Found.when(is_impossible)) >> never,
        hunting.on(Found.when(is_rare)) >> rare,
        hunting.on(Found) >> plain,
        machine.anywhere.on(HandlerFailed) >> plain,
    )
    return machine


@pytest.mark.slow
def test_what_samples_do_not_satisfy_is_searched_for() -> None:
    machine = hunting()
    driven = drive(machine, next(path for path in machine.paths() if "is_rare" in str(path)), crash=False)
    assert driven.data.number % 7 == 3
    assert driven.data.number > 10_000


@pytest.mark.slow
def test_a_guard_that_nothing_satisfies_is_named_with_what_to_do() -> None:
    machine = hunting()
    impossible = next(path for path in machine.paths() if "is_impossible" in str(path))
    with pytest.raises(NoPayload, match=r"no Found was found in hunting for which is_impossible is True; pass one: drive\("):
        drive(machine, impossible)


@pytest.mark.slow
def test_a_path_that_the_data_never_allow_is_given_up_soon() -> None:
    class Pile(Data):
        pages: Append[list[Page]] = []

    def is_high(added: Added, pile: Pile) -> bool:
        return len(pile.pages) + len(added.pages) >= 3

    machine = Machine("pile", data=Pile)

    @machine.state(start=True, max_visits=9)
    async def piling(run: Run[Pile]) -> Added:
        raise AssertionError

    high, low = machine.final("high", ok=True), machine.final("low")
    machine.transitions(
        piling.on(Added.when(is_high)) >> piling,
        piling.on(Added) >> low,
        machine.anywhere.on(
            HandlerFailed,
        )
        >> high,
        piling.on(VisitsExhausted) >> low,
    )
    (never,) = [path for path in machine.paths() if str(path) == "added[is_high]>added"]
    with pytest.raises(NoPayload, match=r"leg 2 of .*is_high is False"):
        drive(machine, never)


def test_a_payload_is_chosen_again_when_a_later_guard_depends_on_it() -> None:
    class Sum(Data):
        total: int = 0

    class First(Event):
        total: int

    class Second(Event): ...

    def is_one(_second: Second, data: Sum) -> bool:
        return data.total == 1

    machine = Machine("sum", data=Sum)

    @machine.state(start=True)
    async def one(run: Run[Sum]) -> First:
        raise AssertionError

    @machine.state()
    async def two(run: Run[Sum]) -> Second:
        raise AssertionError

    odd, even = machine.final("odd", ok=True), machine.final("even")
    machine.transitions(
        one.on(First) >> two,
        two.on(Second.when(is_one)) >> odd,
        two.on(Second) >> even,
        machine.anywhere.on(HandlerFailed) >> even,
    )
    path = next(path for path in machine.paths() if "is_one" in str(path))
    assert drive(machine, path, crash=False, examples=[First(total=9), First(total=1)]).data.total == 1


# --- what it asserts --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_engine_that_goes_another_way_is_told_with_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = type(books.definition.kernel).decide

    def crooked(kernel: Any, state: str, event: Event, data: Data) -> Any:
        return honest(kernel, state, event, data) if state != "asking" else honest(kernel, state, No(), data)

    path = next(path for path in PATHS if path.legs[-1].event is Yes)
    from statecraft.testing import driving

    script = driving._script(books.definition, path, None, ())
    monkeypatch.setattr(type(books.definition.kernel), "decide", crooked)
    monkeypatch.setattr(driving, "_script", lambda *_: script)
    with pytest.raises(AssertionError):
        drive(books, path)


def test_a_path_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="the path is one of hunt, not of books"):
        drive(books, hunting().paths()[0])


def test_what_is_no_path_and_no_input_of_the_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"drive goes along one of books.paths\(\), not a str"):
        drive(books, cast(Any, "added>asked"))
    with pytest.raises(ConfigError, match="books is started with Book, not dict"):
        drive(books, short(), cast(Any, {"total": 1}))
    with pytest.raises(ConfigError, match="books is started with Book, not dict"):
        state_machine_of(books, input={"total": 1})
