"""Graders of how a run went: where it ended, the way it took, what it spent, the tools it called. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from statecraft.errors import ConfigError
from statecraft.evals.grade import FROM_CASE, Grade, brief, expected, named
from statecraft.evals.trial import Trial
from statecraft.money import Dollars, billionths, decimal, shown
from statecraft.records import Json

Order = Literal["in order", "exactly", "any"]
"""`in order`: one after the other, others may come between; `exactly`: these and no others; `any`: somewhere."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The run ended in a state, or waits for a person in it."""

    state: Any = FROM_CASE
    """A state, or a list of states of which one is right."""
    key: str = "state"
    name: str = "ends"

    @property
    def expects(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,) if self.state is FROM_CASE else ()

    def grade(self, trial: Trial) -> Grade | None:
        """Passed if the run stands there."""
        wanted = expected(trial, self.key, self.state)
        if wanted is FROM_CASE:
            return None
        states = [wanted] if isinstance(wanted, str) else list(wanted)
        right = trial.run.state in states and not trial.trouble
        return Grade(self.name, right, "" if right else f"it is {trial.run.status} in {trial.run.state}, not in {_or(states)}")


@dataclass(frozen=True, slots=True)
class Visited:
    """The way of the run: states by name (`gathering`), rows as `gathering.NoSources`, with the event's class or name."""

    path: Any = FROM_CASE
    """A list of states and rows."""
    order: Order = "in order"
    never: tuple[str, ...] = ()
    """States and rows that are not on the way."""
    key: str = "path"
    name: str = "visited"

    def __post_init__(self) -> None:
        if self.order not in ("in order", "exactly", "any"):
            raise ConfigError(f"Visited(order=...) is 'in order', 'exactly' or 'any', not {self.order!r}")

    @property
    def expects(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,) if self.path is FROM_CASE else ()

    def grade(self, trial: Trial) -> Grade | None:
        """Passed if the way is as expected."""
        wanted = expected(trial, self.key, self.path)
        if wanted is FROM_CASE and not self.never:
            return None
        steps = _steps(trial)
        unwanted = [each for each in self.never if any(each in step for step in steps)]
        problem = f"it went through {', '.join(unwanted)}" if unwanted else ""
        if wanted is not FROM_CASE:
            problem = problem or _off(steps, [wanted] if isinstance(wanted, str) else list(wanted), self.order)
        return Grade(self.name, not problem, f"{problem}; the way was {' > '.join(trial.states)}" if problem else "")


def _steps(trial: Trial) -> list[frozenset[str]]:
    """Everything that each point of the way may be called, states and the rows between them in turn."""
    steps = [frozenset({trial.states[0]})]
    for source, event, target in trial.rows:
        camel = "".join(part.capitalize() for part in event.split("_"))
        steps += [frozenset({f"{source}.{event}", f"{source}.{camel}"}), frozenset({target})]
    return steps


def _off(steps: Sequence[frozenset[str]], wanted: Sequence[str], order: Order) -> str:
    if order == "any":
        missing = [each for each in wanted if not any(each in step for step in steps)]
        return f"it never came to {', '.join(missing)}" if missing else ""
    if order == "exactly":
        rows = any("." in each for each in wanted)
        states = any("." not in each for each in wanted)
        way = [step for place, step in enumerate(steps) if (rows if place % 2 else states)]
        same = len(way) == len(wanted) and all(each in step for each, step in zip(wanted, way, strict=True))
        return "" if same else f"expected exactly {' > '.join(wanted)}"
    place = 0
    for each in wanted:
        place = next((number + 1 for number in range(place, len(steps)) if each in steps[number]), -1)
        if place < 0:
            return f"expected {' > '.join(wanted)}, and {each} does not come in its turn"
    return ""


@dataclass(frozen=True, slots=True)
class Within:
    """The run spent no more than this, its child runs included. The case may expect less, under `within`:
    `{"tokens": 900, "steps": 6}`."""

    tokens: int | None = None
    money: Dollars | None = None
    """Dollars. A model without a known price fails the trial: nobody knows what it cost."""
    calls: int | None = None
    """Calls of models and tools."""
    steps: int | None = None
    key: str = "within"
    name: str = "within"

    def __post_init__(self) -> None:
        if self.money is not None:
            decimal(self.money, "Within(money=...)")

    @property
    def expects(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,)

    def grade(self, trial: Trial) -> Grade | None:
        """Passed if nothing is above its limit. A limit of the case goes before the grader's own."""
        own = {"tokens": self.tokens, "money": self.money, "calls": self.calls, "steps": self.steps}
        said = dict(trial.case.expect.get(self.key, {}))
        if unknown := sorted(set(said) - set(own)):
            return Grade(self.name, False, f"the case limits {unknown[0]!r}; there are {', '.join(own)}")
        limits: dict[str, Any] = {unit: limit for unit, limit in {**own, **said}.items() if limit is not None}
        if not limits:
            return None
        spent = {"tokens": trial.usage.total, "calls": trial.asked, "steps": trial.run.seq}
        above = [unit for unit in spent if unit in limits and spent[unit] > limits[unit]]
        problems = [f"{spent[unit]:,} {unit}, more than {limits[unit]:,}" for unit in above]
        if "money" in limits:
            problems += _overspent(trial.cost, billionths(decimal(limits["money"], "within.money")))
        return Grade(self.name, not problems, "; ".join(problems))


def _overspent(cost: int | None, limit: int) -> list[str]:
    if cost is None:
        return ["the price of a model is not known (Settings(prices=...)), so nobody knows what it cost"]
    return [f"{shown(cost)}, more than {shown(limit)}"] if cost > limit else []


@dataclass(frozen=True, slots=True)
class Called:
    """A tool was called, so often and with such arguments. Calls that failed do not count."""

    tool: str
    arguments: Mapping[str, Json] | None = None
    """Only calls with these arguments count; they may have others besides."""
    at_least: int = 1
    at_most: int | None = None
    """0: never."""
    name: str = ""
    expects: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        if self.at_most is not None and self.at_most < self.at_least:
            object.__setattr__(self, "at_least", self.at_most)
        named(self, f"called {self.tool}")

    def grade(self, trial: Trial) -> Grade:
        """Passed if the number of such calls is within bounds."""
        wanted = dict(self.arguments or {})
        made = sum(
            name == self.tool and all(key in given and given[key] == value for key, value in wanted.items())
            for name, given in trial.tools
        )
        what = f"{self.tool}({brief(wanted)})" if wanted else self.tool
        if made < self.at_least:
            return Grade(self.name, False, f"{what} was called {made} times, not {self.at_least} or more")
        if self.at_most is not None and made > self.at_most:
            return Grade(self.name, False, f"{what} was called {made} times, not {self.at_most} or fewer")
        return Grade(self.name, True)


@dataclass(frozen=True, slots=True)
class CalledInOrder:
    """Tools were called one after the other; others may come between."""

    tools: Any = FROM_CASE
    """A list of names."""
    key: str = "tools"
    name: str = "called in order"

    @property
    def expects(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,) if self.tools is FROM_CASE else ()

    def grade(self, trial: Trial) -> Grade | None:
        """Passed if they come in this order."""
        wanted = expected(trial, self.key, self.tools)
        if wanted is FROM_CASE:
            return None
        made = [name for name, _ in trial.tools]
        rest = iter(made)
        right = all(any(name == each for name in rest) for each in wanted)
        return Grade(self.name, right, "" if right else f"called {', '.join(made) or 'nothing'}, not {', then '.join(wanted)}")


def _or(states: Sequence[str]) -> str:
    return " or ".join(states)
