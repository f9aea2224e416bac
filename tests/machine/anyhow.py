"""Random small machines, and every run of one: what the search of the worst case is held against."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce
from math import inf
from operator import or_
from typing import Any

from statecraft import (
    Ask,
    Budget,
    BudgetExhausted,
    BudgetWarning,
    Data,
    DeadlinePassed,
    Event,
    Failure,
    LoopDetected,
    Machine,
    Run,
    StepsExhausted,
    VisitsExhausted,
    seconds,
)
from statecraft.errors import DefinitionError
from statecraft.machine.caps import SPENT, Metric
from statecraft.machine.definition import Definition, StateSpec


class Note(Data):
    text: str = ""


class Left(Event):
    pick: bool = True


class Right(Event):
    pick: bool = True


class On(Event):
    pick: bool = True


def picked(event: Event, data: Note) -> bool:
    return isinstance(event, EVENTS) and event.pick


EVENTS = (Left, Right, On)
SYSTEM = (BudgetWarning, BudgetExhausted, DeadlinePassed, StepsExhausted, LoopDetected)


@dataclass
class Chance:
    """Throws the dice for a machine's declaration."""

    dice: random.Random
    most_states: int = 4
    capped: bool = True
    """Whether visits are bounded in every metric; else only sometimes."""
    act: Callable[[Run[Note]], Awaitable[Event]] | None = None
    """What a visit does."""
    has: Mapping[str, Any] = field(default_factory=dict)
    """What else each state declares: tools, children."""
    tokens: int = 1
    """Limits of tokens are multiples of it."""

    def budget(self, odds: float) -> Budget | None:
        if self.dice.random() >= odds:
            return None
        named = self.dice.sample(["tokens", "calls", "money"], self.dice.randint(1, 3))
        limits = {each: self.dice.randint(1, 9) for each in named}
        return Budget(**{each: limit * (self.tokens if each == "tokens" else 1) for each, limit in limits.items()})  # type: ignore[arg-type]

    def per_visit(self) -> Any:
        if not self.capped and self.dice.random() < 0.3:
            return self.budget(0.5)
        if self.dice.random() < 0.1:
            return 0
        tokens, calls, money = (self.dice.randint(1, 5) for _ in range(3))
        return Budget(tokens * self.tokens, calls=calls, money=money)

    def time(self, odds: float, most: int) -> timedelta | None:
        return seconds(self.dice.randint(1, most)) if self.dice.random() < odds else None

    def whole(self) -> Budget | None:
        budget = self.budget(0.2)
        if self.dice.random() < 0.2:
            return Budget(1000, wall=seconds(self.dice.randint(1, 12)))
        return budget

    def machine(self) -> Machine[Note]:
        """A machine that passed every check; tries until there is one."""
        while True:
            try:
                return self._machine()
            except DefinitionError:
                continue

    def _machine(self) -> Machine[Note]:
        dice = self.dice
        machine: Machine[Note] = Machine(
            "any",
            data=Note,
            max_steps=dice.choice([2, 3, 4, 5, 6, 100]),
            deadline=self.time(0.3, 12),
            budget=self.whole(),
        )
        count = dice.randint(2, self.most_states)
        sources = [
            self._review(machine, number) if number and dice.random() < 0.15 else self._work(machine, number)
            for number in range(count)
        ]
        done, failed = machine.final("done", ok=True), machine.final("failed")
        targets = [*sources, *sources, done, failed]
        rows = [row for source in sources for row in self._rows(machine, source, targets)]
        rows += [machine.anywhere.on(event) >> dice.choice(targets) for event in SYSTEM if dice.random() < 0.15]
        machine.transitions(*rows, machine.anywhere.on(Failure) >> dice.choice([failed, failed, failed, *targets]))
        return machine

    def _rows(self, machine: Machine[Note], source: Any, targets: list[Any]) -> Iterator[Any]:
        dice = self.dice
        for event in next(state.events for state in machine._states if state.name == source.name):
            if dice.random() < 0.3:
                yield source.on(event.when(picked)) >> dice.choice(targets)
            yield source.on(event) >> dice.choice(targets)
        for special in (*SYSTEM, VisitsExhausted):
            if dice.random() < (0.6 if special is VisitsExhausted else 0.12):
                yield source.on(special) >> dice.choice(targets)

    def _work(self, machine: Machine[Note], number: int) -> Any:
        dice = self.dice
        events = dice.sample(EVENTS, dice.randint(1, 2))

        async def handler(run: Run[Note]) -> Any:
            assert self.act is not None
            return await self.act(run)

        handler.__name__ = f"s{number}"
        handler.__annotations__["return"] = reduce(or_, events)
        bound = dice.randint(1, 2) if dice.random() < 0.6 else None
        kept = {"max_visits": bound, "budget": self.budget(0.3), "per_visit": self.per_visit(), **self.has}
        return machine.state(start=number == 0, timeout=self.time(1 if self.capped else 0.7, 5), **kept)(handler)

    def _review(self, machine: Machine[Note], number: int) -> Any:
        def asking(run: Run[Note]) -> Any:
            return Ask("Which way?")

        asking.__name__ = f"s{number}"
        asking.__annotations__["return"] = Ask[reduce(or_, self.dice.sample(EVENTS, 2))]  # type: ignore[misc]
        return machine.review(timeout=seconds(self.dice.randint(1, 5)))(asking)


# --- every run -------------------------------------------------------------------------------------------------------


ONCE = {"deadline_passed", "steps_exhausted", "budget_exhausted", "budget_warning", "loop_detected"}
TOO_MANY = 20_000


class TooManyRuns(Exception):
    """This machine is too large to walk along every run of it."""


@dataclass
class Every:
    """Walks along every run of a machine, as the engine would let it, and keeps the most that any of them uses."""

    definition: Definition
    most: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("steps", "calls", "tokens", "money", "wall"), 0.0))
    been: set[Any] = field(default_factory=set)
    """What is reached by several ways, with the same past in every respect, is walked on from once."""

    def walk(self) -> dict[str, float]:
        start = self.definition.start
        self._visit(start, {start: 1}, frozenset(), 0, {}, 0.0)
        budget = self.definition.budget
        for metric in SPENT:
            self.most[metric] = min(self.most[metric], inf if budget is None else budget.limits.get(metric, inf))
        return self.most

    def _visit(
        self, name: str, visits: dict[str, int], seen: frozenset[str], seq: int, handled: dict[str, int], time: float
    ) -> None:
        here = (name, seq, seen, time, tuple(sorted(visits.items())), tuple(sorted(handled.items())))
        if here in self.been:
            return
        if len(self.been) > TOO_MANY:
            raise TooManyRuns
        self.been.add(here)
        definition, state = self.definition, self.definition.states[name]
        self._note("steps", seq)
        self._note("wall", time)
        if state.kind == "final" or seq >= definition.max_steps + len(definition.states):
            return
        stopped = seq >= definition.max_steps and "steps_exhausted" not in seen
        spent = state.max_visits is not None and visits[name] > state.max_visits
        ends = self._ends(seen, time)
        if not stopped and not spent:
            handled = {**handled, name: handled.get(name, 0) + 1}
            time = min(ends, time + (inf if state.timeout is None else state.timeout.total_seconds()))
            self._note("wall", time)
            for metric in SPENT:
                self._note(metric, sum(used(definition.states[each], metric, times) for each, times in handled.items()))
        for event, target in self._ways(state, seen, time, stopped=stopped, spent=spent):
            entered = {**visits, target: visits.get(target, 0) + 1}
            self._visit(target, entered, seen | ({event} & ONCE), seq + 1, handled, time)

    def _ends(self, seen: frozenset[str], entered: float) -> float:
        deadline, budget = self.definition.deadline, self.definition.budget
        ends = inf if deadline is None or "deadline_passed" in seen else deadline.total_seconds()
        if budget is not None and budget.wall is not None:
            wall = budget.wall.total_seconds()
            ends = min(ends, wall if "budget_exhausted" not in seen or entered < wall else inf)
        return ends

    def _ways(
        self, state: StateSpec, seen: frozenset[str], time: float, *, stopped: bool, spent: bool
    ) -> Iterator[tuple[str, str]]:
        mode = "stopped" if stopped else "spent" if spent else "visited"
        for source, event, target in self.definition.edges:
            if source == state.name and self._comes(event, state, seen, time, mode):
                yield event, target

    def _comes(self, event: str, state: StateSpec, seen: frozenset[str], time: float, mode: str) -> bool:
        deadline = self.definition.deadline
        match event:
            case "deadline_passed":
                # For what is spent any instant will do: a run may wait for a worker. For time it must have come.
                come = deadline is not None and (self.anytime or time >= deadline.total_seconds())
                return come and event not in seen
            case "steps_exhausted":
                return mode == "stopped"
            case "visits_exhausted":
                return mode == "spent"
            case "loop_detected":
                return mode == "visited" or (mode == "spent" and event not in seen)
            case "budget_warning":
                warned = self.definition.budget is not None or state.budget is not None
                return mode == "visited" and warned and event not in seen
            case "review_expired" | "state_timeout":
                return mode == "visited" and state.timeout is not None and (event == "review_expired") == (state.kind == "review")
        return mode == "visited"

    anytime: bool = True
    """Whether the deadline may pass although the visits so far take less time."""

    def _note(self, metric: str, amount: float) -> None:
        self.most[metric] = max(self.most[metric], amount)


def used(state: StateSpec, metric: Metric, times: int) -> float:
    """The most that so many visits of a state may use."""
    if state.kind == "review":
        return 0
    limits = {} if state.per_visit is None else state.per_visit.limits
    each = 0 if limits.get("calls") == 0 else limits.get(metric, inf)
    return min(times * each, inf if state.budget is None else state.budget.limits.get(metric, inf))


def every_run(definition: Definition) -> dict[str, float]:
    """The most that any run uses, by metric, with money in billionths of a dollar and time in seconds."""
    found = Every(definition).walk()
    found["wall"] = Every(definition, anytime=False).walk()["wall"]
    return found
