"""Graders of what a run knows at its end: its data, compared with what the case expects. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as filled
from enum import Enum
from typing import Any, Final, Protocol

from pydantic import TypeAdapter, ValidationError

from statecraft.errors import ConfigError
from statecraft.evals.trial import Trial
from statecraft.records import Json

_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Grade:
    """What one grader says of one trial."""

    grader: str
    passed: bool
    detail: str = ""
    """Why, in one line: what was found, and what was expected."""
    score: float | None = None
    """From 0 to 1, where there is more to say than yes or no."""


class Grader(Protocol):
    """Says whether a trial is as it should be. Any frozen value with these three may be one."""

    @property
    def name(self) -> str:
        """Unique in its suite."""
        ...

    @property
    def expects(self) -> tuple[str, ...]:
        """The keys of a case's `expect` that it reads. A key that no grader of a suite reads is refused."""
        ...

    def grade(self, trial: Trial) -> Grade | None:
        """Pure: the same trial gets the same grade. None if the case expects nothing of this grader."""
        ...


class _FromCase(Enum):
    FROM_CASE = "from the case"


FROM_CASE: Final = _FromCase.FROM_CASE
"""Stands for what the case expects under the grader's key."""


def expected(trial: Trial, key: str, given: Any) -> Any:
    """What is expected: what the grader was given, else what the case says; `FROM_CASE` if neither."""
    return trial.case.expect.get(key, FROM_CASE) if given is FROM_CASE else given


def named(grader: Any, otherwise: str) -> None:
    """Give a frozen grader a name if it has none."""
    if not grader.name:
        object.__setattr__(grader, "name", otherwise)


def brief(value: Any) -> str:
    """A value as a short line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    flat = " ".join(text.split())
    return repr(flat) if len(flat) <= _SHOWN else f"{flat[:_SHOWN]!r}..."


@dataclass(frozen=True, slots=True)
class Exact:
    """A field of the data equals what is expected: by default what the case expects under the field's name."""

    field: str
    """A dotted path: `answer`, `citations.0.document`."""
    expected: Any = FROM_CASE
    """As JSON."""
    key: str = ""
    """The key of `expect` that it reads, if that is not the field."""
    name: str = ""

    def __post_init__(self) -> None:
        named(self, f"exact {self.field}")

    @property
    def expects(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key or self.field,) if self.expected is FROM_CASE else ()

    def grade(self, trial: Trial) -> Grade | None:
        """Passed if they are equal as JSON."""
        wanted = expected(trial, self.key or self.field, self.expected)
        if wanted is FROM_CASE:
            return None
        return of_value(self.name, trial, self.field, lambda found: "" if found == wanted else f"expected {brief(wanted)}")


@dataclass(frozen=True, slots=True)
class Contains:
    """A text of the data contains every text that is expected; upper and lower case and white space do not matter.

    A list field contains a text if one of its items does. Where a list stands in place of a text, one of its texts is enough.
    """

    field: str
    texts: Any = FROM_CASE
    """A text, or a list of texts and of lists of which one is enough."""
    key: str = "contains"
    """The key of `expect` that it reads."""
    name: str = ""

    def __post_init__(self) -> None:
        named(self, f"contains {self.field}")

    @property
    def expects(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,) if self.texts is FROM_CASE else ()

    def grade(self, trial: Trial) -> Grade | None:
        """Passed if none is missing; the score is the share of those found."""
        wanted = expected(trial, self.key, self.texts)
        if wanted is FROM_CASE:
            return None
        every = [wanted] if isinstance(wanted, str) else list(wanted)
        try:
            held = folded(trial.value(self.field))
        except LookupError as error:
            return Grade(self.name, False, str(error))
        choices = [[each] if isinstance(each, str) else list(each) for each in every]
        missing = [choice for choice in choices if not any(folded(text) in held for text in choice)]
        lacks = " and ".join(" or ".join(map(repr, choice)) for choice in missing)
        score = 1 - len(missing) / len(every) if every else 1.0
        return Grade(self.name, not missing, f"{self.field} lacks {lacks}" if missing else "", score)


def folded(value: Json) -> str:
    """A text, or a JSON value as one, as it is compared: lower case, white space squeezed."""
    text = value if isinstance(value, str) else "\n".join(map(_text, value)) if isinstance(value, list) else _text(value)
    return " ".join(text.casefold().split())


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Matches:
    """A regular expression is found in a text of the data."""

    field: str
    pattern: Any = FROM_CASE
    """As `re` reads it."""
    key: str = "matches"
    name: str = ""

    def __post_init__(self) -> None:
        named(self, f"matches {self.field}")

    @property
    def expects(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,) if self.pattern is FROM_CASE else ()

    def grade(self, trial: Trial) -> Grade | None:
        """Passed if it is found."""
        pattern = expected(trial, self.key, self.pattern)
        if pattern is FROM_CASE:
            return None
        try:
            found = re.compile(pattern)
        except (re.error, TypeError) as error:
            return Grade(self.name, False, f"{pattern!r} is no regular expression: {error}")
        return of_value(self.name, trial, self.field, lambda value: "" if found.search(_text(value)) else f"no {pattern!r} in it")


@dataclass(frozen=True, slots=True)
class Fits:
    """A field of the data fits a type: a pydantic model, or any type that pydantic knows."""

    field: str
    type: Any
    name: str = ""
    expects: tuple[str, ...] = filled(default=(), init=False)

    def __post_init__(self) -> None:
        named(self, f"fits {self.field}")

    def grade(self, trial: Trial) -> Grade:
        """Passed if it validates, as JSON."""

        def check(value: Json) -> str:
            try:
                TypeAdapter(self.type).validate_json(json.dumps(value))
            except ValidationError as error:
                told = error.errors(include_url=False, include_input=False)
                return "; ".join(f"{'.'.join(map(str, item['loc'])) or self.field}: {item['msg']}" for item in told[:3])
            return ""

        return of_value(self.name, trial, self.field, check)


@dataclass(frozen=True, slots=True)
class Holds:
    """A function says whether the trial is right: True or False, or a `Grade` with its reasons. It must be pure."""

    says: Callable[[Trial], bool | Grade]
    expects: tuple[str, ...] = ()
    """The keys of `expect` that it reads. A case that has none of them is not asked about, if any are named."""
    name: str = ""

    def __post_init__(self) -> None:
        named(self, getattr(self.says, "__name__", "holds").strip("<>"))

    def grade(self, trial: Trial) -> Grade | None:
        """Passed if the function says so."""
        if self.expects and not set(self.expects) & set(trial.case.expect):
            return None
        said = self.says(trial)
        return said if isinstance(said, Grade) else Grade(self.name, said, "" if said else "it does not hold")


def of_value(name: str, trial: Trial, path: str, check: Callable[[Json], str]) -> Grade:
    """A grade of one value: `check` says what is wrong with it."""
    try:
        found = trial.value(path)
    except LookupError as error:
        return Grade(name, False, str(error))
    wrong = check(found)
    return Grade(name, not wrong, f"{path} is {brief(found)}: {wrong}" if wrong else "")


def graded(grader: Grader, trial: Trial) -> Grade | None:
    """What a grader says of a trial; one that raises fails this trial, with what it raised."""
    try:
        return grader.grade(trial)
    except Exception as error:  # noqa: BLE001  # an author's function, or an expectation of another shape
        return Grade(grader.name, False, f"the grader raised {type(error).__name__}: {' '.join(str(error).split())}")


def check_graders(graders: tuple[Grader, ...]) -> Mapping[str, Grader]:
    """The graders by name. Raises `ConfigError` if there are none or two share a name."""
    if not graders:
        raise ConfigError("a suite has at least one grader")
    found: dict[str, Grader] = {}
    for grader in graders:
        if not callable(getattr(grader, "grade", None)):
            raise ConfigError(f"a grader has a name, expects and grade(); {grader!r} does not")
        if grader.name in found:
            raise ConfigError(f"two graders are called {grader.name!r}; give one of them name=...")
        found[grader.name] = grader
    return found
