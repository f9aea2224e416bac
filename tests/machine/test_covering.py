"""Paths cover what they say, and keep to the bounds of the machine."""

from __future__ import annotations

import pytest

from statecraft import (
    Ask,
    Budget,
    BudgetWarning,
    Data,
    Event,
    Failure,
    HandlerFailed,
    Machine,
    OperatorEvent,
    Run,
    StepsExhausted,
    VisitsExhausted,
    days,
)
from statecraft.errors import ConfigError
from statecraft.machine.covering import Leg, Path, PathKind


class Note(Data):
    text: str = ""
    tries: int = 0


class Written(Event):
    text: str


class Again(Event): ...


class Yes(Event): ...


class No(Event): ...


class Nudged(OperatorEvent): ...


def is_long(written: Written, _note: Note) -> bool:
    return len(written.text) > 3


def notes(*, max_visits: int | None = 2, max_steps: int = 20, budget: Budget | None = None) -> Machine[Note]:
    machine = Machine("notes", data=Note, max_steps=max_steps, budget=budget)

    @machine.state(start=True, max_visits=max_visits)
    async def writing(run: Run[Note]) -> Written | Again:
        return Again()

    @machine.review(timeout=days(1))
    async def asking(run: Run[Note]) -> Ask[Yes | No]:
        return Ask("Good?")

    kept, lost = machine.final("kept", ok=True), machine.final("lost")
    machine.transitions(
        writing.on(Written.when(is_long)) >> asking,
        writing.on(Written) >> kept,
        writing.on(Again) >> writing,
        writing.on(VisitsExhausted) >> lost,
        writing.on(BudgetWarning) >> kept,
        writing.on(Nudged) >> asking,
        asking.on(Yes) >> kept,
        asking.on(No) >> writing,
        machine.anywhere.on(StepsExhausted) >> lost,
        machine.anywhere.on(Failure) >> lost,
    )
    return machine


def taken(paths: list[Path]) -> set[int]:
    return {leg.row for path in paths for leg in path.legs}


def rows(machine: Machine[Note], *, but: set[str]) -> set[int]:
    return {place for place, row in enumerate(machine.definition.rows) if row.event not in but}


def follows(machine: Machine[Note], path: Path) -> None:
    """Every leg leaves where the one before it arrived, along an edge, and no bound is crossed."""
    definition, stands, entered = machine.definition, machine.definition.start, {machine.definition.start: 1}
    for leg in path.legs:
        assert leg.source == stands
        assert (leg.source, leg.event.__event_name__, leg.target) in definition.edges
        spec = definition.states[stands]
        if spec.max_visits is not None:
            assert (entered[stands] > spec.max_visits) is (leg.event is VisitsExhausted)
        stands = leg.target
        entered[stands] = entered.get(stands, 0) + 1
    assert len(path.legs) <= definition.max_steps + 1


def test_the_paths_of_transitions_take_every_row_but_those_of_operators() -> None:
    machine = notes(budget=Budget(100), max_steps=4)
    assert taken(machine.paths("transitions")) == rows(machine, but={"nudged"})


def test_a_path_reads_as_its_events_with_the_guards_that_held() -> None:
    first = notes().paths()[0]
    assert str(first) == "written[is_long]>yes"
    assert first.states == ("writing", "asking", "kept")
    assert first.legs[0] == Leg("writing", Written, "asking", (("is_long", True),), 0, True)


def test_the_row_after_a_guarded_one_says_that_the_guard_refused() -> None:
    (plain,) = {path.legs[0] for path in notes().paths() if str(path.legs[0]) == "written"}
    assert plain.guards == (("is_long", False),)


@pytest.mark.parametrize("kind", ["states", "transitions", "pairs", "simple"])
def test_every_path_follows_the_table_within_the_bounds(kind: PathKind) -> None:
    machine = notes(budget=Budget(100), max_steps=6)
    paths = machine.paths(kind)
    assert len({str(path) for path in paths}) == len(paths) > 0
    for path in paths:
        follows(machine, path)


def test_an_exhausted_bound_is_reached_by_as_many_rounds_as_it_allows() -> None:
    (path,) = [path for path in notes(max_visits=4).paths() if path.legs[-1].event is VisitsExhausted]
    assert path.states.count("writing") == 5


def test_exhausted_steps_are_reached_by_making_them() -> None:
    (path,) = [path for path in notes(max_visits=None, max_steps=7).paths() if path.legs[-1].event is StepsExhausted]
    assert len(path.legs) == 8


def test_a_bound_that_other_bounds_never_let_a_run_reach_is_in_no_path() -> None:
    machine = notes(max_visits=2, max_steps=50)
    assert taken(machine.paths()) == rows(machine, but={"nudged", "budget_warning", "steps_exhausted"})


def test_a_warning_needs_a_budget_and_a_visit_before_it() -> None:
    assert "budget_warning" not in "".join(map(str, notes().paths()))
    (path,) = [path for path in notes(budget=Budget(100)).paths() if "budget_warning" in str(path)]
    assert path.legs[0].own


def test_of_the_failures_that_one_row_takes_the_easiest_is_used() -> None:
    failing = {leg.event for path in notes().paths("pairs") for leg in path.legs if leg.row == 9}
    assert failing == {HandlerFailed}


def test_the_paths_of_states_enter_every_state_and_none_begins_another() -> None:
    paths = notes().paths("states")
    assert {state for path in paths for state in path.states} == {"writing", "asking", "kept", "lost"}
    assert not any(str(one) != str(other) and str(other).startswith(f"{one}>") for one in paths for other in paths)


def test_the_paths_of_pairs_have_every_two_rows_that_follow_each_other() -> None:
    found = {(str(a), str(b)) for path in notes().paths("pairs") for a, b in zip(path.legs, path.legs[1:], strict=False)}
    assert {
        ("again", "again"),
        ("again", "visits_exhausted"),
        ("no", "written"),
        ("written[is_long]", "review_expired"),
    } - found == {
        ("written[is_long]", "review_expired")  # The row for any failure is taken by an easier one.
    }
    assert ("written[is_long]", "handler_failed") in found


def test_a_simple_path_enters_no_state_twice_and_ends() -> None:
    paths = notes().paths("simple")
    assert {"written", "written[is_long]>yes", "handler_failed"} <= {str(path) for path in paths}
    assert all(len(set(path.states)) == len(path.states) and path.states[-1] in {"kept", "lost"} for path in paths)


def test_an_unknown_kind_and_an_open_machine_are_refused() -> None:
    with pytest.raises(ConfigError, match="states, transitions, pairs, simple, not 'all'"):
        notes().paths("all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is not closed"):
        Machine("open", data=Note).paths()
