"""The worst case of a machine: equal to what walking along every run finds, never below it, and told in words."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import reduce
from math import inf
from operator import or_
from typing import Any

import pytest

from machines.extract import extract
from machines.research import research
from machines.support import support
from statecraft import (
    Ask,
    Budget,
    BudgetExhausted,
    BudgetWarning,
    DeadlinePassed,
    Failure,
    Machine,
    ReviewExpired,
    Run,
    StepsExhausted,
    VisitsExhausted,
    days,
    minutes,
    seconds,
)
from statecraft.engine.jsonable import to_json
from statecraft.errors import ConfigError
from statecraft.machine.caps import METRICS
from statecraft.machine.closed_form import terminates
from statecraft.machine.definition import Definition
from statecraft.machine.event import event_name
from statecraft.machine.groups import acyclic_order, groups
from statecraft.machine.product import MOST
from statecraft.machine.table import is_operators, is_possible
from statecraft.machine.ways import compiled, possible
from statecraft.machine.worst import Bound, WorstCase, unbounded, worst_case
from statecraft.machine.worst_text import duration, worst_lines
from tests.machine.anyhow import EVENTS, Chance, Left, Note, On, Right, TooManyRuns, every_run

# --- against every run -----------------------------------------------------------------------------------------------


def amounts(worst: WorstCase) -> dict[str, float]:
    """The bounds, in the units in which runs are walked along."""
    units = {"money": 1e9}
    found = {metric: worst.of(metric).value for metric in METRICS}
    return {metric: inf if value is None else round(value * units.get(metric, 1), 6) for metric, value in found.items()}


def walkable(definition: Definition) -> dict[str, float] | None:
    """What its runs use at most; None if they are too many, or too long."""
    if definition.max_steps > 20 and not terminates(compiled(definition)):
        return None
    try:
        return every_run(definition)
    except TooManyRuns:
        return None


def check(seed: int, states: int) -> bool:
    """Compare one random machine with all its runs. False if those are too many."""
    definition = Chance(random.Random(seed), most_states=states, capped=seed % 3 > 0).machine().definition
    most = walkable(definition)
    if most is None:
        return False
    exact, rough = worst_case(definition), worst_case(definition, most=12)
    assert exact.exact, seed
    assert amounts(exact) == {metric: round(amount, 6) for metric, amount in most.items()}, seed
    for metric, amount in amounts(rough).items():
        assert amount >= most[metric] - 1e-6, (seed, metric)
        assert amount <= most[metric] + 1e-6 or not rough.of(metric).exact, (seed, metric)  # type: ignore[arg-type]
    for metric in METRICS:
        along(definition, exact.of(metric).witness)
    return True


def along(definition: Definition, witness: Sequence[tuple[str, str, str]]) -> None:
    """A witness is a path of the machine, from its start."""
    assert set(witness) <= set(definition.edges)
    sources = [source for source, _, _ in witness]
    assert sources == [definition.start, *(target for _, _, target in witness[:-1])][: len(sources)]


@pytest.mark.slow
def test_the_worst_case_of_some_random_machines_is_that_of_their_worst_run() -> None:
    assert sum(check(seed, 3) for seed in range(16)) > 8


@pytest.mark.slow
def test_the_worst_case_of_many_random_machines_is_that_of_their_worst_run() -> None:
    assert sum(check(seed, 2 + seed % 3) for seed in range(100, 350)) > 200


@pytest.mark.slow
def test_the_worst_case_of_two_thousand_small_machines_is_that_of_their_worst_run() -> None:
    assert sum(check(seed, 2) for seed in range(10_000, 12_000)) > 1_600


@pytest.mark.slow
def test_the_bound_without_all_situations_is_never_below_the_exact_one() -> None:
    for seed in range(1000, 1080):
        definition = Chance(random.Random(seed), most_states=6).machine().definition
        exact = worst_case(definition)
        for most in (1, 15, 60):
            rough = worst_case(definition, most=most)
            for metric, amount in amounts(rough).items():
                assert amount >= amounts(exact)[metric] - 1e-6 or not exact.exact, (seed, most, metric)


@pytest.mark.parametrize("machine", [research, support, extract], ids=str)
def test_the_ways_are_those_that_the_checks_follow(machine: Machine[Any]) -> None:
    """But for a budget's warning, where no budget is declared that could give one."""
    declaration = machine._declaration([])
    definition = machine.definition
    for state in declaration.states:
        for event in definition.events.values():
            if not is_operators(event) and event is not BudgetWarning:
                assert possible(definition, definition.states[state.name], event_name(event)) == is_possible(
                    declaration, state, event
                ), (state.name, event)


# --- one thing at a time ---------------------------------------------------------------------------------------------


def built(*, second: dict[str, Any] | None = None, rows: Any = (), **of_machine: Any) -> Definition:
    """first -> second -> second or done; `second` may be entered twice, for 100 tokens and a minute each."""
    machine: Machine[Note] = Machine("small", data=Note, **of_machine)

    @machine.state(start=True, per_visit=Budget(10, calls=1, money="0.10"), timeout=seconds(30))
    async def first(run: Run[Note]) -> Left:
        return Left()

    @machine.state(**{"max_visits": 2, "timeout": minutes(1), "per_visit": Budget(100, calls=3, money="0.25"), **(second or {})})
    async def again(run: Run[Note]) -> Left | Right:
        return Left()

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(
        first.on(Left) >> again,
        again.on(Left) >> again,
        again.on(Right) >> done,
        *(rows(machine, first, again, done) if rows else ()),
        machine.anywhere.on(Failure) >> failed,
    )
    return machine.definition


def test_visits_up_to_the_bound_are_paid_for_and_the_one_beyond_is_a_step() -> None:
    worst = worst_case(built())
    assert {metric: worst.of(metric).value for metric in METRICS} == {
        "steps": 4,
        "calls": 7,
        "tokens": 210,
        "money": 0.6,
        "wall": 150.0,
    }
    assert worst.steps.witness == (
        ("first", "left", "again"),
        ("again", "left", "again"),
        ("again", "left", "again"),
        ("again", "visits_exhausted", "failed"),
    )
    assert worst.reaches == ()


def test_a_state_that_makes_no_calls_costs_nothing() -> None:
    worst = worst_case(built(second={"per_visit": 0}))
    assert (worst.calls.value, worst.tokens.value, worst.money.value) == (1, 10, 0.1)


def test_the_budget_of_a_state_bounds_all_its_visits_together() -> None:
    worst = worst_case(built(second={"budget": Budget(150)}))
    assert (worst.tokens.value, worst.calls.value, worst.exact) == (160, 7, True)
    (reached,) = worst.reaches
    assert (reached.bound, reached.state, reached.metric) == ("state budget", "again", "tokens")
    assert (reached.limit, reached.worst) == (150, 200)
    assert reached.rows == (("again", "budget_exhausted", "failed"),)


def test_the_budget_of_a_state_alone_is_enough_although_its_visits_have_no_cap() -> None:
    worst = worst_case(built(second={"budget": Budget(150, calls=5, money=1), "per_visit": None}))
    assert (worst.tokens.value, worst.calls.value, worst.money.value) == (160, 6, 1.1)
    assert unbounded(worst) == {}


def test_the_budget_of_the_machine_bounds_what_nothing_else_does() -> None:
    worst = worst_case(built(second={"per_visit": Budget(calls=3)}, budget=Budget(500)))
    assert (worst.tokens.value, worst.tokens.by, worst.tokens.states) == (500, "budget", ("again",))
    assert (worst.money.value, worst.money.by) == (None, "nothing")
    assert unbounded(worst) == {"money": ("again",)}
    (reached,) = worst.reaches
    assert (reached.bound, reached.limit, reached.worst) == ("budget", 500, None)


def test_where_nothing_bounds_a_visit_the_witness_is_the_run_that_makes_most_of_such_visits() -> None:
    worst = worst_case(built(second={"per_visit": None}))
    first, again = ("first", "left", "again"), ("again", "left", "again")
    for bound in (worst.calls, worst.tokens, worst.money):
        assert (bound.value, bound.witness) == (None, (first, again, ("again", "right", "done")))


def test_a_budget_that_no_run_comes_to_is_not_reached() -> None:
    worst = worst_case(built(budget=Budget(210)))
    assert (worst.tokens.value, worst.tokens.by, worst.reaches) == (210, "path", ())
    assert worst_case(built(budget=Budget(209))).tokens == Bound(209, True, worst.tokens.witness, "budget")


def test_the_warning_of_a_budget_leads_on_once() -> None:
    def rows(machine: Any, first: Any, again: Any, done: Any) -> list[Any]:
        return [again.on(BudgetWarning) >> first]

    # first, again, (warning) first, and again as often as it still may.
    assert worst_case(built(rows=rows, budget=Budget(10_000))).steps.value == 5
    assert worst_case(built(rows=rows)).steps.value == 4


def test_steps_beyond_the_limit_count_where_their_row_leads_on() -> None:
    def on(machine: Any, first: Any, again: Any, done: Any) -> list[Any]:
        return [machine.anywhere.on(StepsExhausted) >> first]

    endless = {"max_visits": None}
    worst = worst_case(built(second=endless, max_steps=10))
    assert (worst.steps.value, worst.tokens.value, worst.exact) == (11, 10 + 9 * 100, True)
    assert worst.reaches[0].bound == "max_steps"
    assert worst.reaches[0].worst is None
    # 10 steps, the one that says so, and three more: one for each of the four states in all.
    worst = worst_case(built(second=endless, max_steps=10, rows=on))
    assert (worst.steps.value, worst.tokens.value) == (14, 10 + 9 * 100 + 10 + 2 * 100)


def test_a_deadline_bounds_the_time_and_what_follows_it_counts_on_top() -> None:
    def on(machine: Any, first: Any, again: Any, done: Any) -> list[Any]:
        return [machine.anywhere.on(DeadlinePassed) >> first]

    assert worst_case(built(deadline=seconds(100))).wall.value == 100
    assert worst_case(built(deadline=seconds(1000))).wall.value == 150
    # In the first visit to `again`, of which one is left: 100 s, first once more, again once more.
    worst = worst_case(built(deadline=seconds(70), rows=on))
    assert worst.wall.value == 70 + 30 + 60
    assert [(each.bound, each.metric, each.limit) for each in worst.reaches] == [("deadline", "wall", 70)]


def test_the_wall_of_a_budget_bounds_the_time_until_a_budget_was_exhausted() -> None:
    def on(machine: Any, first: Any, again: Any, done: Any) -> list[Any]:
        return [first.on(BudgetExhausted) >> again]

    assert worst_case(built(budget=Budget(wall=seconds(20)))).wall.value == 20
    assert worst_case(built(budget=Budget(wall=seconds(20)), rows=on)).wall.value == 20 + 120


def test_a_budget_that_is_exhausted_before_its_time_is_over_does_not_lift_that() -> None:
    def on(machine: Any, first: Any, again: Any, done: Any) -> list[Any]:
        return [first.on(BudgetExhausted) >> again]

    # 30 s in first, which a visit's own budget may end; then again, until its 60 s are over or the wall comes.
    once = {"max_visits": 1}
    assert worst_case(built(second=once, budget=Budget(wall=seconds(80)), rows=on)).wall.value == 80
    assert worst_case(built(second=once, budget=Budget(wall=seconds(95)), rows=on)).wall.value == 90


def test_without_a_timeout_the_time_has_no_bound_and_the_states_are_named() -> None:
    worst = worst_case(built(second={"timeout": None}))
    assert (worst.wall.value, unbounded(worst)) == (None, {"wall": ("again",)})
    assert worst_case(built(second={"timeout": None}, deadline=days(1))).wall.value == 86_400


def test_a_review_takes_its_timeout_and_spends_nothing() -> None:
    machine: Machine[Note] = Machine("asking", data=Note)

    @machine.state(start=True, per_visit=Budget(10, calls=1, money=1), timeout=seconds(30))
    async def work(run: Run[Note]) -> Left:
        return Left()

    @machine.review(timeout=days(2))
    async def question(run: Run[Note]) -> Ask[On]:
        return Ask("Go on?")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    rows = [work.on(Left) >> question, question.on(On) >> done, question.on(ReviewExpired) >> failed]
    machine.transitions(*rows, machine.anywhere.on(Failure) >> failed)
    worst = machine.worst_case()
    assert (worst.calls.value, worst.tokens.value, worst.wall.value) == (1, 10, 2 * 86_400 + 30)


# --- size ------------------------------------------------------------------------------------------------------------


def long_one(states: int, bounded: int, groups: int, *, max_steps: int = 10_000) -> Definition:
    """Components one after the other, each a chain whose states lead on, ahead, or back to a bounded one before them."""
    dice, machine = random.Random(1), Machine("long", data=Note, max_steps=max_steps)
    size, each = states // groups, bounded // groups
    heads = {group * size + nth * (size // each) for group in range(groups) for nth in range(each)}
    sources: list[Any] = []
    for number in range(states):

        async def work(run: Run[Note]) -> Any: ...

        work.__name__, work.__annotations__["return"] = f"s{number}", reduce(or_, EVENTS)
        cap = Budget(dice.randint(1, 5), calls=2, money=1)
        bound = 5 if number in heads else None
        sources.append(machine.state(start=number == 0, max_visits=bound, timeout=seconds(5), per_visit=cap)(work))
    done = machine.final("done", ok=True)
    places = [*sources, done]
    rows: list[Any] = []
    for number, source in enumerate(sources):
        end = number - number % size + size
        back = [head for head in heads if end - size <= head <= number]
        rows += [source.on(Left) >> places[number + 1], source.on(Right) >> places[min(dice.randint(number + 1, end), states)]]
        rows.append(source.on(On) >> sources[dice.choice(back)])
        rows += [source.on(VisitsExhausted) >> places[end]] if number in heads else []
    machine.transitions(*rows, machine.anywhere.on(Failure) >> machine.final("failed"))
    return machine.definition


@pytest.mark.slow
def test_of_forty_states_with_six_bounds_in_one_component_few_situations_are_looked_at() -> None:
    worst = worst_case(long_one(40, 6, 1))
    assert worst.situations <= 2 * MOST
    assert (worst.steps.value or 0) > 40
    assert not worst.exact


def test_of_forty_states_with_eight_bounds_in_four_components_all_situations_are_looked_at() -> None:
    worst = worst_case(long_one(40, 8, 4))
    assert worst.situations <= MOST
    assert worst.exact


@pytest.mark.slow
def test_many_components_that_are_too_large_are_given_up_together() -> None:
    assert worst_case(long_one(200, 40, 8), most=500).situations <= 3 * 500


@pytest.mark.slow
def test_components_add_to_each_other_and_do_not_multiply() -> None:
    one, four = worst_case(long_one(10, 2, 1)), worst_case(long_one(40, 8, 4))
    assert four.exact
    assert four.situations < 8 * one.situations


@pytest.mark.slow
def test_with_a_step_limit_no_more_than_a_few_times_as_many_are_looked_at() -> None:
    worst = worst_case(long_one(40, 6, 1, max_steps=60), most=4_000)
    assert worst.situations <= 4 * 4_000
    assert worst.steps.value == 61


@pytest.mark.parametrize(
    ("onward", "number"),
    [([], []), ([[]], [0]), ([[1], [0]], [0, 0]), ([[1], [2], [1]], [1, 0, 0]), ([[1, 2], [2], []], [2, 1, 0])],
)
def test_components_are_numbered_so_that_moves_lead_down(onward: list[list[int]], number: list[int]) -> None:
    assert groups(onward) == number
    assert (acyclic_order(onward) is None) == (len(set(number)) < len(number))


# --- what is told ----------------------------------------------------------------------------------------------------


def test_a_worst_case_reads_in_a_few_lines() -> None:
    assert worst_lines(worst_case(built(budget=Budget(200, wall=minutes(2))))) == [
        "small: at most 4 steps, 7 calls, 200 tokens, $0.60, 2 min 0 s",
        "witness (money): first -(left)-> again -(left)-> again -(right)-> done",
        "the machine's budget of 2 min 0 s may be reached (2 min 30 s without it); taken by budget_exhausted -> failed",
        "the machine's budget of 200 tokens may be reached (210 tokens without it); taken by budget_exhausted -> failed",
    ]


def test_what_is_not_bounded_says_where_and_what_to_do() -> None:
    lines = worst_lines(worst_case(built(second={"per_visit": None, "timeout": None})))
    assert lines[0] == "small: at most 4 steps"
    assert lines[1] == (
        "calls: unbounded, since again may use any amount (declare per_visit= or budget=, or a budget of calls for the machine)"
    )
    assert lines[4] == "wall: unbounded, since again may use any amount (declare timeout=, or a deadline for the machine)"


def test_a_rough_bound_says_so() -> None:
    text = str(worst_case(built(), most=2))
    assert "not exact, but never less, since the machine has too many situations: steps, calls, tokens, money, wall" in text


@pytest.mark.parametrize(
    ("amount", "words"), [(0, "0 s"), (59.5, "59.5 s"), (60, "1 min 0 s"), (3_725, "1 h 2 min"), (180_000, "2 d 2 h")]
)
def test_a_duration_has_two_units(amount: float, words: str) -> None:
    assert duration(amount) == words


def test_a_worst_case_is_plain_json() -> None:
    told = json.loads(to_json(worst_case(built(budget=Budget(200)))))
    assert told["tokens"]["value"] == 200
    assert told["steps"]["witness"][0] == ["first", "left", "again"]
    assert told["reaches"][0]["bound"] == "budget"


def test_the_research_agent_has_a_worst_case() -> None:
    worst = research.worst_case()
    assert (worst.steps.value, worst.tokens.value, worst.wall.value) == (21, 200_000, 7 * 86_400)
    assert unbounded(worst).keys() == {"calls", "money"}


def test_an_open_machine_has_none() -> None:
    with pytest.raises(ConfigError, match="not closed"):
        Machine("open", data=Note).worst_case()
