"""Machines nobody thought of, killed where nobody expected it: the journal is the one of the run that lived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statecraft import Data, Event, Failure, Machine, Run, tool
from statecraft.machine.state import Row as TableRow
from statecraft.machine.state import State
from tests.engine.dying import DEPTH, Databases, Row, World, in_file, lives
from tests.servers import OnServer


class Sum(Data):
    total: int = 0


class Added(Event):
    total: int


class Left(Event):
    total: int


@tool(effect="read")
async def twist(n: int) -> int:
    """Another number."""
    return (n * 31 + 7) % 101


@dataclass(frozen=True)
class Way:
    """A guarded row: to state `target` (any number, cut to the machine's size) if total % divisor == rest."""

    divisor: int
    rest: int
    target: int


@dataclass(frozen=True)
class Station:
    """A state: how many calls it makes one after another and side by side, how often it may be visited, its ways out."""

    row: int
    side: int
    visits: int
    ways: tuple[Way, ...]


Plan: TypeAlias = tuple[Station, ...]


def station(plan: Plan, number: int, machine: Machine[Sum]) -> State[Sum, Added | Left]:
    place = plan[number]

    async def handler(run: Run[Sum]) -> Added | Left:
        total = run.data.total + number
        for _ in range(place.row):
            total += await run.tool(twist, number)  # Equal requests: only their order tells them apart.
        total += sum(await run.map(lambda n: run.tool(twist, n), range(total % 50, total % 50 + place.side), concurrency=2))
        return Left(total=total) if total % 5 == 4 else Added(total=total)

    handler.__name__ = f"state_{number}"
    return machine.state(start=number == 0, max_visits=place.visits, tools=[twist])(handler)


def build(plan: Plan) -> Machine[Sum]:
    machine = Machine("random", data=Sum, max_steps=30)
    states = [station(plan, number, machine) for number in range(len(plan))]
    done, failed = machine.final("done", ok=True), machine.final("failed")
    rows: list[TableRow[Sum]] = []
    for number, (state, place) in enumerate(zip(states, plan, strict=True)):
        for index, way in enumerate(place.ways):

            def fits(added: Added, _data: Sum, way: Way = way) -> bool:
                return added.total % way.divisor == way.rest

            fits.__name__ = f"fits_{number}_{index}"
            rows.append(state.on(Added.when(fits)) >> states[way.target % len(states)])
        rows.append(state.on(Added) >> (states[number + 1] if number + 1 < len(states) else done))
        rows.append(state.on(Left) >> done)
    machine.transitions(*rows, machine.anywhere.on(Failure) >> failed)
    return machine


def ways() -> st.SearchStrategy[Way]:
    return st.builds(Way, st.integers(2, 4), st.integers(0, 2), st.integers(0, 4))


def stations() -> st.SearchStrategy[Station]:
    return st.builds(Station, st.integers(0, 2), st.integers(0, 3), st.integers(1, 3), st.lists(ways(), max_size=2).map(tuple))


PLANS = st.lists(stations(), min_size=2, max_size=5).map(tuple)
POINTS = st.lists(st.integers(0, 40), min_size=1, max_size=4)


def story(
    folder: pytest.TempPathFactory, plan: Plan, start: int, points: list[int], databases: Databases = in_file
) -> tuple[list[Row], list[Row]]:
    """(journal, calls) of a run of the plan's machine that dies at the points."""
    world = World(folder.mktemp("world"), build(plan), Sum(total=start), databases=databases)
    lives(world, points, world.sound)
    assert world.noises == []
    return world.journal(), world.calls()


def check(folder: pytest.TempPathFactory, plan: Plan, start: int, points: list[int]) -> None:
    assert story(folder, plan, start, points) == story(folder, plan, start, [])


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLANS, start=st.integers(0, 60), points=POINTS)
def test_the_journal_of_a_random_machine_does_not_depend_on_its_crashes(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan, start: int, points: list[int]
) -> None:
    check(tmp_path_factory, plan, start, points)


@pytest.mark.slow
@settings(max_examples=40 * DEPTH, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLANS, start=st.integers(0, 60), points=POINTS)
def test_the_journal_of_many_random_machines_does_not_depend_on_their_crashes(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan, start: int, points: list[int]
) -> None:
    check(tmp_path_factory, plan, start, points)


@pytest.mark.slow
def test_the_journal_of_a_random_machine_does_not_depend_on_the_database_either(
    tmp_path_factory: pytest.TempPathFactory, on_server: OnServer
) -> None:
    @settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(plan=PLANS, start=st.integers(0, 60), points=POINTS)
    def check_there(plan: Plan, start: int, points: list[int]) -> None:
        assert story(tmp_path_factory, plan, start, points, on_server) == story(tmp_path_factory, plan, start, [])

    check_there()
